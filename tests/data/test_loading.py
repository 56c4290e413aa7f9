import io
import re
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image

from cutmix.data import loading
from cutmix.data.loading import load

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared_data = pytest.mark.skipif(not SHARED.exists(), reason="the real images lie beside the project only")

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def picture(colour, size=(8, 8)):
    return Image.new("RGB", size, COLOURS[colour])


def class_folders(folder, count=10, size=(8, 8), classes=tuple(COLOURS)):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture(name, size).save(folder / name / f"{number:02}.png")
    return folder


def rows(count=10, classes=tuple(COLOURS)):
    def content(name):
        file = io.BytesIO()
        picture(name).save(file, format="PNG")
        return {"bytes": file.getvalue(), "path": None}

    names = [name for name in classes for _ in range(count)]
    return {"image": [content(name) for name in names], "label": [classes.index(name) for name in names]}


def as_dataset(listed, classes=tuple(COLOURS), image="image", label="label"):
    features = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=list(classes))})
    return datasets.Dataset.from_dict({image: listed["image"], label: listed["label"]}, features=features)


@pytest.fixture
def parquet(tmp_path):
    def write(name, listed, classes=tuple(COLOURS), **columns):
        as_dataset(listed, classes, **columns).to_parquet(tmp_path / name)
        return str(tmp_path / name)

    silent = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    yield write
    if not silent:
        datasets.enable_progress_bars()


def colours_of(images):
    return {
        images.classes[label]: tuple(image[:, 0, 0].tolist())
        for image, label in zip(images.pixels, images.labels, strict=True)
    }


def notes_of(splits):
    return "\n".join(splits.notes)


# Folders


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


def number_each(folder):
    for value, path in enumerate(sorted(folder.rglob("*.png"))):
        Image.new("RGB", (8, 8), (value, 0, 0)).save(path)


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


# Data to test on


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

    with pytest.raises(ValueError, match=r"same classes: only .*a has green; only .*b has red"):
        load(str(tmp_path / "a"), str(tmp_path / "b"))


def test_classes_in_another_order_get_the_training_data_s_numbers(parquet):
    other = ("red", "blue", "green")

    splits = load(parquet("a.parquet", rows()), parquet("b.parquet", rows(2, other), other))

    assert splits.test.classes == splits.train.classes == tuple(COLOURS)
    assert colours_of(splits.test) == COLOURS


# Parquet


def test_a_parquet_file_is_read_with_the_classes_of_its_schema(parquet):
    order = ("red", "blue", "green")

    splits = load(parquet("data.parquet", rows(10, order), order))

    assert splits.train.classes == order
    assert colours_of(splits.train) == COLOURS
    assert (len(splits.train), len(splits.test)) == (24, 6)


def test_a_pattern_names_several_parquet_files(parquet, tmp_path):
    parquet("part-0.parquet", rows(3))
    parquet("part-1.parquet", rows(4))

    splits = load(str(tmp_path / "part-*.parquet"))

    assert len(splits.train) + len(splits.test) == 21


def test_a_folder_of_parquet_files_is_split_by_their_names(parquet, tmp_path):
    (tmp_path / "data").mkdir()
    parquet("data/train-00000-of-00002.parquet", rows(3))
    parquet("data/train-00001-of-00002.parquet", rows(4))
    parquet("data/test-00000-of-00001.parquet", rows(2))

    splits = load(str(tmp_path))
    assert (len(splits.train), len(splits.test)) == (21, 6)
    assert f"Tested on {tmp_path} (test)." in notes_of(splits)


def test_a_folder_of_parquet_files_without_splits_is_taken_whole(parquet, tmp_path):
    parquet("one.parquet", rows(5))
    parquet("other.parquet", rows(5))

    splits = load(str(tmp_path))
    assert (len(splits.train), len(splits.test)) == (24, 6)


def test_columns_are_found_by_what_they_hold(parquet):
    splits = load(parquet("data.parquet", rows(), image="img", label="fine_label"))

    assert colours_of(splits.train) == COLOURS


def write_plain(path, columns):
    import pyarrow as pa
    from pyarrow import parquet as pq

    pq.write_table(pa.table(columns), path)
    return str(path)


def test_a_file_without_hugging_face_s_schema_is_read_by_the_names_of_its_columns(tmp_path):
    listed = rows()
    words = [list(COLOURS)[label] for label in listed["label"]]

    splits = load(write_plain(tmp_path / "plain.parquet", {"image": listed["image"], "label": words}))

    assert splits.train.classes == tuple(COLOURS)
    assert colours_of(splits.train) == COLOURS


def test_numbers_without_names_are_classes_in_the_order_of_numbers(tmp_path):
    listed = rows()
    numbers = [(2, 10, 11)[label] for label in listed["label"]]

    splits = load(write_plain(tmp_path / "plain.parquet", {"image": listed["image"], "label": numbers}))

    assert splits.train.classes == ("2", "10", "11")


