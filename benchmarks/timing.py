"""Timing by turns: each trial runs every arm, so that what slows the machine slows all of them."""

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from time import perf_counter
from typing import Any, TypeAlias, final

import numpy as np
import torch

from recording import record, spread

Arm: TypeAlias = Callable[[], Any]
MOST_DRAWS, FEWEST_DRAWS = 32, 2


@final
@dataclass(frozen=True, slots=True)
class Pace:
    """How much is run: at least two draws of an arm in each trial, and more of those that are quick."""

    trials: int = 15
    seconds_a_trial: float = 0.15
    quick: bool = False


QUICK = Pace(trials=3, seconds_a_trial=0.02, quick=True)


@final
@dataclass(frozen=True, slots=True)
class Times:
    """What an arm took, trial by trial.

    Attributes:
        draws: how many calls a trial has, each with a seed of its own.
        seconds: of one call, the mean over the draws.
        replaced: how much of the batch one call replaced, the mean over the draws; where the call tells it.
    """

    draws: int
    seconds: list[float] = field(default_factory=list)
    replaced: list[float] = field(default_factory=list)


@final
@dataclass(frozen=True, slots=True)
class Must:
    """What an arm may cost at most, in multiples of what another costs.

    Attributes:
        per_replaced: whether both are taken for as much that is replaced.
    """

    arm: str
    over: str
    limit: float
    per_replaced: bool = False


def seed_everything(seed: int) -> None:
    """Seed whatever any library draws from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - Composer and timm draw from it


def timed(arm: Arm, seed: int) -> tuple[float, Any]:
    """Return how many seconds one call takes, and what it returns."""
    seed_everything(seed)
    start = perf_counter()
    result = arm()
    return perf_counter() - start, result


def measure(arms: Mapping[str, Arm], pace: Pace) -> dict[str, Times]:
    """Time every arm in each trial; all arms see the same seeds, slow ones the first of them."""
    times = {name: Times(_draws_of(arm, pace)) for name, arm in arms.items()}
    for trial in range(pace.trials):
        for name, arm in arms.items():
            _run(arm, times[name], trial * MOST_DRAWS)
    return times


def _run(arm: Arm, times: Times, first_seed: int) -> None:
    seconds, replaced = [], []
    for seed in range(first_seed, first_seed + times.draws):
        taken, result = timed(arm, seed)
        seconds.append(taken)
        if hasattr(result, "area"):
            replaced.append(1.0 - torch.as_tensor(result.area).mean().item())
        del result  # before the next call: its memory is not part of what the next one costs
    times.seconds.append(fmean(seconds))
    if replaced:
        times.replaced.append(fmean(replaced))


def _draws_of(arm: Arm, pace: Pace) -> int:
    timed(arm, 0)  # the first call compiles, and touches new memory
    taken = min(timed(arm, seed)[0] for seed in (1, 2))
    return max(FEWEST_DRAWS, min(MOST_DRAWS, int(pace.seconds_a_trial / taken)))


def ratios(arm: Times, over: Times, *, per_replaced: bool = False) -> dict[str, float]:
    """Return what ``arm`` takes in multiples of the median of ``over``; for as much replaced, if asked."""
    unit = median(_costs(over, per_replaced=per_replaced))
    return spread([cost / unit for cost in _costs(arm, per_replaced=per_replaced)], digits=4)


def _costs(times: Times, *, per_replaced: bool) -> list[float]:
    if per_replaced:
        return [seconds / share for seconds, share in zip(times.seconds, times.replaced, strict=True)]
    return times.seconds


def judged(work: str, times: Mapping[str, Times], musts: tuple[Must, ...]) -> list[dict[str, Any]]:
    """Return of each must what was measured, and whether it holds; without those whose peer is left out."""
    return [
        {
            "work": work,
            "arm": must.arm,
            "over": must.over,
            "for_as_much_replaced": must.per_replaced,
            **(figures := ratios(times[must.arm], times[must.over], per_replaced=must.per_replaced)),
            "must": must.limit,
            "holds": figures["median"] <= must.limit,
        }
        for must in musts
        if {must.arm, must.over} <= times.keys()
    ]


def report(name: str, measured: Callable[[Pace], dict[str, Any]]) -> None:
    """Measure, write down, and print the musts; a missed one stops nothing, since the machine may have been busy."""
    pace = QUICK if "--quick" in sys.argv else Pace()
    result = measured(pace)
    if pace.quick:
        print("a few trials on small batches, of which nothing is promised:")
    else:
        record(name, {"trials": pace.trials, **result})
    for must in result["musts"]:
        verdict = "holds " if must["holds"] else "MISSED"
        print(
            f"{verdict} {must['median']:8.3f} <= {must['must']:<5g} {must['work']}: {must['arm']} over {must['over']}"
        )
