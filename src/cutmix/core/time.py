"""How long, and how far."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

Unit: TypeAlias = Literal["ep", "ba", "sp"]
_UNITS: dict[str, Unit] = {"ep": "ep", "ba": "ba", "sp": "sp"}


@final
@dataclass(frozen=True, slots=True)
class Timestamp:
    """How far a run has come: what is behind it, in whole numbers."""

    epoch: int = 0
    batch: int = 0
    sample: int = 0
    batch_in_epoch: int = 0
    sample_in_epoch: int = 0

    def get(self, unit: Unit) -> int:
        """Return how many epochs, batches or samples are behind the run."""
        match unit:
            case "ep":
                return self.epoch
            case "ba":
                return self.batch
            case "sp":
                return self.sample

    def reached(self, time: "Time") -> bool:
        """Tell whether ``time``, counted from the start of the run, has come."""
        return self.get(time.unit) >= time.value

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
