"""What several processes bring, and what the Trainer's machinery costs a step, beside the loops of other libraries.

Run ``PYTHONPATH=build/peers python benchmarks/scaling.py``; it writes ``benchmarks/results/scaling.json``. With
``--quick`` a few steps are run and nothing is written. Each process has one thread. For the cost of a step the
processes are started once, and each trial runs every arm in turn (``scaling_arms.py``); an overhead is the median over
the trials of the difference between two arms of one trial. For what two processes bring, jobs of one and of two take
turns.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from recording import record, spread

ARMS = Path(__file__).with_name("scaling_arms.py")
WORLDS = {"one process": 1, "two processes": 2}
TRIALS, STEPS, JOBS = 41, 400, 3
QUICK_TRIALS, QUICK_STEPS, QUICK_JOBS = 3, 5, 2
BARE, OURS = "bare", "Trainer"
MUSTS = {BARE: 100.0, "Fabric": 0.0, "Accelerate": 0.0}
"""What a step of the Trainer is held against, and the most microseconds that it may take longer."""


def main() -> None:
    """Measure, print, and write down."""
    quick = "--quick" in sys.argv
    trials, steps, jobs = (QUICK_TRIALS, QUICK_STEPS, QUICK_JOBS) if quick else (TRIALS, STEPS, JOBS)
    told = {name: launched(size, "overhead", trials, steps) for name, size in WORLDS.items()}
    rates = [
        [launched(size, "training", 1, max(1, steps // 16))["images_per_second"] for size in WORLDS.values()]
        for _ in range(jobs)
    ]
    overheads = [overhead for name, one in told.items() for overhead in overheads_of(name, one["times"], one["works"])]
    for row in overheads:
        if row["must"] is not None:
            verdict = "holds " if row["holds"] else "MISSED"
            print(f"{verdict} {row['median']:8.1f} <= {row['must']:<5g} {row['work']}: {row['arm']} over {row['over']}")
    result = {
        "what": "microseconds a step: linear model, batch 2 of 3x8x8 a process, CutMix in each arm, a thread a process",
        "trials": trials,
        "steps_per_trial": steps,
        "peers": next(iter(told.values()))["peers"],
        "bare_step": {name: spread(one["times"][BARE]) for name, one in told.items()},
        "overheads": overheads,
        "training": training_of(rates),
    }
    if quick:
        print("a few steps, of which nothing is promised")
    else:
        record("scaling", result)


def overheads_of(work: str, times: dict[str, list[float]], works: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return how much longer a step takes in each arm than in the bare loop, and in ours than in the peers' loops.

    By the clock, and of it what the first process's main thread is at work, which no other program disturbs.
    """
    pairs = [*((arm, BARE) for arm in times if arm != BARE), *((OURS, arm) for arm in times if arm not in (BARE, OURS))]
    rows = []
    for arm, base in pairs:
        figures = spread([own - other for own, other in zip(times[arm], times[base], strict=True)])
        at_work = spread([own - other for own, other in zip(works[arm], works[base], strict=True)])
        must = MUSTS[base] if arm == OURS else None
        holds = None if must is None else figures["median"] <= must
        row = {"work": work, "arm": arm, "over": base, **figures, "at_work": at_work, "must": must, "holds": holds}
        rows.append(row)
    return rows


def training_of(rates: list[list[list[float]]]) -> dict[str, Any]:
    """Return how many images a second are trained on, job by job, and what the second process brings."""
    one, two = ([job[world][0] for job in rates] for world in range(len(WORLDS)))
    return {
        "what": "images a second: ResNet-8 with CutMix, 32 of 3x32x32 a process, a thread a process",
        "jobs": len(rates),
        **{name: spread(figures) for name, figures in zip(WORLDS, (one, two), strict=True)},
        "times_as_fast": spread([both / alone for alone, both in zip(one, two, strict=True)]),
    }


def launched(processes: int, what: str, trials: int, steps: int) -> dict[str, Any]:
    """Let ``processes`` measure together, and return what the first tells."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        launch = [sys.executable, "-m", "cutmix", "launch", "-n", str(processes), str(ARMS)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*launch, what, str(trials), str(steps), str(told)], check=True, env=environment)  # noqa: S603
        return json.loads(told.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
