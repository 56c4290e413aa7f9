"""How long, and how far."""

import re
from dataclasses import dataclass
from numbers import Real
from typing import Literal, NamedTuple, TypeAlias, final

Unit: TypeAlias = Literal["ep", "ba", "sp"]
_UNITS: dict[str, Unit] = {"ep": "ep", "ba": "ba", "sp": "sp"}
_PLACES: dict[Unit, int] = {"ep": 0, "ba": 1, "sp": 2}  # among the fields of a Timestamp


class Timestamp(NamedTuple):
    """How far a run has come: what is behind it, in whole numbers."""

    epoch: int = 0
    batch: int = 0
    sample: int = 0
    batch_in_epoch: int = 0
    sample_in_epoch: int = 0

    def get(self, unit: Unit) -> int:
        """Return how many epochs, batches or samples are behind the run."""
        return self[_PLACES[unit]]

    def reached(self, time: "Time") -> bool:
        """Tell whether ``time``, counted from the start of the run, has come."""
        return self.get(time.unit) >= time.value

    def share_of(self, duration: "Time", batches_per_epoch: int | None) -> float:
        """Return how much of ``duration``, from the start of the run, is over: by batches where that can be told."""
        return min(self.elapsed(duration.unit, batches_per_epoch) / duration.value, 1.0)

    def elapsed(self, unit: Unit, batches_per_epoch: int | None) -> float:
        """Return how many epochs, batches or samples are behind the run, parts of an epoch too if they can be told."""
        begun = self.batch_in_epoch / batches_per_epoch if unit == "ep" and batches_per_epoch is not None else 0
        return self.get(unit) + begun

    def next_batch(self, samples: int) -> "Timestamp":
        """Return the time after one more batch, of ``samples`` samples."""
        return Timestamp(
            self.epoch,
            self.batch + 1,
            self.sample + samples,
            self.batch_in_epoch + 1,
            self.sample_in_epoch + samples,
        )

    def next_epoch(self) -> "Timestamp":
        """Return the time at the start of the next epoch."""
        return Timestamp(self.epoch + 1, self.batch, self.sample)


@final
@dataclass(frozen=True, slots=True)
class Time:
    """A stretch of training: at least one epoch (``ep``), batch (``ba``) or sample (``sp``)."""

    value: int
    unit: Unit = "ep"

    @staticmethod
    def parse(time: "str | int | Time", argument: str = "duration") -> "Time":
        """Read ``'3ep'``, ``'500ba'``, ``'50000sp'`` or a whole number of epochs; errors call it ``argument``."""
        if isinstance(time, Time):
            return time
        found = re.fullmatch(r"(\d+)\s*(ep|ba|sp)", time.strip()) if isinstance(time, str) else None
        value, unit = (int(found[1]), _UNITS[found[2]]) if found else (time, "ep")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{argument} must be at least one epoch, batch or sample, got {time!r}; "
                "write '3ep', '500ba', '50000sp' or a whole number of epochs"
            )
        return Time(value, unit)

    def after(self, start: Timestamp) -> "Time":
        """Return the time at which this stretch ends when it begins at ``start``."""
        return Time(start.get(self.unit) + self.value, self.unit)

    def divides(self, before: Timestamp, now: Timestamp) -> bool:
        """Tell whether a whole multiple of this stretch lies behind ``now`` and not yet behind ``before``."""
        return before.get(self.unit) // self.value < now.get(self.unit) // self.value

    def __str__(self) -> str:
        return f"{self.value}{self.unit}"


@final
@dataclass(frozen=True, slots=True)
class Moment:
    """A point of a run, as far as it is known: the share of the run that is over, the epochs, batches and samples."""

    share: float | None = None
    ep: float | None = None
    ba: float | None = None
    sp: float | None = None

    @staticmethod
    def parse(time: "float | str | Moment", of: "str | int | Time | None" = None) -> "Moment":
        """Read a share of the run, ``0.04``; a time, ``'12ep'``; or a time ``of`` the run's length, in its unit.

        Raises:
            ValueError: when it cannot be read, or lies outside the run.
        """
        if isinstance(time, Moment):
            return time
        length = None if of is None else Time.parse(of, "of")
        count, unit = _counted(time)
        if length is None and unit is not None:
            return Moment(**{unit: count})
        run = 1 if length is None else length.value
        if not 0.0 <= count <= run or (length and unit not in (None, length.unit)):
            raise ValueError(
                f"time must lie in the run, from 0 to {length or '1, as a share of it'}, got {time!r}: "
                "pass at(epoch / epochs), at(epoch, of=epochs) or at('12ep', of='300ep')"
            )
        return Moment(count / run) if length is None else Moment(count / run, **{length.unit: count})

    def __str__(self) -> str:
        known = {unit: count for unit in _UNITS if (count := getattr(self, unit)) is not None}
        return ", ".join(f"'{count:g}{unit}'" for unit, count in known.items()) or f"{self.share:g} of the run"


def _counted(time: object) -> tuple[float, Unit | None]:
    """Return a number, and the unit that is written behind it."""
    if isinstance(time, Real) and not isinstance(time, bool):
        return float(time), None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ep|ba|sp)", time.strip()) if isinstance(time, str) else None
    if found is None:
        raise ValueError(
            f"time must be a share of the run from 0 to 1, or a time such as '12ep' or '500ba', got {time!r}: "
            "pass at(epoch / epochs), at(epoch, of=epochs) or at('12ep', of='300ep')"
        )
    return float(found[1]), _UNITS[found[2]]
