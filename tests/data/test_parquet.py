"""Parquet files and the hub."""

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
