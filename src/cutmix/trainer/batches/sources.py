"""Where batches come from, and what all sources have in common."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias, final

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)
from torch.utils.data._utils.collate import default_collate_fn_map

from cutmix.core.batch import Batch, num_samples
from cutmix.core.world import World
from cutmix.trainer.callbacks.signals import SparedWorker

Source: TypeAlias = Iterable[Batch] | Callable[[], Iterable[Batch]]
"""A DataLoader, any other iterable of batches, or a function that makes one for each epoch."""


@final
@dataclass(frozen=True, slots=True)
class Use:
    """What batches are drawn for."""

    seed: int
    limit: int | None = None  # the most batches of an epoch: of each rank in training, of all in evaluation
    world: World = field(default_factory=World)
    measures: bool = False  # whether to evaluate: no batch is cut then, and a stream is walked to its end
    aloud: bool = False  # whether to say what is to be known of a source
    count: Callable[[Batch], int] = num_samples


def limit_for(argument: str, batches: int) -> int | None:
    """Read how many batches to take at most; -1 is all of them, here None."""
    if batches < 1 and batches != -1:
        raise ValueError(f"{argument} must be at least 1, got {batches}; -1 takes all batches")
    return None if batches == -1 else batches


def check(source: Source, argument: str) -> None:
    """Refuse what gives no batches."""
    remedy = "pass a DataLoader, a list of batches or a function that returns an iterator over them"
    if isinstance(source, Dataset) or not (callable(source) or isinstance(source, Iterable)):
        raise TypeError(f"{argument} must give batches, got a {type(source).__name__}; {remedy}")


def iterate(source: Source) -> Iterator[Batch]:
    """Begin an epoch of ``source``."""
    return iter(source if isinstance(source, Iterable) else source())


def makes_new_memory(source: object) -> bool:
    """Tell whether nobody else can hold the memory of a batch: torch has just stacked its samples into it."""
    stacks = (
        isinstance(source, DataLoader) and source.batch_sampler is not None and source.collate_fn is default_collate
    )
    return stacks and all(stack.__module__ == default_collate.__module__ for stack in default_collate_fn_map.values())


@final
@dataclass(frozen=True, slots=True)
class Rows:
    """A data set in memory that is read batch by batch: the bytes that it gives sample by sample, put together."""

    dataset: TensorDataset

    def __call__(self, indices: list[int]) -> list[torch.Tensor]:
        rows = torch.tensor(indices)
        return [tensor.index_select(0, rows.to(tensor.device)) for tensor in self.dataset.tensors]


def rows_of(loader: DataLoader[Any]) -> Rows | None:
    """Return what reads a data set of tensors; None where anybody but torch has a say in its batches."""
    dataset, batches = loader.dataset, loader.batch_sampler
    if type(loader) is not DataLoader or type(dataset) is not TensorDataset or type(batches) is not BatchSampler:
        return None
    is_torchs = type(batches.sampler) in (RandomSampler, SequentialSampler) and makes_new_memory(loader)
    is_here = not loader.num_workers and not loader.pin_memory
    return Rows(dataset) if is_torchs and is_here and all(map(_has_rows, dataset.tensors)) else None


def _has_rows(tensor: torch.Tensor) -> bool:
    """Tell whether rows of ``tensor`` can be selected, and lie as if they had been stacked."""
    is_known = tensor.dtype not in (torch.uint16, torch.uint32, torch.uint64)
    return type(tensor) is torch.Tensor and tensor.layout is torch.strided and tensor.is_contiguous() and is_known


def generators_of(holders: list[Any]) -> list[torch.Generator]:
    """List the generators that ``holders`` have of their own."""
    held = (value for holder in holders for value in getattr(holder, "__dict__", {}).values())
    return list({value for value in held if isinstance(value, torch.Generator)})


def samplers_of(loader: DataLoader[Any]) -> list[Any]:
    """List what draws the order, from the outside in: its first gives what the loader fetches at a time."""
    samplers = [loader.sampler if loader.batch_sampler is None else loader.batch_sampler]
    while (inner := getattr(samplers[-1], "sampler", None)) is not None:
        samplers.append(inner)
    return samplers


def own(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a copy that takes the workers' seed from the default generator, and has persistent workers of its own."""
    fresh = copy.copy(loader)
    fresh.__dict__.update({"generator": None, "_iterator": None, "worker_init_fn": SparedWorker(loader.worker_init_fn)})
    return fresh


def keyed(batches: Iterator[Batch], key: int, first: int, step: int) -> Iterator[Batch]:
    """Fetch ``batches``, the first of which is number ``first``, each with a seed of its own, counted from ``key``.

    So what a source draws in this process depends neither on what the steps draw nor on where they began.
    """
    for number in count(first, step):
        torch.default_generator.manual_seed(key + number)
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch


def length(source: object) -> int | None:
    """Return the length where it can be relied on: a stream's is a guess."""
    if not isinstance(source, Sized) or (
        isinstance(source, DataLoader) and isinstance(source.dataset, IterableDataset)
    ):
        return None
    try:
        return len(source)
    except (TypeError, NotImplementedError):
        return None


def least(length: int | None, limit: int | None) -> int | None:
    return min((bound for bound in (length, limit) if bound is not None), default=None)
