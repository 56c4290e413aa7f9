"""Comparisons from end to end; every run is a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from cutmix.__main__ import main


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, red in (("dark", 20), ("light", 200)):
        (folder / name).mkdir()
        for number in range(5):
            Image.new("RGB", (8, 8), (red + number, 100, 100)).save(folder / name / f"{number}.png")
    return ["--data", str(folder), "--batch-size", "4", "--max-duration", "2ba"]


@pytest.fixture(scope="module")
def finished(task, tmp_path_factory):
    """One comparison, done once."""
    folder = tmp_path_factory.mktemp("compare")
    assert main(compared(task, folder)) == 0
    return folder


def compared(task, folder, *arms, seeds=1):
    arms = arms or ("baseline", "cutmix")
    return ["compare", *task, "--arms", *arms, "--seeds", str(seeds), "--jobs", "2", "--save-folder", str(folder)]


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/seed-*/*")}


def test_a_comparison_leaves_a_report_and_a_folder_a_run(finished):
    report = json.loads((finished / "report.json").read_text())

    assert set(report["results"]) == {"baseline", "cutmix"}
    assert report["verdicts"] == {"cutmix": "not shown"}
    assert "resnet8 from scratch, 8x8, 2 steps of 4" in (finished / "report.md").read_text()
    assert (finished / "cutmix" / "seed-0" / "mixed.png").exists()
    assert not (finished / "baseline" / "seed-0" / "mixed.png").exists()


def test_a_finished_comparison_is_read_back_and_not_done_again(finished, task, capsys):
    before = times(finished)

    assert main(compared(task, finished)) == 0
    assert times(finished) == before
    assert "2 finished before" in capsys.readouterr().out


def test_a_run_that_was_cut_off_is_done_again(finished, task):
    run = finished / "cutmix" / "seed-0"
    wanted = (run / "weights.safetensors").read_bytes()
    (run / "measures.json").unlink()
    (run / "weights.safetensors").unlink()

    assert main(compared(task, finished)) == 0
    assert (run / "weights.safetensors").read_bytes() == wanted


def test_another_task_in_the_same_folder_is_refused(finished, task, capsys):
    before = times(finished)

    assert main(compared([*task, "--lr", "0.1"], finished)) == 2
    assert "holds a run that differs in its settings" in capsys.readouterr().err
    assert times(finished) == before


def test_a_folder_of_something_else_is_refused(task, tmp_path, capsys):
    (tmp_path / "report.md").touch()

    assert main(compared(task, tmp_path)) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (["--arms", "baseline"], "arms must be two or more that differ, got baseline"),
        (["--arms", "cutmix", "cutmix:alpha=1.0"], "arms must be two or more that differ"),
        (["--arms", "baseline", "cutmux"], "algorithm must be one of"),
        (["--seeds", "0"], "seeds must be 1 or more, got 0"),
        (["--jobs", "0"], "jobs must be 1 or more, got 0"),
    ],
)
def test_bad_arms_seeds_and_jobs_are_refused(bad, complaint, task, tmp_path, capsys):
    assert main(["compare", *task, *bad, "--save-folder", str(tmp_path / "compare")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "compare").exists()


def test_a_run_that_fails_is_named_and_the_others_finish(task, tmp_path, monkeypatch, capsys):
    (tmp_path / "networks.py").write_text(
        "import torch\n"
        "from cutmix.keys import fold\n"
        "from cutmix.models import build\n\n\n"
        "def refuses_seed_1(classes):\n"
        "    if torch.initial_seed() == fold(1, 'weights'):\n"
        "        raise RuntimeError('no weights today')\n"
        "    return build('resnet8', classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "compare"

    assert main(compared([*task, "--model", "networks:refuses_seed_1"], folder, seeds=2)) == 1
    out, err = capsys.readouterr()
    assert err.count("gave RuntimeError: no weights today (all of it in") == 2
    assert "cutmix, seed 1" in err
    assert "| 1 seed " in out


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_no_run_outlives_the_comparison(blow, task, tmp_path):
    # A shell's background jobs are born deaf to Ctrl-C, and so would be what the tests start from there.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from cutmix.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    options = compared([*task, "--max-duration", "1000000ba"], tmp_path / "compare")
    command = [sys.executable, "-c", program, *options]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: len(list((tmp_path / "compare").glob("*/*/timings.jsonl"))) == 2)
        parent.send_signal(blow)

        assert parent.wait(20) == (130 if blow == signal.SIGINT else -signal.SIGKILL)
        until(lambda: not in_group(parent.pid))
    finally:
        if in_group(parent.pid):
            os.killpg(parent.pid, signal.SIGKILL)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for nothing"
        time.sleep(0.1)


def in_group(group):
    """Tell whether a process of this group is still alive."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_that_diverges_is_said_to_have(task, tmp_path, capsys):
    assert main(compared([*task, "--lr", "1e20"], tmp_path / "compare")) == 1
    assert capsys.readouterr().err.count("seed 0 diverged: the loss must stay finite, got nan at step 2 (rate ") == 2
