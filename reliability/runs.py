"""Runs that are ended from outside, and what must come of them in the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from cutmix.trainer.checkpoints.checkpoint import checkpoints, verify
from reliability.job import INTERVAL, Job
from reliability.processes import ROOT, Child, descendants, end_all, started, until

if TYPE_CHECKING:
    from collections.abc import Generator
    from random import Random

STEP_SECONDS = 0.02
"""About how long a step takes: within it the moment is drawn."""
SLACK = 3
"""Steps that a run may be ahead of who watches it."""


@cache
def undisturbed(ranks: int = 1) -> Job:
    """Return the run that nobody disturbed."""
    job = Job(Path(mkdtemp(prefix="reliability-truth-")), ranks)
    finish(job)
    return job


def copy_of_undisturbed(folder: Path) -> Job:
    """Return a run that has come to its end, to be spoilt."""
    shutil.copytree(undisturbed().folder, folder, dirs_exist_ok=True)
    return Job(folder)


@contextmanager
def running(job: Job) -> Generator[Child]:
    """Let ``job`` run, in one process."""
    with started(job.folder / "said", job.train) as child:
        yield child


@contextmanager
def launched(job: Job, *, restarts: int = 0) -> Generator[subprocess.Popen[bytes]]:
    """Let ``job`` run under the launcher; with all that was started it is gone at the end."""
    command = ["-m", "cutmix", "launch", f"--processes={job.ranks}", f"--max-restarts={restarts}"]
    script = ["-m", "reliability.job", str(job.folder), str(job.gate or 0)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    with (job.folder / "said").open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, *command, *script], stdout=said, stderr=said, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        offspring = descendants(process.pid)
        process.kill()
        process.wait()
        end_all(offspring)


def finish(job: Job) -> None:
    """Let ``job`` run to its end."""
    job = replace(job, gate=None, stalled_step=None)
    if job.ranks > 1:
        with launched(job) as process:
            assert process.wait(120) == 0, said(job)
        return
    with running(job) as child:
        assert child.end() == 0, child.said()


def said(job: Job) -> str:
    """Return what a run wrote to stderr."""
    return (job.folder / "said").read_text(errors="replace")


def wait_for_step(job: Job, step: int) -> None:
    """Wait until ``step`` steps are taken."""
    until(lambda: job.steps_taken >= step, f"step {step} of {job.folder}")


def drawn_moment(chance: Random, job: Job) -> tuple[Job, int, float]:
    """Draw a step, and a moment in the one after it; the run will wait there, so that it is not over before."""
    step = chance.randrange(1, job.steps - SLACK)
    return replace(job, gate=step + SLACK), step, chance.uniform(0.0, STEP_SECONDS)


def interrupted(job: Job, step: int, seconds: float) -> None:
    """Wait for a moment."""
    wait_for_step(job, step)
    time.sleep(seconds)


def check_same(job: Job) -> None:
    """Check that the run came to the same end as one that nobody disturbed, and wrote down each step once."""
    lines = [json.loads(line) for line in job.metrics.read_text().splitlines()]
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == list(range(1, job.steps + 1)), f"steps in the log: {steps}"
    assert job.digest_file.read_text() == undisturbed(job.ranks).digest_file.read_text(), "the digest is another"
    strays = [path.name for path in job.checkpoints.iterdir() if path.name.startswith(".")]
    assert not strays, f"strays: {strays}"


def newest_step(job: Job) -> int:
    """Return after which step the newest checkpoint was written, which is whole; 0 where there is none."""
    there = checkpoints(job.checkpoints)
    if not there:
        return 0
    verify(there[-1])
    return int(there[-1].name.partition("-ba")[2])


def check_goes_on(job: Job, taken: int) -> None:
    """Check that a run that was ended after ``taken`` steps goes on from a checkpoint that is not too old.

    That of the last of these steps may not have been written yet.
    """
    start = newest_step(job)
    assert start >= (taken - 1) // INTERVAL * INTERVAL, f"after {taken} steps the newest checkpoint is of {start}"
    before = job.steps_taken
    finish(job)
    assert job.steps_taken - before == job.steps - start, "it did not go on from the newest checkpoint"
