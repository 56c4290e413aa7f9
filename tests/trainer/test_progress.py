"""Throughput and time left: of training alone, after a resume, and where nobody knows how long an epoch is."""

import json
import re

import pytest
import torch
from torch import nn

from cutmix.core import Callback, Time
from cutmix.core.state import State
from cutmix.core.time import Timestamp
from cutmix.trainer import Trainer
from cutmix.trainer.callbacks.progress import _total

BATCHES = [(torch.rand(4, 3, 6, 5), torch.arange(4) % 2) for _ in range(6)]


class Clock(Callback):
    """A step takes a second, an evaluation a hundred."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        for name in (
            "tqdm.std.time",
            "cutmix.trainer.callbacks.progress.perf_counter",
            "cutmix.trainer.loggers.perf_counter",
        ):
            monkeypatch.setattr(name, lambda: self.now)

    def before_train_batch(self, state, logger):
        self.now += 1.0

    def eval_batch_end(self, state, logger):
        self.now += 100.0


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def trainer(clock, data=BATCHES, duration="3ep", **settings):
    model = nn.Sequential(nn.Flatten(), nn.Linear(90, 2))
    return Trainer(model, data, BATCHES[:1], duration, callbacks=clock, device="cpu", seed=1, **settings)


def shown(capsys):
    """List (steps, of how many, elapsed, left, samples a second) of each drawing of the bar."""
    drawn = re.findall(
        r"(\d+)(?:/(\d+)|batch) \[(\d+:\d+)(?:<(\d+:\d+))?[^\]]*?([\d,]+) samples/s", capsys.readouterr().err
    )
    return [(int(step), int(total or 0), elapsed, left, int(rate)) for step, total, elapsed, left, rate in drawn]


def test_evaluation_counts_neither_in_the_rate_nor_in_the_time_left(clock, capsys):
    trainer(clock, eval_interval="2ba").fit()

    drawn = shown(capsys)
    assert drawn[2] == (3, 18, "00:03", "00:15", 4)
    assert drawn[11] == (12, 18, "00:12", "00:06", 4)
    assert drawn[-1] == (18, 18, "00:18", "00:00", 4)


def test_a_run_that_goes_on_tells_the_rate_and_the_time_left_from_there(clock, capsys):
    made = trainer(clock)
    made.fit("8ba")
    clock.now += 5000.0
    capsys.readouterr()
    made.fit("10ba")

    drawn = shown(capsys)
    assert drawn[0] == (9, 18, "00:01", "00:09", 4)
    assert drawn[-1] == (18, 18, "00:10", "00:00", 4)


def test_the_time_left_is_told_for_samples_and_for_streams_as_soon_as_it_can_be(clock, capsys):
    trainer(clock, duration="48sp").fit()
    by_samples = shown(capsys)
    trainer(clock, data=lambda: iter(BATCHES)).fit()
    by_stream = shown(capsys)

    assert by_samples[0] == (1, 12, "00:01", "00:11", 4)
    assert by_stream[0] == (1, 0, "00:01", "", 4)
    assert by_stream[6] == (7, 18, "00:07", "00:11", 4)


@pytest.mark.parametrize(
    ("duration", "per_epoch", "now", "total"),
    [
        ("500ba", None, Timestamp(), 500),
        ("3ep", 7, Timestamp(), 21),
        ("3ep", None, Timestamp(0, 5, 20, 5, 20), None),
        ("3ep", None, Timestamp(2, 17, 68, 1, 4), 24),
        ("100sp", 7, Timestamp(), None),
        ("100sp", 7, Timestamp(1, 9, 30, 2, 8), 30),
    ],
)
def test_how_many_batches_there_will_be_is_told_from_those_there_were(duration, per_epoch, now, total):
    state = State(model=nn.Identity(), loss_fn=None, device=torch.device("cpu"), seed=0)
    state.max_duration, state.batches_per_epoch, state.timestamp = Time.parse(duration), per_epoch, now

    assert _total(state) == total


def test_the_file_of_timings_leaves_evaluation_out_of_the_rate_and_begins_anew_after_a_pause(clock, tmp_path):
    made = trainer(clock, progress_bar=False, save_folder=tmp_path, eval_interval="2ba")
    made.fit("8ba")
    clock.now += 5000.0
    made.fit("10ba")

    rows = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [(row["step"], row["seconds"], row["samples_per_second"]) for row in rows] == [
        (8, 408.0, 4.0),
        (18, 918.0, 4.0),
    ]
