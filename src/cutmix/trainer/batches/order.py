"""Which batches come, and in which order: from any batch of any epoch on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice, repeat, zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias, final

import torch
from torch.utils.data import DataLoader

from cutmix.core.keyed import Keyed, Seeding, places
from cutmix.keys import fold
from cutmix.trainer.batches.dealing import Share, cut, dealt, limited, repeated
from cutmix.trainer.batches.sources import (
    check,
    generators_of,
    keyed,
    least,
    length,
    makes_new_memory,
    own,
    rows_of,
    samplers_of,
)
from cutmix.trainer.batches.steps import Step, Steps, no_rounds, rounds_of
from cutmix.trainer.batches.streams import GivenBatches, StatefulBatches
from cutmix.trainer.runtime import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cutmix.core.batch import Batch
    from cutmix.trainer.batches.sources import Source, Use


def batches_of(source: Source, argument: str, use: Use) -> Batches:
    """Put ``source`` in order; errors call it ``argument``."""
    check(source, argument)
    if not use.measures and all(callable(getattr(source, name, None)) for name in ("state_dict", "load_state_dict")):
        return StatefulBatches(source, use)
    if use.world.size > 1 and isinstance(source, Sequence):
        source = DataLoader(source, batch_size=None, collate_fn=_as_it_is)  # ty: ignore[invalid-argument-type]
    if isinstance(source, DataLoader) and length(source) is not None:
        return DrawnBatches(source, use, argument)
    return GivenBatches(source, use)


@final
class DrawnBatches:
    """Batches whose order is drawn from the sampler of the user's DataLoader, once for an epoch.

    It is a pure function of (seed, epoch) where the sampler draws from torch's generators, and so all ranks draw the
    same; then they deal it out. What torch's generators draw in the data set or in ``collate_fn`` depends on the number
    of the batch, not on the workers. The loader is left as it is: a copy of it fetches what is drawn here. ``are_new``
    tells whether a batch's memory may be written to.
    """

    def __init__(self, loader: DataLoader[Any], use: Use, argument: str) -> None:
        self.are_new = makes_new_memory(loader)
        self._use = use
        self._argument = argument
        self._samplers = samplers_of(loader)
        self._is_whole = loader.batch_sampler is None  # what the sampler gives is a batch, not a list of samples
        self._is_dealt = any(hasattr(sampler, "num_replicas") for sampler in self._samplers)  # by a sampler of its own
        self._epoch = -1  # the epoch of the order
        self._steps = Steps.of(0, no_rounds(), None, [])
        self._rest = _Rest()
        self._fetcher = own(loader)
        # Into __dict__, since a DataLoader refuses to have these set.
        self._fetcher.__dict__["sampler" if self._is_whole else "batch_sampler"] = self._rest
        if loader.num_workers:
            self._fetcher.__dict__["dataset"] = Seeding(loader.dataset)
        self._rows = rows_of(loader)
        self._is_keyed = isinstance(loader.dataset, Keyed)

    @property
    def per_epoch(self) -> int | None:
        """Return how many batches an epoch has on each rank."""
        batches, ranks = length(self._samplers[0]), 1 if self._is_dealt else self._use.world.size
        return least(None if batches is None else -(-batches // ranks), self._use.limit)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, Share | None]]:
        """Iterate over the batches of ``epoch`` from number ``start`` on; those before it are not fetched."""
        if epoch != self._epoch or start == 0:
            self._draw(epoch)
        world, key = self._use.world, fold(self._use.seed, "data", epoch)
        first = start * world.size + world.rank
        self._rest.numbers = range(start, len(self._steps))
        self._rest.entries = self._entries(epoch, key)
        torch.default_generator.manual_seed(key + first)  # of the workers
        fetched = iter(self._fetcher) if self._rows is None else map(self._rows, self._rest)
        batches = keyed(fetched, key, first, world.size)
        if world.size == 1:
            return zip(batches, repeat(None))
        return map(self._agreed, batches, map(self._steps.share, self._rest.numbers))

    def samples(self, number: int) -> Callable[[], Any]:
        """Return what finds the indices of the samples in batch ``number`` of the epoch at hand, at any time."""
        return partial(self._steps.entry, number)

    def _draw(self, epoch: int) -> None:
        for sampler in self._samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        with seeded(fold(self._use.seed, "order", epoch), (torch.default_generator, *generators_of(self._samplers))):
            self._steps = self._taken() if self._is_dealt else self._dealt()
        self._epoch = epoch

    def _dealt(self) -> Steps:
        """Take this rank's batches of those that all ranks draw alike."""
        use, rank, size, rest = self._use, self._use.world.rank, self._use.world.size, list[Step]()
        limit = use.limit if use.limit is None or use.measures else use.limit * size
        fill = repeated if self._is_whole or use.measures else cut
        sampler = iter(self._samplers[0]) if self._is_whole else self._samplers[0]  # whose indices are then the batches
        rounds, entries = rounds_of(sampler, size, limit)
        ends = rounds[:: max(1, len(rounds) - 1), 0].tolist()
        for pieces in dealt(entries, size, fill, self._count, rounds.size):
            rest.append((pieces[rank], self._share([piece.samples for piece in pieces])))
            ends = [*ends[:1], pieces[0]]
        steps = Steps.of(rank, rounds, self._share([rounds.shape[-1]] * size), rest)
        if len(set(use.world.counts(fold(len(steps), repr(ends))))) > 1:
            raise ValueError(
                f"{self._argument} must be drawn in the same order on every rank, got another one on each; let its "
                "sampler draw from torch's generators, and hand the whole data set in on every rank"
            )
        return steps

    def _taken(self) -> Steps:
        """Take the batches that a sampler has dealt to this rank; in training an epoch ends when one of them ends."""
        use = self._use
        order = [piece for (piece,) in dealt(islice(self._samplers[0], use.limit), 1, repeated, self._count)]
        counts = use.world.gathered([piece.samples for piece in order])
        steps = [list(step) for step in zip_longest(*counts, fillvalue=0) if use.measures or all(step)]
        steps = [step for _, step in limited(enumerate(steps), use.limit)] if use.measures else steps
        if not all(counts) and steps:  # who was dealt nothing goes along with what another rank was
            (lent,) = next(filter(None, use.world.gathered(order[:1])))
            order = order or [lent._replace(samples=0)]
        order += [piece._replace(samples=0) for piece in order[-1:]] * (len(steps) - len(order))
        taken = [(piece, self._share(step)) for piece, step in zip(order, steps, strict=False)]
        return Steps.of(0, no_rounds(), None, taken)

    def _share(self, counts: list[int]) -> Share | None:
        return None if self._use.world.size == 1 else Share.of(self._use.world.rank, counts)

    def _count(self, entry: Any) -> int:  # noqa: ANN401
        return 1 if self._is_whole else len(entry)

    def _agreed(self, batch: Batch, share: Share | None) -> tuple[Batch, Share | None]:
        """Return ``batch`` with its share; where the order does not tell how many samples there are, all ranks do."""
        use = self._use
        if share is None or use.measures or not self._is_whole:
            return batch, share
        told = use.world.counts(use.count(batch) if share.here else 0)
        return batch, Share.of(use.world.rank, [samples for (samples,) in told])

    def _entries(self, epoch: int, key: int) -> Iterator[Any]:
        """Say what is left to fetch, with the keys that it is drawn by."""
        world = self._use.world
        of_samples = fold(self._use.seed, "sample", epoch, world.rank if self._is_dealt else 0)
        for number in self._rest.numbers:
            entry = self._steps.entry(number)
            if self._is_keyed:
                piece = self._steps.piece(number)
                located = places([entry] if self._is_whole else entry, of_samples, piece.first)
                entry = next(located) if self._is_whole else list(located)
            yield ((key + number * world.size + world.rank) % 2**32, entry) if self._fetcher.num_workers else entry


Batches: TypeAlias = DrawnBatches | GivenBatches | StatefulBatches


@final
class _Rest:
    """What stands for the sampler of a loader: what is left of an epoch."""

    def __init__(self) -> None:
        self.numbers = range(0)
        self.entries: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        return self.entries

    def __len__(self) -> int:
        return len(self.numbers)


def _as_it_is(batch: Batch) -> Batch:
    return batch
