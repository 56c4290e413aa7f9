"""Sharded tensors: each rank writes what it holds, and whoever reads takes what it needs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias, final

import safetensors
import torch
from torch import Tensor

from cutmix.trainer.checkpoints.manifest import MANIFEST, Form, as_written, refusal
from cutmix.trainer.checkpoints.tensorfile import DTYPES, TensorFile, from_bytes, name_of, starts_in
from cutmix.trainer.processes import like, own_shard, shard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cutmix.core.world import World
    from cutmix.trainer.checkpoints.manifest import Manifest
    from cutmix.trainer.processes import Shard

    Span: TypeAlias = tuple[slice, ...]

Saved: TypeAlias = "Tensor | Sharded"
"""A tensor of a checkpoint, read or not."""


def held_in(tensors: Mapping[str, Saved]) -> dict[str, Shard]:
    """Return what this rank holds of those of ``tensors`` that are sharded."""
    return {
        name: held
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and (held := own_shard(tensor)) is not None
    }


def file_of(held: Mapping[str, Shard]) -> TensorFile:
    """Lay out what this rank writes: of what several hold, the first of them does, and of nothing nobody does."""
    own = {name: one for name, one in held.items() if one.is_first and one.held.numel()}
    return TensorFile.of({name: one.held for name, one in own.items()}, {name: one.start for name, one in own.items()})


def rest_of(tensors: Mapping[str, Saved], held: Mapping[str, Shard]) -> TensorFile:
    """Lay out what every rank has whole, or another checkpoint in shards."""
    rest = {name: tensor for name, tensor in tensors.items() if name not in held}
    return TensorFile.of(
        {name: shard(tensor) if isinstance(tensor, Tensor) else tensor.whole() for name, tensor in rest.items()}
    )


def form_of(tensor: Saved) -> Form:
    """Tell what a tensor is as a whole."""
    return Form(name_of(tensor.dtype), tuple(tensor.shape))


def name_of_shards(stem: str, world: World) -> str:
    """Name the file of this rank's shards."""
    return f"{stem}-{world.rank + 1:05}-of-{world.size:05}.safetensors"


@final
class Sharded:
    """A tensor whose shards lie in several files: its numbers are read when they are asked for, and no others."""

    def __init__(self, folder: Path, name: str, form: Form, files: Sequence[ShardFile]) -> None:
        self._folder = folder
        self.name = name
        self.dtype = DTYPES[form.dtype]
        self.shape = torch.Size(form.shape)
        self._files = files

    def read(self, held: Tensor, start: Sequence[int]) -> Tensor:
        """Fill ``held``, which is to be the block that begins at ``start``, and return it.

        Raises:
            CheckpointError: when the files do not have all of it.
        """
        missing = held.numel()
        for file in self._files:
            if not missing:  # further files are not even opened
                break
            missing -= file.copy(self.name, held, start)
        if missing:
            raise refusal(self._folder, f"hold all of {self.name}", f"{missing} numbers less")
        return held

    def whole(self) -> Tensor:
        """Return all of it."""
        return self.read(torch.empty(self.shape, dtype=self.dtype), [0] * len(self.shape))


@final
class ShardFile:
    """A file of shards, opened when one of them is asked for."""

    def __init__(self, path: Path, aliases: Mapping[str, str], views: Mapping[str, str]) -> None:
        self._path = path
        self._aliases = aliases
        self._views = views

    def copy(self, name: str, held: Tensor, start: Sequence[int]) -> int:
        """Copy to ``held``, which begins at ``start``, what is here of that tensor; return how many numbers."""
        stored = self._aliases.get(name, name)
        with as_written(self._path):
            if stored not in self._starts:
                return 0
            found = self._opened.get_slice(stored)
            spans = _overlap(start, held.shape, self._starts[stored], found.get_shape())
            if spans is None:
                return 0
            here, there = spans
            numbers = found[there]
            if stored in self._views:
                numbers = from_bytes(numbers, self._views[stored])
            return held[here].copy_(numbers).numel()

    @cached_property
    def _opened(self) -> safetensors.safe_open:
        return safetensors.safe_open(self._path, "pt")

    @cached_property
    def _starts(self) -> dict[str, tuple[int, ...]]:
        return starts_in(self._opened.metadata())


def sharded_in(folder: Path, manifest: Manifest, name: str, rank: int) -> dict[str, Sharded]:
    """Return the tensors that the file ``name`` would have, were they not sharded; ``rank``'s own file comes first."""
    shards = manifest.shards[name]
    own = rank % max(1, len(shards.files))
    files = [
        ShardFile(folder / file, manifest.aliases.get(file, {}), manifest.views.get(file, {}))
        for file in (*shards.files[own:], *shards.files[:own])
    ]
    with as_written(folder / MANIFEST):
        return {name: Sharded(folder, name, form, files) for name, form in shards.tensors.items()}


def placed(saved: Saved, live: Tensor) -> Tensor:
    """Return what was saved, sharded as ``live`` is; whole where that is not sharded."""
    if isinstance(saved, Tensor):
        return like(live, saved)
    if own_shard(live) is None:
        return like(live, saved.whole())
    fresh = torch.empty_like(live, dtype=saved.dtype, requires_grad=False)
    own = own_shard(fresh)
    assert own is not None
    saved.read(own.held, own.start)
    return fresh


def _overlap(
    start: Sequence[int], shape: Sequence[int], stored_start: Sequence[int], stored_shape: Sequence[int]
) -> tuple[Span, Span] | None:
    """Return where two blocks of one tensor meet, as seen from each; None where they do not."""
    here, there = [], []
    for own, size, other, stored in zip(start, shape, stored_start, stored_shape, strict=False):
        low, high = max(own, other), min(own + size, other + stored)
        if low >= high:
            return None
        here.append(slice(low - own, high - own))
        there.append(slice(low - other, high - other))
    return tuple(here), tuple(there)
