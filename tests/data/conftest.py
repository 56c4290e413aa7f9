"""Parquet files are written without a bar."""

import datasets
import pytest

from small_pictures import COLOURS, as_dataset


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
