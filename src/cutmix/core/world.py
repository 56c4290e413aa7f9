"""The processes that train one model together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class World:
    """Who trains together: here one process, which hears only itself.

    Each method is called by all ranks at the same point of the run, or by none: a rank that calls alone waits for ever.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes of this machine

    def barrier(self) -> None:
        """Wait until all ranks have come here."""

    def broadcast(self, value: Value) -> Value:
        """Return rank 0's ``value``: anything that can be pickled."""
        return value

    def gathered(self, value: Value) -> list[Value]:
        """Return every rank's ``value``, in the order of the ranks: anything that can be pickled."""
        return [value]

    def collected(self, value: Value) -> list[Value]:
        """Return on rank 0 every rank's ``value``, in the order of the ranks; elsewhere nothing."""
        return [value]

    def counts(self, *numbers: int) -> list[tuple[int, ...]]:
        """Return every rank's ``numbers``, in the order of the ranks: a fraction of what ``gathered`` costs."""
        return self.counts_later(*numbers)()

    def counts_later(self, *numbers: int) -> Callable[[], list[tuple[int, ...]]]:
        """Begin to gather ``counts``, and return what waits for them: all ranks go on meanwhile."""
        return lambda: [numbers]

    def agreed(self, act: Callable[[], Value]) -> Value:
        """Return what ``act`` returns here, once it has come to its end on all ranks.

        An error that it raises on one rank, which refuses, is raised on all; where it is none of Python's or this
        library's own OSErrors and ValueErrors, the others raise a RuntimeError that tells of it.
        """
        return act()

    def led(self, act: Callable[[], object]) -> None:
        """Let rank 0 ``act`` while the others wait; what it raises is raised on all, as ``agreed`` does it."""
        self.agreed(act if self.rank == 0 else _nothing)

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of all ranks' tensors, which are alike in shape and dtype; the same to the bit on each."""
        return tensor

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Write rank 0's ``tensors`` over those of the other ranks, which are alike in shape and dtype."""


def _nothing() -> None:
    """Leave it to rank 0."""


ALONE = World()
