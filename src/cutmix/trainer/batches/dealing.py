"""Batches dealt out to ranks, in rounds: each rank has one in each, and all samples come once."""

from __future__ import annotations

import math
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

FEWEST = 2
"""Samples that a batch is not cut below: one alone has no partner, and BatchNorm refuses it."""


class Piece(NamedTuple):
    """What a rank fetches at a time: indices, or whatever else a loader's sampler gives."""

    entry: Any
    first: int  # the number of its first sample in the epoch
    samples: int  # 0 where it is repeated, only so that this rank keeps step


class Share(NamedTuple):
    """How many samples a step has: on this rank, on all, and on the rank with most."""

    here: int
    total: int
    most: int

    @staticmethod
    def alone(samples: int) -> Share:
        """Return that of the only rank."""
        return Share(samples, samples, samples)

    @staticmethod
    def of(rank: int, counts: list[int]) -> Share:
        """Read the ``counts`` of all ranks."""
        return Share(counts[rank], sum(counts), max(counts))

    def weights(self, counts: list[int], size: int, parts: int) -> list[float]:
        """Weigh the mean losses of this rank's microbatches, of ``counts`` samples, in the mean of ``size`` ranks.

        There are as many ``parts`` on each rank: what is beyond this rank's own counts nothing.

        Raises:
            ValueError: when there are not as many samples as the order of the data tells.
        """
        if self.here not in (0, sum(counts)):
            raise ValueError(
                f"train_dataloader must give a sample for each index where several processes train, got {sum(counts)} "
                f"for {self.here}; let collate_fn keep their number, or pass a function that gives each rank its own"
            )
        own = [size * count / self.total for count in counts] if self.here else []
        return own + [0.0] * (parts - len(own))


Round: TypeAlias = "list[Piece]"
Fill: TypeAlias = "Callable[[Round, int], Round]"


def dealt(
    entries: Iterable[Any], size: int, fill: Fill, count: Callable[[Any], int], first: int = 0
) -> Iterator[Round]:
    """Deal ``entries`` to ``size`` ranks, in their order; a last round that is short is what ``fill`` makes of it.

    Samples are numbered from ``first`` on.
    """
    rest = iter(entries)
    while taken := list(islice(rest, size)):
        pieces = []
        for entry in taken:
            pieces.append(Piece(entry, first, count(entry)))
            first += pieces[-1].samples
        yield pieces if len(pieces) == size else fill(pieces, size)


def limited(steps: Iterable[tuple[Any, Sequence[int]]], limit: int | None) -> Iterator[tuple[Any, list[int]]]:
    """Let only the first ``limit`` batches of all ranks count, of steps with so many samples on each rank."""
    left = math.inf if limit is None else limit
    for what, counts in steps:
        passed = accumulate(map(bool, counts), initial=0)
        counted = [samples if before < left else 0 for samples, before in zip(counts, passed, strict=False)]
        yield what, counted
        left -= sum(map(bool, counted))
        if not left:  # before the next step is asked for
            return


def repeated(pieces: Round, size: int) -> Round:
    """Fill a round up with its first piece, which counts once."""
    return [*pieces, *[pieces[0]._replace(samples=0)] * (size - len(pieces))]


def cut(pieces: Round, size: int) -> Round:
    """Fill a round up by cutting its batches into parts as even as can be; never are two batches put together."""
    parts = [1] * len(pieces)
    while sum(parts) < size:
        spare = [at for at, piece in enumerate(pieces) if piece.samples >= FEWEST * (parts[at] + 1)]
        if not spare:
            break
        parts[max(spare, key=lambda at: pieces[at].samples / parts[at])] += 1
    return repeated([part for piece, of in zip(pieces, parts, strict=True) for part in _parts(piece, of)], size)


def _parts(piece: Piece, of: int) -> Iterator[Piece]:
    entry = piece.entry if isinstance(piece.entry, list | tuple) else list(piece.entry)
    bounds = [piece.samples * number // of for number in range(of + 1)]
    return (Piece(entry[a:b], piece.first + a, b - a) for a, b in pairwise(bounds))
