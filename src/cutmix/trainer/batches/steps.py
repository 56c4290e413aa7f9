"""The steps of an epoch on one rank; what torch's own samplers draw is listed when its batch comes, and not before."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from cutmix.trainer.batches.dealing import Piece
from cutmix.trainer.batches.sources import least

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cutmix.trainer.batches.dealing import Share

    Indices: TypeAlias = NDArray[np.int64]

Step: TypeAlias = "tuple[Piece, Share | None]"
"""What a rank fetches, and what part of the step that is; None where there is one rank."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What a rank fetches, and its share of each step: first of ``even`` ones, with a whole batch on each rank."""

    even: Indices  # (steps, batch)
    first: int  # the number of this rank's first sample in the epoch
    apart: int  # how many samples an even step has on all ranks
    even_share: Share | None
    rest: Sequence[Step]

    @staticmethod
    def of(rank: int, rounds: Indices, share: Share | None, rest: Sequence[Step]) -> Steps:
        """Take this rank's batches of ``rounds``, (rounds, size, batch), of each of which it has the same share."""
        _, size, batch = rounds.shape
        return Steps(np.ascontiguousarray(rounds[:, rank]), rank * batch, size * batch, share, rest)

    def __len__(self) -> int:
        return len(self.even) + len(self.rest)

    def piece(self, number: int) -> Piece:
        """Return what is fetched in step ``number``, and where it stands in the epoch."""
        if number >= len(self.even):
            return self.rest[number - len(self.even)][0]
        entry = self.entry(number)
        return Piece(entry, self.first + number * self.apart, len(entry))

    def entry(self, number: int) -> Any:  # noqa: ANN401 - whatever the sampler gives
        """Return what is fetched in step ``number``."""
        return self.even[number].tolist() if number < len(self.even) else self.rest[number - len(self.even)][0].entry

    def share(self, number: int) -> Share | None:
        """Return this rank's share of step ``number``."""
        return self.even_share if number < len(self.even) else self.rest[number - len(self.even)][1]


def rounds_of(sampler: Iterable[Any], size: int, limit: int | None) -> tuple[Indices, Iterable[Any]]:
    """Draw at most ``limit`` batches: those of even rounds, (rounds, size, batch), and one by one what comes after.

    Of other samplers than torch's own all come one by one: what these draw is known without asking for each index.
    """
    if type(sampler) is not BatchSampler or (indices := _indices(sampler.sampler)) is None:
        return no_rounds(size), islice(sampler, limit)
    batch, most = sampler.batch_size, least(len(sampler), limit) or 0
    even = min(len(indices) // batch, most) // size * size * batch
    rest = indices[even : most * batch]
    return indices[:even].reshape(-1, size, batch), (
        rest[at : at + batch].tolist() for at in range(0, len(rest), batch)
    )


def no_rounds(size: int = 1) -> Indices:
    """Return rounds of which there are none."""
    return np.empty((0, size, 1), np.int64)


def _indices(sampler: object) -> Indices | None:
    """Draw what torch's own samplers give, the same to the bit; None of any other, or where an index comes twice."""
    if type(sampler) is SequentialSampler:
        return np.arange(len(sampler))
    if type(sampler) is not RandomSampler or sampler.replacement or len(sampler) != len(sampler.data_source):
        return None
    return torch.randperm(len(sampler), generator=sampler.generator or _seeded_by_the_default()).cpu().numpy()


def _seeded_by_the_default() -> torch.Generator:
    """Return the generator of a ``RandomSampler`` that was given none."""
    return torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
