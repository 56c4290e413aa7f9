"""Batches that come in an order of their own: of each rank's own stream."""

from __future__ import annotations

from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cutmix.core.callback import Callback
from cutmix.keys import fold
from cutmix.trainer.batches.dealing import Share, limited
from cutmix.trainer.batches.sources import (
    generators_of,
    iterate,
    keyed,
    least,
    length,
    makes_new_memory,
    own,
    samplers_of,
)
from cutmix.trainer.callbacks.progress import say
from cutmix.trees import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cutmix.core.batch import Batch
    from cutmix.core.world import World
    from cutmix.trainer.batches.sources import Source, Use

_END = object()


@final
class GivenBatches:
    """Batches that come in an order of their own: a generator, a stream. Each rank has its own.

    ``are_new`` tells whether a batch's memory may be written to.
    """

    def __init__(self, source: Source, use: Use) -> None:
        self.are_new = makes_new_memory(source)
        _say_own_streams(use)
        self.per_epoch = _least_of_all(source, use)
        self._source = own(source) if isinstance(source, DataLoader) else source
        self._use = use

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, Share | None]]:
        """Iterate over the batches of ``epoch`` from number ``start`` on; those before it are fetched and dropped."""
        world, key = self._use.world, fold(self._use.seed, "data", epoch)
        torch.default_generator.manual_seed(key + world.rank)
        batches = iterate(self._source)
        passed = 0 if batches is self._source else start  # an iterator goes on where it stopped
        if passed and self._use.aloud:
            say(f"train_dataloader tells of no order: {passed} batches are fetched again, and passed over.")
        drawn = keyed(batches, key, (start - passed) * world.size + world.rank, world.size)
        return _in_step(islice(drawn, passed, _end(self._use, start, passed)), self._use)

    def samples(self, number: int) -> None:
        """Return nothing: only the source knows."""


@final
class StatefulBatches(Callback):
    """Batches of a loader that tells where it is, and goes on from there: ``torchdata``'s StatefulDataLoader.

    Its order is its own, and so is each rank's; what draws it from generators that the loader holds does so under the
    seed. ``are_new`` tells whether a batch's memory may be written to.
    """

    def __init__(self, loader: Any, use: Use) -> None:  # noqa: ANN401 - anything with these two methods
        self.are_new = makes_new_memory(loader)
        _say_own_streams(use)
        self.per_epoch = _least_of_all(loader, use)
        self._loader = loader
        self._use = use
        self._batches: Iterator[Batch] | None = None
        self._passed = 0  # batches of the epoch
        self._is_within = False  # whether the loader has not been told that its epoch is over

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, Share | None]]:
        """Iterate over the batches of ``epoch`` from number ``start`` on, which is where the loader is."""
        world, key = self._use.world, fold(self._use.seed, "data", epoch)
        torch.default_generator.manual_seed(key + world.rank)
        if self._batches is None and start == 0 and self._is_within:
            iter(self._loader)  # takes up the state that was loaded; the next one begins an epoch, as it would have
        if self._batches is None or start == 0:
            self._batches = self._begun(epoch)
        passed, self._passed = (0 if self._passed == start else start), start
        drawn = keyed(self._counted(self._batches), key, (start - passed) * world.size + world.rank, world.size)
        return _in_step(islice(drawn, passed, _end(self._use, start, passed)), self._use)

    def samples(self, number: int) -> None:
        """Return nothing: only the loader knows."""

    def state_dict(self) -> dict[str, Any]:
        told = {"loader": self._loader.state_dict(), "passed": self._passed, "is_within": self._is_within}
        return {"ranks": self._use.world.gathered(told)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        ranks, world = state["ranks"], self._use.world
        if len(ranks) != world.size:
            raise ValueError(
                f"train_dataloader tells where it is, and must go on with as many processes as then, {len(ranks)}, got "
                f"{world.size}; start that many"
            )
        told = ranks[world.rank]
        self._loader.load_state_dict(told["loader"])
        self._batches, self._passed, self._is_within = None, told["passed"], told["is_within"]

    def _begun(self, epoch: int) -> Iterator[Batch]:
        """Begin ``epoch``, in an order that depends on the seed; or go on in it, where a state was loaded."""
        if isinstance(self._loader, DataLoader):
            for generator in generators_of([self._loader, *samplers_of(self._loader)]):
                generator.manual_seed(fold(self._use.seed, "order", epoch))
        return iter(self._loader)

    def _counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._passed += 1
            self._is_within = True
            yield batch
        self._is_within = False


def _in_step(batches: Iterator[Batch], use: Use) -> Iterator[tuple[Batch, Share | None]]:
    """Give each batch of a rank's own stream its share: all ranks tell how many samples they have.

    In training an epoch ends for all of them when one stream ends; in evaluation a rank that is through goes along,
    with its last batch, or another rank's where it has none.
    """
    if use.world.size == 1:
        return zip(batches, repeat(None))
    steps = limited(_to_the_last(batches, use), use.limit) if use.measures else _to_the_first_end(batches, use)
    return ((batch, Share.of(use.world.rank, counts)) for batch, counts in steps)


def _to_the_first_end(batches: Iterator[Batch], use: Use) -> Iterator[tuple[Batch, list[int]]]:
    while True:
        batch = next(batches, _END)
        counts = [samples for (samples,) in use.world.counts(0 if batch is _END else use.count(batch))]
        if not all(counts):
            return
        yield batch, counts


def _to_the_last(batches: Iterator[Batch], use: Use) -> Iterator[tuple[Batch, tuple[int, ...]]]:
    world, last = use.world, _END
    while True:
        batch = next(batches, _END)
        last = last if batch is _END else batch
        told = world.counts(0 if batch is _END else use.count(batch), last is not _END)
        counts, have_one = zip(*told, strict=True)
        if not any(counts):
            return
        if not all(have_one):
            lent = _lent(last, have_one.index(1), world)
            last = lent if last is _END else last
        yield last, counts


def _lent(batch: Batch, lender: int, world: World) -> Batch:
    """Return the batch of the ``lender``, on the host: what it holds, not the memory that it is a view of."""

    def own(leaf: Any) -> Any:  # noqa: ANN401 - whatever a batch holds
        return leaf.to("cpu", copy=True) if isinstance(leaf, Tensor) else leaf

    return world.gathered(walk(batch, own) if world.rank == lender else None)[lender]


def _say_own_streams(use: Use) -> None:
    """Say what several ranks must know of a source that cannot be dealt out."""
    if use.aloud and use.world.size > 1:
        say(
            f"train_dataloader has no order that {use.world.size} processes could deal out: each trains on its own "
            "stream, which must give other samples on each rank, and an epoch ends with the first that ends."
        )


def _least_of_all(source: object, use: Use) -> int | None:
    """Return how many batches an epoch has on every rank; None where only its end will tell."""
    lengths = [length for length in use.world.gathered(length(source)) if length is not None]
    return least(min(lengths) if len(lengths) == use.world.size else None, use.limit)


def _end(use: Use, start: int, passed: int) -> int | None:
    return None if use.limit is None else passed + use.limit - start
