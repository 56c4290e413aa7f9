"""Which batches come, and in which order: from any batch of any epoch on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import count, islice
from typing import Any, TypeAlias, final

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from cutmix.core.batch import Batch
from cutmix.keys import fold
from cutmix.trainer.runtime import seeded

Source: TypeAlias = Iterable[Batch] | Callable[[], Iterable[Batch]]
"""A DataLoader, any other iterable of batches, or a function that makes one for each epoch."""


def batches_of(source: Source, argument: str, *, seed: int, limit: int | None) -> DrawnBatches | GivenBatches:
    """Put ``source`` in order; errors call it ``argument``, and ``limit`` is the most batches an epoch has."""
    check(source, argument)
    if isinstance(source, DataLoader) and _length(source) is not None:
        return DrawnBatches(source, seed, limit)
    return GivenBatches(source, seed, limit)


def limit_for(argument: str, batches: int) -> int | None:
    """Read how many batches to take at most; -1 is all of them, here None."""
    if batches < 1 and batches != -1:
        raise ValueError(f"{argument} must be at least 1, got {batches}; -1 takes all batches")
    return None if batches == -1 else batches


@final
class DrawnBatches:
    """Batches whose order is drawn from the sampler of the user's DataLoader, once for an epoch.

    It is a pure function of (seed, epoch) where the sampler draws from torch's generators. The loader is left as it is:
    a copy of it fetches what is drawn here. ``are_new`` tells whether a batch's memory may be written to.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, limit: int | None) -> None:
        self.are_new = makes_new_memory(loader)
        self._samplers = _samplers(loader)
        self._seed = seed
        self._limit = limit
        self._epoch = -1  # the epoch of the order
        self._order: list[Any] = []
        self._drawn: list[Any] = []  # what is left of the order
        self._fetcher = _own(loader)
        # Into __dict__, since a DataLoader refuses to have its sampler set.
        self._fetcher.__dict__["sampler" if loader.batch_sampler is None else "batch_sampler"] = self._drawn

    @property
    def per_epoch(self) -> int | None:
        """Return how many batches an epoch has."""
        return _least(_length(self._samplers[0]), self._limit)

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """Iterate over the batches of ``epoch`` from number ``start`` on; those before it are not fetched."""
        if epoch != self._epoch:
            self._draw(epoch)
        self._drawn[:] = self._order[start:]
        key = fold(self._seed, "data", epoch)
        torch.default_generator.manual_seed(key + start)  # of the workers, which draw anew from here on
        return _keyed(iter(self._fetcher), key, start)

    def samples(self, number: int) -> Any:  # noqa: ANN401 - whatever the sampler gives
        """Return the indices of the samples in batch ``number`` of the epoch at hand."""
        return self._order[number]

    def _draw(self, epoch: int) -> None:
        for sampler in self._samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        with seeded(fold(self._seed, "order", epoch), (torch.default_generator, *_generators(self._samplers))):
            self._order = list(islice(self._samplers[0], self._limit))
        self._epoch = epoch


@final
class GivenBatches:
    """Batches that come in an order of their own: a list, a generator, a stream.

    ``are_new`` tells whether a batch's memory may be written to.
    """

    def __init__(self, source: Source, seed: int, limit: int | None) -> None:
        self.are_new = makes_new_memory(source)
        self._source = _own(source) if isinstance(source, DataLoader) else source
        self._seed = seed
        self._limit = limit

    @property
    def per_epoch(self) -> int | None:
        """Return how many batches an epoch has; None where only its end will tell."""
        return _least(_length(self._source), self._limit)

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """Iterate over the batches of ``epoch`` from number ``start`` on; those before it are fetched and dropped."""
        key = fold(self._seed, "data", epoch)
        torch.default_generator.manual_seed(key)
        batches = iterate(self._source)
        passed = 0 if batches is self._source else start  # an iterator goes on where it stopped
        keyed = _keyed(batches, key, start - passed)
        return islice(keyed, passed, None if self._limit is None else passed + self._limit - start)

    def samples(self, number: int) -> None:
        """Return nothing: only the source knows."""


def iterate(source: Source) -> Iterator[Batch]:
    """Begin an epoch of ``source``."""
    return iter(source if isinstance(source, Iterable) else source())


def makes_new_memory(source: object) -> bool:
    """Tell whether nobody else can hold the memory of a batch: torch has just stacked its samples into it."""
    stacks = (
        isinstance(source, DataLoader) and source.batch_sampler is not None and source.collate_fn is default_collate
    )
    return stacks and all(stack.__module__ == default_collate.__module__ for stack in default_collate_fn_map.values())


def generators_in(source: object) -> list[torch.Generator]:
    """List the generators of its own that ``source`` draws an order from."""
    return _generators([source, *_samplers(source)]) if isinstance(source, DataLoader) else []


def _generators(holders: list[Any]) -> list[torch.Generator]:
    held = (value for holder in holders for value in getattr(holder, "__dict__", {}).values())
    return list({value for value in held if isinstance(value, torch.Generator)})


def _samplers(loader: DataLoader[Any]) -> list[Any]:
    """List what draws the order, from the outside in: its first gives what the loader fetches at a time."""
    samplers = [loader.sampler if loader.batch_sampler is None else loader.batch_sampler]
    while (inner := getattr(samplers[-1], "sampler", None)) is not None:
        samplers.append(inner)
    return samplers


def _own(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a copy that takes the workers' seed from the default generator, and has persistent workers of its own."""
    fresh = copy.copy(loader)
    fresh.__dict__.update({"generator": None, "_iterator": None})
    return fresh


def _keyed(batches: Iterator[Batch], key: int, first: int) -> Iterator[Batch]:
    """Fetch ``batches``, the first of which is number ``first``, each with a seed of its own, counted from ``key``.

    So what a source draws in this process depends neither on what the steps draw nor on where they began.
    """
    for number in count(first):
        torch.default_generator.manual_seed(key + number)
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch


def _length(source: object) -> int | None:
    """Return the length where it can be relied on: a stream's is a guess."""
    if not isinstance(source, Sized) or (
        isinstance(source, DataLoader) and isinstance(source.dataset, IterableDataset)
    ):
        return None
    try:
        return len(source)
    except (TypeError, NotImplementedError):
        return None


def _least(length: int | None, limit: int | None) -> int | None:
    return min((bound for bound in (length, limit) if bound is not None), default=None)


def check(source: Source, argument: str) -> None:
    """Refuse what gives no batches."""
    remedy = "pass a DataLoader, a list of batches or a function that returns an iterator over them"
    if isinstance(source, Dataset) or not (callable(source) or isinstance(source, Iterable)):
        raise TypeError(f"{argument} must give batches, got a {type(source).__name__}; {remedy}")
