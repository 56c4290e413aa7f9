"""Losses that are not finite, and runs that are long."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path
from statistics import linear_regression
from typing import TYPE_CHECKING, final

import torch
from PIL import Image
from torch import nn

from cutmix.__main__ import main
from cutmix.core import Callback
from cutmix.trainer import Trainer
from cutmix.trainer.checkpoints.checkpoint import checkpoints, read
from reliability.job import BATCH, STEPS_AN_EPOCH, Job
from reliability.processes import started
from reliability.runs import running

if TYPE_CHECKING:
    from cutmix.core import Logger, State
    from reliability.checking import Attempt

STEPS, LOOK_EVERY = 20_000, 200
SETTLED = STEPS // 10  # steps after which memory has been asked for
MEGABYTES_A_STEP = 1.0 / 10_000


def not_finite(attempt: Attempt) -> None:
    """Train on a picture that is not a number: the run ends at its step, which is named, and no checkpoint is spoilt.

    And by the command line, at too high a rate: it ends with 70.
    """
    bad = attempt.chance.randrange(BATCH * STEPS_AN_EPOCH)
    job = Job(attempt.folder, bad_sample=bad)
    with running(job) as child:
        assert child.end() == 1, child.said()
        _check_named(child.said(), bad, job.steps_taken)
    for one in checkpoints(job.checkpoints):
        assert all(weight.isfinite().all() for weight in read(one).tensors["weights"].values())
    with started(job.folder / "command", _diverge, attempt.folder / "pictures") as child:
        assert child.end() == 70, child.said()  # noqa: PLR2004
        _check_named(child.said(), None, None)


def _check_named(said: str, bad: int | None, taken: int | None) -> None:
    pattern = r"got nan at step (\d+) \(rate \S+; box \[.*\]; kept \[.*\]; samples \[(.*)\]\)"
    found = re.search(pattern, said)
    assert found, said
    if bad is not None and taken is not None:
        assert bad in map(int, found[2].split(", ")), f"sample {bad}: {said}"
        assert int(found[1]) <= taken + 1 <= int(found[1]) + 2, f"{taken} steps were taken: {said}"


def _diverge(folder: Path) -> int:
    for name, colour in (("dark", (0, 0, 0)), ("light", (255, 255, 255))):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (8, 8), colour).save(folder / name / f"{number}.png")
    where = ["--data", str(folder), "--save-folder", str(folder / "run"), "--quiet"]
    return main(["train", *where, "--image-size", "8", "--batch-size", "4", "--lr", "1e20", "--algorithms", "cutmix"])


def long_run(attempt: Attempt) -> None:
    """Take 20,000 steps: memory does not grow, nor open files, nor threads."""
    with started(attempt.folder / "said", _train_long, attempt.folder / "run") as child:
        assert child.end(patience=600.0) == 0, child.said()


def _train_long(folder: Path) -> None:
    model, watch = nn.Linear(4, 2), Footprint()
    batches = [(torch.rand(8, 4), torch.arange(8) % 2)] * 100
    Trainer(
        model,
        batches,
        None,
        f"{STEPS}ba",
        optimizers=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        callbacks=watch,
        device="cpu",
        seed=0,
        progress_bar=False,
        save_folder=folder,
        save_interval="1000ba",
        save_num_checkpoints_to_keep=2,
    ).fit()
    watch.check()


@final
class Footprint(Callback):
    """Takes down the memory, the open files and the threads of this process."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._megabytes: list[float] = []
        self._held: set[tuple[int, int]] = set()

    def batch_checkpoint(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        step = state.timestamp.batch
        if step % LOOK_EVERY == 0 and step > SETTLED:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self._steps.append(step)
            self._megabytes.append(pages * resource.getpagesize() / 1e6)
            self._held.add((_entries("/proc/self/fd"), _entries("/proc/self/task")))

    def check(self) -> None:
        """Refuse growth."""
        slope = linear_regression(self._steps, self._megabytes).slope
        print(f"{slope * 10_000:.3f} MB in 10,000 steps; (files, threads): {self._held}", file=sys.stderr)
        assert slope < MEGABYTES_A_STEP
        assert len(self._held) == 1


def _entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())
