"""Settings by the clock: numbers that follow the elapsed share of a run, and when mixing ends."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Protocol, TypeAlias, TypeVar, cast, final

import torch
from torch import Tensor

from cutmix.algorithms.settings import check_number
from cutmix.core.time import Moment, Time

Schedule: TypeAlias = Callable[[float], float]
"""A setting by the elapsed share of the run, from 0 to 1."""

Until: TypeAlias = str | float | Time
"""When mixing ends: a time since the start of the run, ``'270ep'``, or a share of the run, ``0.9``."""

SCHEDULABLE = ("alpha", "p")
SHARES = tuple(step / 256 for step in range(257))


class Timed(Protocol):
    """Settings, frozen, some of which may follow the clock."""

    @property
    def p(self) -> float | Schedule:
        """Return how often, or by which schedule."""

    @property
    def until(self) -> Until | None:
        """Return when it ends."""


T = TypeVar("T", bound=Timed)


@final
@dataclass(frozen=True, slots=True)
class linear:  # noqa: N801 - it is written like the function that it is
    """A setting that goes in a straight line from ``start`` to ``stop`` over the run."""

    start: float
    stop: float

    def __post_init__(self) -> None:
        for name in ("start", "stop"):
            check_number(name, getattr(self, name), 0.0, float("inf"), "it is where the line begins or ends")

    def __call__(self, share: float) -> float:
        """Return the setting when this share of the run, from 0 to 1, is over."""
        low, high = sorted((self.start, self.stop))
        return min(max(self.start + (self.stop - self.start) * share, low), high)


def is_scheduled(settings: Timed) -> bool:
    """Tell whether any of these settings follows the clock."""
    return settings.until is not None or callable(settings.p) or callable(getattr(settings, "alpha", None))


def settled(settings: T, moment: Moment) -> T:
    """Return the settings of one moment, all of them numbers.

    Raises:
        ValueError: when too little is known of the moment, or a schedule comes to what the setting may not be.
    """
    if is_over(settings.until, moment):
        return without_mixing(settings)
    numbers = {name: _number(name, schedule, moment) for name, schedule in _schedules(settings).items()}
    return replace(settings, until=None, **numbers)  # ty: ignore[invalid-argument-type]


def without_mixing(settings: T) -> T:
    """Return the settings with which nothing is mixed."""
    numbers = {**dict.fromkeys(_schedules(settings), 0.0), "p": 0.0}
    return replace(settings, until=None, **numbers)  # ty: ignore[invalid-argument-type]


def is_over(until: Until | None, moment: Moment) -> bool:
    """Tell whether this moment is ``until``, or later."""
    if until is None:
        return False
    if not isinstance(until, str | Time):
        return _share(moment, f"until={until}") >= until
    time = Time.parse(until, "until")
    elapsed = getattr(moment, time.unit)
    if elapsed is None:
        raise ValueError(
            f"time must be counted in the unit of until={str(time)!r}, got {moment}: pass at(epoch, of=epochs), "
            "or give until as a share of the run"
        )
    return elapsed >= time.value


def check_schedule(setting: float | Schedule, check: Callable[[float], None]) -> None:
    """Check a number, or what a schedule comes to over its whole range, at 257 moments.

    Raises:
        TypeError: when it is no number.
        ValueError: when it is out of its range.
    """
    if isinstance(setting, Tensor) and torch.compiler.is_compiling():
        return  # nobody knows its number there
    if not callable(setting):
        check(setting)
        return
    schedule = cast("Schedule", setting)
    numbers = [schedule(share) for share in SHARES]
    for share, number in zip(SHARES, numbers, strict=True):
        try:
            check(number)
        except (TypeError, ValueError) as error:
            error.add_note(f"That is what {setting!r} comes to when {share:.1%} of the run is over.")
            raise


def check_until(until: Until | None) -> None:
    """Check when mixing ends.

    Raises:
        TypeError: when it is neither a time nor a share.
        ValueError: when the time cannot be read, or the share lies outside (0, 1].
    """
    if until is None:
        return
    if isinstance(until, str | Time):
        Time.parse(until, "until")
    elif isinstance(until, Integral) or not isinstance(until, Real):
        raise TypeError(f"until must be a time or a share of the run, got {until!r}: write '270ep' or 0.9")
    elif not 0.0 < until <= 1.0:
        raise ValueError(f"until must lie in (0, 1] as a share of the run, got {until}: for a time write '270ep'")


def _schedules(settings: object) -> dict[str, Schedule]:
    found = {name: getattr(settings, name, None) for name in SCHEDULABLE}
    return {name: setting for name, setting in found.items() if callable(setting)}


def _number(name: str, schedule: Schedule, moment: Moment) -> float:
    return schedule(_share(moment, f"{name}={schedule!r}"))


def _share(moment: Moment, follower: str) -> float:
    if moment.share is None:
        raise ValueError(
            f"time must come with the length of the run, which {follower} goes by, got {moment} alone: "
            "pass at(epoch, of=epochs), or at('12ep', of='300ep')"
        )
    return moment.share
