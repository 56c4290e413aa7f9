"""Signals that ask for the end."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from reliability.job import Job
from reliability.processes import until
from reliability.runs import check_same, drawn_moment, finish, interrupted, launched, newest_step, running, said

if TYPE_CHECKING:
    from reliability.checking import Attempt

AT_ONCE = 20.0  # seconds, where the step takes sixty


def sigterm(attempt: Attempt) -> None:
    """Ask a run to end: it saves after the step at hand, ends with 143, and goes on to the same bytes."""
    _ended_by(signal.SIGTERM, 143, attempt)


def sigint(attempt: Attempt) -> None:
    """Interrupt a run: the same, and KeyboardInterrupt reaches the script, which ends with 130."""
    _ended_by(signal.SIGINT, 130, attempt)


def sigint_twice(attempt: Attempt) -> None:
    """Interrupt a run twice within a step that takes a minute: it ends at once, without another checkpoint."""
    step = attempt.chance.randrange(2, Job(attempt.folder).steps)
    job = Job(attempt.folder, stalled_step=step)
    with running(job) as child:
        until((job.folder / "stalled").exists, f"step {step}")
        before = newest_step(job)
        for _ in range(2):
            os.kill(child.pid, signal.SIGINT)
            time.sleep(0.1)  # two that come together are one
        assert child.end(AT_ONCE) == 130, child.said()  # noqa: PLR2004
    assert newest_step(job) == before
    finish(job)
    check_same(job)


def sigterm_to_one_rank(attempt: Attempt) -> None:
    """Ask one rank of two to end: both end after the same step, with a checkpoint, and go on to the same bytes."""
    job, step, seconds = drawn_moment(attempt.chance, Job(attempt.folder, ranks=2))
    with launched(job) as launcher:
        interrupted(job, step, seconds)
        os.kill(int(job.rank_file(attempt.number % 2).read_text()), signal.SIGTERM)
        job.open_file.touch()
        assert launcher.wait(60) == 143, said(job)  # noqa: PLR2004
    assert newest_step(job) == job.steps_taken, said(job)
    finish(job)
    check_same(job)


def _ended_by(number: signal.Signals, code: int, attempt: Attempt) -> None:
    job, step, seconds = drawn_moment(attempt.chance, Job(attempt.folder))
    with running(job) as child:
        interrupted(job, step, seconds)
        os.kill(child.pid, number)
        sent_after = job.steps_taken
        job.open_file.touch()
        assert child.end() == code, child.said()
    taken = job.steps_taken
    assert newest_step(job) == taken, f"ended after step {taken}, and the newest checkpoint is of {newest_step(job)}"
    assert taken <= sent_after + 1, f"sent after step {sent_after}, ended after step {taken}"
    finish(job)
    assert job.steps_taken == job.steps
    check_same(job)
