"""Class folders, split folders, and what is tested on."""

import pytest
import torch

from cutmix.data.loading import load
from small_pictures import COLOURS, class_folders, colours_of, notes_of, number_each, picture, rows


def test_a_folder_of_class_folders_is_read_with_its_classes_sorted(tmp_path):
    splits = load(str(class_folders(tmp_path, classes=("red", "green", "blue"))))

    assert splits.train.classes == ("blue", "green", "red")
    assert colours_of(splits.train) == colours_of(splits.test) == COLOURS
    assert splits.train.pixels.dtype == torch.uint8
    assert splits.train.labels.dtype == torch.int64
    assert splits.train.size == (8, 8)


def test_a_fifth_of_each_class_is_held_back_and_a_note_says_so(tmp_path):
    splits = load(str(class_folders(tmp_path)))

    assert torch.bincount(splits.train.labels).tolist() == [8, 8, 8]
    assert torch.bincount(splits.test.labels).tolist() == [2, 2, 2]
    assert "a fifth of each class is held back" in notes_of(splits)


def test_the_seed_decides_what_is_held_back(tmp_path):
    number_each(class_folders(tmp_path))

    def held_back(seed):
        return set(load(str(tmp_path), seed=seed).test.pixels[:, 0, 0, 0].tolist())

    assert held_back(0) == held_back(0)
    assert held_back(0) != held_back(1)


def test_what_is_held_back_is_not_trained_on(tmp_path):
    number_each(class_folders(tmp_path))

    splits = load(str(tmp_path))

    train, test = (set(images.pixels[:, 0, 0, 0].tolist()) for images in (splits.train, splits.test))
    assert sorted(train | test) == list(range(30))
    assert not train & test


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test", "Test"])
def test_split_folders_are_used_where_they_are_there(tmp_path, name):
    class_folders(tmp_path / "train", 4)
    class_folders(tmp_path / name, 3)

    splits = load(str(tmp_path))

    assert (len(splits.train), len(splits.test)) == (12, 9)
    assert f"Tested on {tmp_path / name}" in notes_of(splits)


def test_a_validation_split_is_used_before_a_test_split_whose_labels_may_be_hidden(tmp_path):
    class_folders(tmp_path / "train", 4)
    class_folders(tmp_path / "val", 3)
    (tmp_path / "test").mkdir()
    picture("red").save(tmp_path / "test" / "unknown.png")

    assert len(load(str(tmp_path)).test) == 9


@pytest.mark.parametrize(
    "folders",
    [("train", "cat", "dog"), ("train", "val", "cat"), ("test", "cat"), ("train",), ("val", "test"), ("Valid", "cat")],
)
def test_class_folders_named_as_splits_are_refused(tmp_path, folders):
    for folder in folders:
        class_folders(tmp_path / folder)

    with pytest.raises(ValueError, match=r"either class folders or the split folders .* got .*rename"):
        load(str(tmp_path))


def test_what_is_no_picture_is_left_alone_and_folders_within_a_class_are_searched(tmp_path):
    class_folders(tmp_path)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "red" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "red" / "._01.png").write_bytes(b"x")
    (tmp_path / "red" / "more").mkdir()
    picture("red").save(tmp_path / "red" / "more" / "1.JPG", format="JPEG")

    splits = load(str(tmp_path))

    assert len(splits.train) + len(splits.test) == 31
    assert splits.train.classes == tuple(COLOURS)


def test_a_caption_is_the_class(tmp_path):
    splits = load(str(class_folders(tmp_path)))

    assert splits.test.names == ("blue", "blue", "green", "green", "red", "red")


def test_a_path_that_is_not_there_is_refused_with_what_data_may_be():
    with pytest.raises(
        ValueError, match=r"class folders, parquet files, hf:owner/name or the built-in openmoji.*openmojy"
    ):
        load("openmojy")


def test_a_folder_without_classes_is_refused_with_what_was_expected_and_found(tmp_path):
    picture("red").save(tmp_path / "a.png")

    with pytest.raises(ValueError, match=r"one folder of pictures for each class \(.*1\.png\), got a\.png"):
        load(str(tmp_path))


def test_a_folder_with_nothing_in_it_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got an empty folder"):
        load(str(tmp_path))


def test_one_class_only_is_refused(tmp_path):
    with pytest.raises(ValueError, match="two classes or more, got red"):
        load(str(class_folders(tmp_path, classes=("red",))))


def test_an_empty_class_is_refused_by_name(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "yellow").mkdir()

    with pytest.raises(ValueError, match="got none of yellow"):
        load(str(tmp_path))


def test_a_class_of_one_picture_cannot_be_divided(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "yellow").mkdir()
    picture("red").save(tmp_path / "yellow" / "1.png")

    with pytest.raises(ValueError, match=r"two pictures or more of each class.*got one of yellow.*--eval-data"):
        load(str(tmp_path))


def test_eval_data_is_tested_on_and_nothing_is_held_back(tmp_path):
    class_folders(tmp_path / "a")
    class_folders(tmp_path / "b", 2)

    splits = load(str(tmp_path / "a"), str(tmp_path / "b"))

    assert (len(splits.train), len(splits.test)) == (30, 6)


def test_eval_data_goes_before_a_split_that_is_there(tmp_path):
    class_folders(tmp_path / "a" / "train")
    class_folders(tmp_path / "a" / "val", 3)
    class_folders(tmp_path / "b", 2)

    assert len(load(str(tmp_path / "a"), str(tmp_path / "b")).test) == 6


def test_class_sets_that_differ_are_refused_by_name(tmp_path):
    class_folders(tmp_path / "a", classes=("blue", "green"))
    class_folders(tmp_path / "b", classes=("blue", "red"))

    with pytest.raises(ValueError, match=r"same classes: only .*a has green; only .*b has red; rename"):
        load(str(tmp_path / "a"), str(tmp_path / "b"))


def test_classes_in_another_order_get_the_training_data_s_numbers(parquet):
    other = ("red", "blue", "green")

    splits = load(parquet("a.parquet", rows()), parquet("b.parquet", rows(2, other), other))

    assert splits.test.classes == splits.train.classes == tuple(COLOURS)
    assert colours_of(splits.test) == COLOURS


def test_a_single_class_to_test_on_is_refused_by_what_differs(tmp_path):
    class_folders(tmp_path / "a", classes=("blue", "green"))
    class_folders(tmp_path / "b", classes=("blue",))

    with pytest.raises(ValueError, match=r"same classes: only .*a has green"):
        load(str(tmp_path / "a"), str(tmp_path / "b"))


@pytest.mark.parametrize("other", ["nowhere", "openmoji"])
def test_data_to_test_on_that_is_not_there_is_refused_by_the_argument_s_name(tmp_path, other):
    with pytest.raises(ValueError, match=f"^eval_data must be .*parquet files or hf:owner/name, got '{other}'"):
        load(str(class_folders(tmp_path)), other)
