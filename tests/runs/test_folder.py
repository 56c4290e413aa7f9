import json
import os
import time
from pathlib import Path

import pytest

from cutmix.runs.folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def aged(path, seconds):
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_a_run_without_figures_has_no_progress_yet(folder):
    assert folder.progress is None

    folder.create({"steps": 30})

    assert folder.progress is None


def test_the_time_left_follows_from_the_steps_behind_and_the_steps_ahead(folder):
    folder.create({"steps": 30})
    folder.metrics.write_text('{"step": 9, "epoch": 1}\n{"step": 10, "epoch": 2}\n{"step": 11, "ep')
    aged(folder.config, 25)
    aged(folder.metrics, 5)

    # Ten steps took 20 seconds; the other twenty take 40, of which 5 have passed.
    assert folder.progress.epoch == 2
    assert folder.progress.seconds_left == pytest.approx(35, abs=1)


def test_the_last_evaluation_is_found_behind_later_figures(folder):
    folder.create({})
    lines = [{"eval/loss": 2.0}, {"eval/loss": 1.0}, {"train/loss": 3.0}]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert folder.last_evaluation == {"eval/loss": 1.0}


def test_a_run_is_finished_once_it_is_measured(folder):
    folder.create({})
    assert not folder.finished

    folder.measures.write_text("{}")

    assert folder.finished


def test_clearing_removes_what_a_run_wrote_and_nothing_else(folder):
    folder.create({})
    folder.metrics.touch()
    (folder.path / "notes.txt").touch()

    folder.clear()

    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_a_folder_that_holds_something_is_not_free(folder):
    folder.check_free()
    folder.create({})

    with pytest.raises(ValueError, match="is not empty; name another"):
        folder.check_free()


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(ValueError, match=r"cannot be written \(Not a directory: .*file\); name another"):
        RunFolder(tmp_path / "file" / "runs" / "one").check_free()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which even root may not write")
def test_a_folder_that_only_seems_writable_is_refused():
    with pytest.raises(ValueError, match="save folder /proc/run cannot be written"):
        RunFolder(Path("/proc/run")).check_free()
