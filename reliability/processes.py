"""Processes that train: forked from one that has imported torch, watched, killed, and none left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from multiprocessing.context import ForkServerContext, ForkServerProcess

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0
"""Seconds after which nothing is waited for any longer."""

IMPORTED = ["reliability.warm", "cutmix.cli"]
"""What the process that is forked has imported."""


@final
@dataclass(frozen=True, slots=True)
class Child:
    """A process that runs a function, as a script would be run."""

    process: ForkServerProcess
    heard: Path

    @property
    def pid(self) -> int:
        """Return its process id."""
        assert self.process.pid is not None
        return self.process.pid

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for its end; return the exit code."""
        self.process.join(patience)
        assert self.process.exitcode is not None, f"still runs after {patience:g} seconds"
        return self.process.exitcode

    def kill(self) -> None:
        """Kill it while its workers live, which between two epochs they do not, and leave it to them to find out."""
        until(lambda: len(group(self.pid)) > 1, f"workers of {self.pid}")
        os.kill(self.pid, signal.SIGKILL)
        assert self.end() == -signal.SIGKILL, self.said()

    def said(self) -> str:
        """Return what it wrote to stderr."""
        return self.heard.read_text(errors="replace")


@contextmanager
def started(heard: Path, function: Callable[..., Any], *arguments: Any) -> Generator[Child]:  # noqa: ANN401
    """Run ``function`` in a process of its own, which with all that it has started is gone at the end."""
    process = _forking().Process(target=_run, args=(heard, function, arguments))
    process.start()
    child = Child(process, heard)
    try:
        yield child
    finally:
        process.kill()
        process.join()
        end_all(group(child.pid))


@cache
def _forking() -> ForkServerContext:
    """Return what forks; it finds modules where this process does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    found = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), *sys.path]))
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        os.environ.update({} if found is None else {"PYTHONPATH": found})
    return context


def _run(heard: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Be a script: stderr goes to a file, and the exit code is what a shell would see."""
    os.setsid()  # so that what it starts can be told by its group
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    with heard.open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    try:
        code = function(*arguments)
    except KeyboardInterrupt:
        code = 130
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        code = 1
    sys.exit(code)


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
    """Wait for ``condition``."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"waited {patience:g} seconds for {what}"
        time.sleep(0.002)


def running() -> dict[int, tuple[int, int]]:
    """Return the parent and the group of each process that runs."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):  # it is gone
            state, parent, group = stat.read_text().rpartition(")")[2].split()[:3]
            if state != "Z":
                found[int(stat.parent.name)] = int(parent), int(group)
    return found


def group(leader: int) -> set[int]:
    """Return the processes of a group."""
    return {pid for pid, (_, group) in running().items() if group == leader}


def descendants(pid: int) -> set[int]:
    """Return the processes that ``pid`` and its children have started."""
    there, found, fresh = running(), set[int](), {pid}
    while fresh:
        fresh = {child for child, (parent, _) in there.items() if parent in fresh} - found
        found |= fresh
    return found


def end_all(pids: set[int]) -> None:
    """Kill processes, and wait until they are gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not pids & running().keys(), "the end of what was killed")
