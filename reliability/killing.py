"""kill -9: at any step, inside the writing of a checkpoint, of one rank of two."""

from __future__ import annotations

import io
import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn

from reliability import processes
from reliability.job import INTERVAL, Job
from reliability.processes import descendants, started, until
from reliability.runs import (
    check_goes_on,
    check_same,
    drawn_moment,
    finish,
    interrupted,
    launched,
    newest_step,
    running,
    said,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

    from reliability.checking import Attempt

CHECKPOINT_BYTES = 12_000  # a bit less than there are
OPERATIONS = 7  # fsync of four files, of their folder and of its parent, and the move
RESTARTED_WITHIN, GONE_WITHIN = 60.0, 30.0


def at_a_step(attempt: Attempt) -> None:
    """Kill a run at a random moment; it goes on and ends with the same bytes."""
    job, step, seconds = drawn_moment(attempt.chance, Job(attempt.folder))
    with running(job) as child:
        interrupted(job, step, seconds)
        child.kill()
        check_goes_on(job, step)
    check_same(job)


def inside_a_write(attempt: Attempt) -> None:
    """Kill a run while it writes a checkpoint; the one before it loads, and no stray stays."""
    job = Job(attempt.folder)
    die = attempt.one_of([at_a_byte, before_an_operation, after_an_operation])
    size = CHECKPOINT_BYTES if die is at_a_byte else OPERATIONS
    moment = attempt.chance.randrange(job.steps // INTERVAL * size)
    with started(job.folder / "said", _train_and_die, job, die, moment) as child:
        assert child.end() == -signal.SIGKILL, child.said()
        newest_step(job)
        finish(job)
    check_same(job)


def rank_with_restarts(rank: int) -> Callable[[Attempt], None]:
    """Kill a rank of two; the launcher starts them again, and they end with the same bytes."""

    def hold(attempt: Attempt) -> None:
        job, step, seconds = drawn_moment(attempt.chance, Job(attempt.folder, ranks=2))
        with launched(job, restarts=1) as launcher:
            interrupted(job, step, seconds)
            _kill_rank(job, rank, launcher)
            job.open_file.touch()
            taken = job.steps_taken
            until(lambda: job.steps_taken > taken or launcher.poll() is not None, "the restart", RESTARTED_WITHIN)
            assert launcher.wait(RESTARTED_WITHIN) == 0, said(job)
        check_same(job)

    return hold


def rank_without_restarts(attempt: Attempt) -> None:
    """Kill a rank of two; every process is gone, with an exit code, and the run goes on when it is started again."""
    job, step, seconds = drawn_moment(attempt.chance, Job(attempt.folder, ranks=2))
    with launched(job) as launcher:
        interrupted(job, step, seconds)
        family = {launcher.pid} | descendants(launcher.pid)
        _kill_rank(job, attempt.number % 2, launcher)
        code = launcher.wait(GONE_WITHIN)
        until(lambda: not family & processes.running().keys(), "the end of every process", GONE_WITHIN)
        assert code == 128 + signal.SIGKILL, said(job)


def _kill_rank(job: Job, rank: int, launcher: Popen[bytes]) -> None:
    pid = int(job.rank_file(rank).read_text())
    assert pid in descendants(launcher.pid), f"rank {rank} does not run: {said(job)}"
    os.kill(pid, signal.SIGKILL)


def _train_and_die(job: Job, die: Callable[[int], None], moment: int) -> None:
    die(moment)
    job.train()


def at_a_byte(moment: int) -> None:
    """Die at a byte of a checkpoint: those before it are written, it is not."""
    left, opened = moment, io.open

    class Watched(io.FileIO):
        def write(self, data: Any) -> int:  # noqa: ANN401
            nonlocal left
            if left < len(data):
                super().write(memoryview(data)[:left])
                _die()
            left -= len(data)
            return super().write(data)

    def watch(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        is_checkpoints = mode == "xb" and ".writing" in str(file)
        return Watched(file, mode) if is_checkpoints else opened(file, mode, *arguments, **options)

    io.open = watch


def before_an_operation(moment: int) -> None:
    """Die before an fsync or a move."""
    _at_operation(moment, lambda _: _die())


def after_an_operation(moment: int) -> None:
    """Die after an fsync or a move."""
    _at_operation(moment, lambda operate: (operate(), _die()))


def _at_operation(moment: int, act: Callable[[Callable[[], Any]], Any]) -> None:
    """Let ``moment`` operations pass, then act on the next."""
    left = moment

    def watched(operation: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*arguments: Any) -> Any:  # noqa: ANN401
            nonlocal left
            left -= 1
            return act(lambda: operation(*arguments)) if left < 0 else operation(*arguments)

        return watch

    os.fsync, os.rename = watched(os.fsync), watched(os.rename)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
