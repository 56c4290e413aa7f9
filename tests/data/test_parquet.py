"""Parquet files and the hub."""

import logging

import datasets
import pytest

from cutmix.data.loading import load
from small_pictures import COLOURS, as_dataset, class_folders, colours_of, notes_of, rows


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


@pytest.mark.parametrize("pattern", ["", "*.parquet"])
@pytest.mark.parametrize(
    ("train", "test"),
    [("cifar10-20k-train", "cifar10-20k-test"), ("pictures_TRAIN2", "pictures_Valid2"), ("train/0", "validation/0")],
)
def test_a_split_is_a_word_in_the_name_of_a_file_or_of_its_folder(parquet, tmp_path, train, test, pattern):
    for name, count in ((train, 6), (test, 3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        parquet(f"{name}.parquet", rows(count))

    splits = load(str(tmp_path / pattern.replace("*", "*/*" if "/" in train else "*")))

    assert (len(splits.train), len(splits.test)) == (18, 9)
    assert "No split was found" not in notes_of(splits)


def test_a_word_that_only_holds_a_split_s_name_names_no_split(parquet, tmp_path):
    parquet("trains.parquet", rows(5))
    parquet("contest.parquet", rows(5))

    assert (len(load(str(tmp_path)).train), len(load(str(tmp_path)).test)) == (24, 6)


@pytest.mark.parametrize("other", ["pictures", "train-and-test"])
def test_files_of_no_clear_split_beside_others_are_refused_by_name(parquet, tmp_path, other):
    parquet("a-train.parquet", rows(3))
    parquet("a-test.parquet", rows(3))
    parquet(f"{other}.parquet", rows(3))

    with pytest.raises(ValueError, match=rf"each name one split .* got {other}\.parquet beside"):
        load(str(tmp_path))


def test_files_that_are_all_to_test_on_are_taken_where_one_tests(parquet, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    parquet("a/train.parquet", rows(4))
    for name in ("test-0", "test-1"):
        parquet(f"b/{name}.parquet", rows(2))

    splits = load(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (len(splits.train), len(splits.test)) == (12, 12)

    parquet("b/val.parquet", rows(2))
    with pytest.raises(ValueError, match="must hold parquet files to train on, named train, got only test, val"):
        load(str(tmp_path / "b"))


@pytest.mark.parametrize("nothing", [None, {"bytes": None, "path": None}])
def test_a_row_without_a_picture_is_a_damaged_one(tmp_path, nothing):
    listed = rows()
    listed["image"][17] = nothing
    data = write_plain(tmp_path / "data.parquet", listed)

    with pytest.raises(ValueError, match=r"^picture 17 in .*data\.parquet.* cannot be read: .*--skip-bad"):
        load(data, data)
    splits = load(data, data, skip_bad=True)
    assert len(splits.train) == 29
    assert "1 damaged of 30 pictures skipped" in notes_of(splits)


def test_a_label_that_is_not_a_number_is_a_missing_one(tmp_path):
    listed = rows()
    labels = [float(label) for label in listed["label"]]
    labels[3] = float("nan")

    with pytest.raises(ValueError, match="a label for each picture, got 1 of 30 without one"):
        load(write_plain(tmp_path / "plain.parquet", {"image": listed["image"], "label": labels}))


def test_an_unreachable_hub_does_not_tell_of_its_retries(tmp_path, monkeypatch, capfd):
    def load_dataset(name):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    with pytest.raises(ValueError, match=r"^eval_data 'hf:owner/name' could not be loaded from the hub"):
        load(str(class_folders(tmp_path)), "hf:owner/name")
    assert capfd.readouterr() == ("", "")
