"""Batches as people have them: tuples, lists, dicts, named tuples, dataclasses, and what a pair of functions reads."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from cutmix.targets import MixedTarget
from cutmix.trees import SEQUENCES, Tree, is_leaf, leaves, replaced, walk

Batch: TypeAlias = Tree
Key: TypeAlias = int | str | tuple[Callable[[Batch], Any], Callable[[Batch, Any], Batch]]

_TENSORS = (Tensor, MixedTarget)  # a union, built at each leaf, would be slow


def get_item(batch: Batch, key: Key) -> Any:  # noqa: ANN401 - what a batch holds is the user's
    """Return what ``batch`` holds at an index, a dict's key or an attribute's name, or what a pair's getter returns."""
    if isinstance(key, tuple):
        return key[0](batch)
    try:
        if type(key) is int and type(batch) in SEQUENCES:  # what most batches are
            return batch[key]
        if isinstance(key, str) and not isinstance(batch, Mapping):
            return getattr(batch, key)
        if not isinstance(batch, Tensor):
            return batch[key]
    except (LookupError, AttributeError, TypeError):
        pass
    raise ValueError(
        f"input_key or target_key is {key!r}, which the batch, {_described(batch)}, does not hold; "
        "it must be an index, a key, an attribute's name or a pair (getter, setter)"
    )


def set_item(batch: Batch, key: Key, value: Any) -> Batch:  # noqa: ANN401
    """Return a batch that holds ``value`` under ``key``; the one handed in stays as it is.

    A pair's setter, ``setter(batch, value)``, must return the batch; whether it is a new one is the setter's affair.
    """
    if isinstance(key, tuple):
        return key[1](batch, value)
    get_item(batch, key)
    if isinstance(batch, tuple) and isinstance(key, int):
        key = getattr(batch, "_fields", range(len(batch)))[key]
    return replaced(batch, {key: value})


def num_samples(batch: Batch) -> int:
    """Return the number of samples: the length of the first tensor that has an axis."""
    if isinstance(batch, Tensor) and batch.ndim:
        return batch.shape[0]
    for leaf in leaves(batch):
        first = leaf.own if isinstance(leaf, MixedTarget) else leaf
        if isinstance(first, Tensor) and first.ndim:
            return first.shape[0]
    raise TypeError(f"a batch must hold a tensor with an axis of samples, got {_described(batch)}")


def split(batch: Batch, size: int) -> list[Batch]:
    """Cut ``batch`` into parts of at most ``size`` samples; what is not per sample goes whole into each.

    Per sample is what has as many rows as there are samples, and so is a list or tuple of as many items, but the batch
    itself. What is so long by chance, such as class weights, cannot be told apart and is cut too.
    """
    samples = num_samples(batch)
    if size >= samples:
        return [batch]

    def is_whole(part: Any) -> bool:  # noqa: ANN401
        return is_leaf(part) or (part is not batch and type(part) in (list, tuple) and len(part) == samples)

    return [
        walk(batch, lambda leaf, start=start: _cut(leaf, start, start + size, samples), is_whole)
        for start in range(0, samples, size)
    ]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return ``batch`` with its tensors on ``device``, in containers of its own."""

    def move(leaf: Any) -> Any:  # noqa: ANN401
        if isinstance(leaf, Tensor) and leaf.device == device:
            return leaf
        if isinstance(leaf, _TENSORS):
            return leaf.to(device, non_blocking=device.type == "cuda")  # which pays from pinned memory
        return leaf.to(device) if hasattr(leaf, "to") else leaf

    return walk(batch, move)


def _cut(leaf: Any, start: int, stop: int, samples: int) -> Any:  # noqa: ANN401
    if isinstance(leaf, MixedTarget):
        return MixedTarget(*(field[start:stop] for field in leaf))
    if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) != samples:
        raise ValueError(
            f"device_train_microbatch_size cuts tensors of as many rows as the batch has samples, {samples}, "
            f"got one of {len(leaf)}; leave it None for such batches"
        )
    per_sample = isinstance(leaf, tuple | list) or (isinstance(leaf, Tensor | np.ndarray) and leaf.ndim)
    return leaf[start:stop] if per_sample and len(leaf) == samples else leaf


def _described(batch: Batch) -> str:
    """Say what ``batch`` is and what it holds, in a few words."""
    kind = type(batch).__name__
    if isinstance(batch, Mapping):
        return f"a {kind} of {', '.join(map(repr, batch))}"
    if dataclasses.is_dataclass(batch):
        return f"a {kind} of {', '.join(field.name for field in dataclasses.fields(batch))}"
    if isinstance(batch, tuple | list):
        return f"a {kind} of {len(batch)}"
    return f"a {kind}"