def test_a_file_without_an_image_column_is_refused_with_the_columns_it_has(tmp_path):
    with pytest.raises(ValueError, match=r"must have an image column .* got the columns text: string, label: int64"):
        load(write_plain(tmp_path / "no.parquet", {"text": ["a", "b"], "label": [0, 1]}))


def test_a_file_without_a_label_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must have a column of classes \(ClassLabel\) or one called label"):
        load(write_plain(tmp_path / "no.parquet", {"image": rows()["image"]}))


@pytest.mark.parametrize("missing", [None, -1])
def test_pictures_without_a_label_are_refused_and_counted(parquet, missing):
    listed = rows()
    listed["label"][3] = listed["label"][7] = missing

    with pytest.raises(ValueError, match="a label for each picture, got 2 of 30 without one"):
        load(parquet("data.parquet", listed))


@pytest.mark.parametrize("content", [b"", b"PAR1 and then something else"])
def test_a_damaged_parquet_file_is_refused(tmp_path, content):
    (tmp_path / "bad.parquet").write_bytes(content)

    with pytest.raises(ValueError, match="cannot be read as parquet") as caught:
        load(str(tmp_path / "bad.parquet"))
    assert len(str(caught.value).splitlines()) == 1


def test_parquet_files_of_different_columns_are_refused(parquet, tmp_path):
    parquet("part-0.parquet", rows(3))
    parquet("part-1.parquet", rows(3), image="img")

    with pytest.raises(ValueError, match="cannot be read as parquet"):
        load(str(tmp_path / "part-*.parquet"))


def test_a_file_that_is_no_parquet_file_is_refused(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"x")

    with pytest.raises(ValueError, match="no parquet file"):
        load(str(tmp_path / "data.zip"))


def test_nothing_is_written_into_the_cache_of_datasets_and_nothing_is_printed(parquet, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = parquet("data.parquet", rows())
    datasets.enable_progress_bars()
    capfd.readouterr()

    load(data)
    load(str(class_folders(tmp_path / "folder")))

    assert not (tmp_path / "cache").exists()
    assert capfd.readouterr() == ("", "")


# The hub


@pytest.fixture
def hub(monkeypatch):
    def offers(**parts):
        asked = []

        def load_dataset(name):
            asked.append((name, datasets.are_progress_bars_disabled()))
            return datasets.DatasetDict(parts)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return offers


def test_the_hub_is_asked_by_name_and_in_silence(hub):
    datasets.enable_progress_bars()
    asked = hub(train=as_dataset(rows(), image="img"), test=as_dataset(rows(2), image="img"))

    splits = load("hf:owner/name")

    assert asked == [("owner/name", True)]
    assert not datasets.are_progress_bars_disabled()
    assert (len(splits.train), len(splits.test)) == (30, 6)
    assert colours_of(splits.test) == COLOURS


def test_a_hub_set_of_one_split_is_divided(hub):
    hub(train=as_dataset(rows()))

    assert len(load("hf:owner/name").test) == 6


def test_a_hub_set_without_a_training_split_is_refused(hub):
    hub(dev=as_dataset(rows()))

    with pytest.raises(ValueError, match="must have a split called train, got dev"):
        load("hf:owner/name")


def test_what_goes_wrong_on_the_hub_becomes_one_line(monkeypatch):
    def load_dataset(name):
        raise ConnectionError("no network\nand a long story")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    with pytest.raises(
        ValueError, match=r"^data 'hf:owner/name' could not be loaded from the hub \(no network\); check name"
    ):
        load("hf:owner/name")


# Sizes


def test_pictures_of_one_size_keep_it_square_or_not(tmp_path):
    splits = load(str(class_folders(tmp_path, size=(12, 7))))

    assert splits.train.size == (7, 12)
    assert "resized" not in notes_of(splits)


def test_pictures_of_several_sizes_are_brought_to_64_and_a_note_says_so(tmp_path):
    class_folders(tmp_path)
    picture("red", (100, 50)).save(tmp_path / "red" / "wide.png")

    splits = load(str(tmp_path))

    assert splits.train.size == splits.test.size == (64, 64)
    assert "Pictures of 8x8 to 50x100 (height x width) are resized and cropped to 64x64" in notes_of(splits)
    assert colours_of(splits.train) == COLOURS


def test_sizes_that_differ_between_train_and_test_differ(tmp_path):
    class_folders(tmp_path / "train", size=(8, 8))
    class_folders(tmp_path / "val", size=(9, 9))

    assert load(str(tmp_path)).train.size == (64, 64)


def test_image_size_forces_the_size(tmp_path):
    splits = load(str(class_folders(tmp_path, size=(12, 7))), image_size=5)

    assert splits.train.size == (5, 5)
    assert "resized and cropped to 5x5" in notes_of(splits)


@pytest.mark.parametrize("size", [0, -3])
def test_an_image_size_below_one_is_refused(size):
    with pytest.raises(ValueError, match=f"image_size must be a side in pixels, at least 1, got {size}"):
        load("openmoji", image_size=size)


def test_images_too_large_for_memory_are_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "MOST_BYTES", 1000)

    with pytest.raises(ValueError, match="--image-size"):
        load(str(class_folders(tmp_path)))


