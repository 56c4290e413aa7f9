import io

import pytest
from rich.console import Console

from cutmix.cli import display
from cutmix.evidence.arms import Run
from cutmix.runs.folder import RunFolder
from cutmix.runs.settings import Settings, Task


@pytest.fixture
def runs(tmp_path):
    """One run that is finished, one that has failed, one that goes on, one that waits."""
    folders = [RunFolder(tmp_path / name) for name in ("finished", "failed", "working", "waiting")]
    for folder in folders[:3]:
        folder.create({"steps": 10})
    folders[0].measures.touch()
    folders[1].error.touch()
    folders[2].metrics.write_text('{"step": 10, "epoch": 7}\n')
    task = Task(data="openmoji")
    return [Run(Settings(task=task, algorithms=("cutmix",), seed=seed), folder) for seed, folder in enumerate(folders)]


def test_without_a_terminal_a_line_says_now_and_then_how_far_all_runs_are(runs, monkeypatch, capsys):
    monkeypatch.setattr(display, "EVERY", 0.0)

    with display.watching(runs) as watch:
        watch()

    assert capsys.readouterr().out == "2 of 4 runs ended; cutmix, seed 2: epoch 7, 0:00 left\n"


def test_lines_are_not_said_too_often(runs, capsys):
    with display.watching(runs) as watch:
        watch()

    assert capsys.readouterr().out == ""


def test_on_a_terminal_a_table_shows_arm_seed_epoch_and_time_left(runs, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(display, "Console", lambda: Console(file=screen, force_terminal=True, width=80))

    with display.watching(runs) as watch:
        watch()

    shown = screen.getvalue()
    assert all(title in shown for title in ("arm", "seed", "epoch", "time left"))
    assert all(word in shown for word in ("finished", "failed", "waiting", "0:00"))
