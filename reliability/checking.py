"""A check, how often it is tried, and what came of it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable


@final
@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a check: an empty folder of its own, its number, and the chance that it draws from."""

    folder: Path
    number: int
    chance: Random

    def one_of(self, cases: Any) -> Any:  # noqa: ANN401
        """Return a case, so that all have their turn."""
        return list(cases)[self.number % len(cases)]


@final
@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold each time it is tried; ``hold`` raises where it does not."""

    name: str
    count: int
    must: str
    hold: Callable[[Attempt], None]

    @property
    def tenth(self) -> int:
        """Return a tenth of the count, for the tests."""
        return max(1, self.count // 10)


@final
@dataclass(frozen=True, slots=True)
class Row:
    """What came of a check."""

    check: str
    must: str
    count: int
    passed: int
    seconds: float
    seed: int
    failures: list[str]


def tried(check: Check, count: int, seed: int) -> Row:
    """Try a check ``count`` times."""
    begin, failures = perf_counter(), []
    for number in range(count):
        with TemporaryDirectory(prefix="reliability-", ignore_cleanup_errors=True) as folder:
            try:
                check.hold(Attempt(Path(folder), number, Random(f"{seed} {check.name} {number}")))
            except Exception:  # noqa: BLE001 - whatever it was, the attempt has failed
                failures.append(f"attempt {number}: {traceback.format_exc()}")
    seconds = round(perf_counter() - begin, 1)
    return Row(check.name, check.must, count, count - len(failures), seconds, seed, failures)