# Parts


def test_train_size_takes_a_part_of_which_every_class_has_its_share(tmp_path):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val", 2)

    splits = load(str(tmp_path), train_size=12)

    assert torch.bincount(splits.train.labels).tolist() == [4, 4, 4]
    assert len(splits.test) == 6
    assert "Trained on 12 of 30 pictures" in notes_of(splits)


def test_the_seed_decides_which_part(tmp_path):
    number_each(class_folders(tmp_path / "train"))
    class_folders(tmp_path / "val", 2)

    def part(seed):
        return load(str(tmp_path), train_size=12, seed=seed).train.pixels[:, 0, 0, 0].tolist()

    assert part(0) == part(0)
    assert part(0) != part(1)


@pytest.mark.parametrize("size", [-1, 0, 2, 25])
def test_a_train_size_that_cannot_be_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match=rf"train_size must lie between .*\(3\) .*\(24\), got {size}$"):
        load(str(class_folders(tmp_path)), train_size=size)


# Damage


def damaged(folder):
    class_folders(folder / "train")
    class_folders(folder / "val", 2)
    (folder / "train" / "red" / "03.png").write_bytes(b"no picture")
    (folder / "val" / "blue" / "00.png").write_bytes((folder / "val" / "blue" / "01.png").read_bytes()[:40])
    return str(folder)


def test_a_damaged_picture_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"train/red/03\.png cannot be read: .*--skip-bad") as caught:
        load(damaged(tmp_path))

    assert len(str(caught.value).splitlines()) == 1


def test_damaged_pictures_are_skipped_counted_and_named_on_request(tmp_path):
    splits = load(damaged(tmp_path), skip_bad=True)

    assert (len(splits.train), len(splits.test)) == (29, 5)
    assert colours_of(splits.train) == colours_of(splits.test) == COLOURS
    assert re.search(r"1 damaged of 30 pictures skipped .*train: .*red/03\.png", notes_of(splits))
    assert re.search(r"1 damaged of 6 pictures skipped .*val: .*blue/00\.png", notes_of(splits))


def test_a_class_whose_pictures_are_all_damaged_is_an_empty_class(tmp_path):
    class_folders(tmp_path)
    for path in (tmp_path / "red").iterdir():
        path.write_bytes(b"")

    with pytest.raises(ValueError, match="got none of red"):
        load(str(tmp_path), skip_bad=True)


def test_a_damaged_picture_in_a_parquet_file_is_named_by_its_place(parquet):
    listed = rows()
    listed["image"][17] = {"bytes": b"no picture", "path": None}

    with pytest.raises(ValueError, match=r"picture 17 in .*data\.parquet cannot be read"):
        load(parquet("data.parquet", listed), parquet("test.parquet", rows(2)))


# What is found, and the built-in data


def test_notes_say_first_what_there_is(tmp_path):
    class_folders(tmp_path)

    notes = load(str(tmp_path)).notes

    assert notes[:2] == (
        "3 classes: blue, green, red.",
        "24 images to train on (8 a class), 6 to test on, 8x8 pixels.",
    )


def test_the_built_in_data_comes_in_halves_and_takes_no_other_data_to_test_on():
    splits = load("openmoji", image_size=8, train_size=40, seed=1)

    assert (len(splits.train), len(splits.test)) == (40, 686)
    assert splits.train.attribution
    with pytest.raises(ValueError, match="eval_data must be left out"):
        load("openmoji", "elsewhere")
    with pytest.raises(ValueError, match=r"\(8\) .*\(686\), got 687"):
        load("openmoji", image_size=8, train_size=687)


@needs_shared_data
def test_real_pictures_are_read():
    splits = load(str(SHARED / "cifar10-20k-train.parquet"), str(SHARED / "cifar10-20k-test.parquet"), train_size=500)

    assert torch.bincount(splits.train.labels).tolist() == [50] * 10
    assert len(splits.test) == 10_000
    assert splits.train.size == (32, 32)
    assert splits.train.classes[0] == "airplane"


@needs_shared_data
def test_grey_photographs_among_real_ones_become_rgb():
    splits = load(str(SHARED / "tinyimagenet20-validation.parquet"))

    assert splits.train.size == (64, 64)
    assert len(splits.train) == 800
