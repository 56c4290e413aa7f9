"""Arms times seeds: many runs of one task, each in a process of its own."""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NoReturn, final

import torch

from cutmix.data.images import Splits
from cutmix.evidence.measures import Measures, measure
from cutmix.evidence.report import Report, Result, scope_of
from cutmix.runs.config import check_same, config_of
from cutmix.runs.folder import RunFolder, check_writable, read_json, write_json
from cutmix.runs.settings import Settings, Task
from cutmix.runs.train import load_for, prepare
from cutmix.trainer.callbacks.finite import NonFiniteLossError

TICK = 0.5


@final
@dataclass(frozen=True, slots=True)
class Run:
    """One run of a comparison."""

    settings: Settings
    folder: RunFolder

    @property
    def name(self) -> str:
        """Return what to call it in a line."""
        return f"{self.settings.arm}, seed {self.settings.seed}"


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """Arms, each with the same seeds, of one task; the first arm is the one the others are held against."""

    task: Task
    arms: tuple[str, ...]
    seeds: int
    folder: Path

    def __post_init__(self) -> None:
        """Check what needs no data."""
        if self.seeds < 1:
            raise ValueError(f"seeds must be 1 or more, got {self.seeds}; 2 or more can show something")
        recipes = [Settings(task=self.task, algorithms=(arm,)).recipes for arm in self.arms]
        if len(self.arms) < 2 or any(recipe in recipes[:slot] for slot, recipe in enumerate(recipes)):  # noqa: PLR2004
            raise ValueError(f"arms must be two or more that differ, got {' '.join(self.arms) or 'none'}")
        if any(self.folder.glob("*/seed-*")):  # a comparison that goes on
            check_writable(self.folder)
        else:
            RunFolder(self.folder).check_free()

    def of_seed(self, seed: int) -> list[Run]:
        """Return one run an arm."""
        return [self._run(arm, seed) for arm in self.arms]

    @property
    def runs(self) -> list[Run]:
        """Return all runs, seed by seed, so that whole pairs are there early."""
        return [run for seed in range(self.seeds) for run in self.of_seed(seed)]

    def _run(self, arm: str, seed: int) -> Run:
        folder = self.folder / arm.replace(":", "-").replace(",", "-") / f"seed-{seed}"
        return Run(Settings(task=self.task, algorithms=(arm,), seed=seed), RunFolder(folder))


def unfinished(comparison: Comparison, splits: Splits) -> list[Run]:
    """Return the runs that are still to be done.

    Args:
        comparison: arms times seeds.
        splits: the data of its first seed.

    Raises:
        ValueError: when a folder holds another run than the one that belongs there.
    """
    for seed in range(comparison.seeds):
        started = [run for run in comparison.of_seed(seed) if run.folder.config.exists()]
        data = splits if seed == 0 or not started else load_for(comparison.task, seed)
        for run in started:
            check_same(run.folder, config_of(run.settings, data))
    return [run for run in comparison.runs if not run.folder.finished]


def run_all(runs: Sequence[Run], jobs: int, watch: Callable[[], None]) -> list[str]:
    """Do ``runs``, ``jobs`` at a time, from the start, and return one line for each that failed.

    Args:
        runs: what to do, in this order.
        jobs: how many processes work side by side; torch's threads are shared out among them.
        watch: called twice a second.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    for run in runs:
        run.folder.clear()
    waiting, working, failures = list(runs), {}, []
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                run = waiting.pop(0)
                working[_started(run, threads)] = run
            wait([process.sentinel for process in working], TICK)
            watch()
            for process in [process for process in working if process.exitcode is not None]:
                failures += _failure(working.pop(process), process.exitcode)
    finally:
        for process in working:
            process.terminate()
            process.join()
    return failures


def report_of(comparison: Comparison, attribution: str) -> Report | None:
    """Read back what the runs came to: the seeds that every arm has finished, or nothing where there is none."""
    whole = {
        seed: runs
        for seed, runs in enumerate(map(comparison.of_seed, range(comparison.seeds)))
        if all(run.folder.finished for run in runs)
    }
    if not whole:
        return None
    results = {arm: [_result(runs[slot].folder) for runs in whole.values()] for slot, arm in enumerate(comparison.arms)}
    scope = scope_of(read_json(next(iter(whole.values()))[0].folder.config))
    return Report(scope, list(whole), results, attribution)


def _result(folder: RunFolder) -> Result:
    return Result(Measures(**read_json(folder.measures)), folder.seconds)


def _started(run: Run, threads: int) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(run, threads), daemon=True)
    process.start()
    return process


def _work(run: Run, threads: int) -> None:
    _end_with_the_parent()
    torch.set_num_threads(threads)
    try:
        job = prepare(run.settings)
        job.run(run.folder, progress_bar=False)
        write_json(run.folder.measures, asdict(measure(job.model, job.splits)))
    except NonFiniteLossError as error:
        _give_up(run.folder, f"diverged: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it was, the parent reports it
        _give_up(run.folder, f"failed: {type(error).__name__}: {error}\n\n{traceback.format_exc()}")


def _give_up(folder: RunFolder, reason: str) -> NoReturn:
    """Leave word for the parent, which reports its first line."""
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.error.write_text(reason, encoding="utf-8")
    sys.exit(1)


def _end_with_the_parent() -> None:
    """Leave Ctrl-C to the parent, which ends its children, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _failure(run: Run, exitcode: int | None) -> list[str]:
    if exitcode == 0:
        return []
    if not run.folder.error.exists():
        return [f"{run.name} ended with exit code {exitcode} and left no word"]
    reason, *_ = run.folder.error.read_text(encoding="utf-8").splitlines()
    return [f"{run.name} {reason} (all of it in {run.folder.error})"]
