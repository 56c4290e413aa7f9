"""Sizes, parts, damage, and what the notes say."""

import re

import pytest
import torch

from cutmix.data import loading
from cutmix.data.loading import load
from small_pictures import (
    COLOURS,
    SHARED,
    class_folders,
    colours_of,
    needs_shared_data,
    notes_of,
    number_each,
    picture,
    rows,
)


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


def test_notes_say_that_each_seed_draws_what_is_held_back_and_what_is_trained_on(tmp_path):
    splits = load(str(class_folders(tmp_path)), train_size=12, seed=7)

    assert notes_of(splits).count("drawn anew for each seed (here 7).") == 2


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
