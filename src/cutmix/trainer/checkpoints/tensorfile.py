"""Tensors as a safetensors file: each memory once, each dtype, and no second copy of them all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, final

import safetensors.torch
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and "qint" not in str(dtype) and "quint" not in str(dtype)
}
"""The dtypes by name, without the quantized ones: such a tensor is more than bytes and a shape."""
_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The dtypes that every version of safetensors knows. Others are stored as bytes, along one more axis."""
_METADATA = "__metadata__"
_SHARDING = "DCP_SHARDING_INFO"
"""Where torch's own reader of sharded safetensors looks for what a file holds of each tensor."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class TensorFile:
    """What goes into one file: the tensors that are ``stored``, ``aliases`` of them, and the dtypes of ``views``."""

    stored: Mapping[str, Tensor]
    aliases: Mapping[str, str]  # name -> the name under which that memory is stored
    views: Mapping[str, str]  # name -> the dtype of what is stored as bytes
    starts: Mapping[str, Sequence[int]]  # name -> where in a whole this begins, of what is a shard

    @staticmethod
    def of(tensors: Mapping[str, Tensor], starts: Mapping[str, Sequence[int]] = MappingProxyType({})) -> TensorFile:
        """Lay out ``tensors``; those that are one memory, seen alike, are stored once.

        Different views of one memory, such as a matrix and its transpose, are stored apart: the file holds their
        numbers, and that they share memory is known to the module alone that they are copied back into.
        """
        names: dict[object, str] = {}
        aliases: dict[str, str] = {}
        for name, tensor in tensors.items():
            check_plain(tensor, name)
            first = names.setdefault(sight_of(tensor) if tensor.numel() else name, name)
            if first != name:
                aliases[name] = first
        # The widest numbers first, so that each tensor lies aligned for whoever maps the file into memory.
        kept = sorted(names.values(), key=lambda name: -tensors[name].dtype.itemsize)
        views = {name: name_of(tensors[name].dtype) for name in kept if tensors[name].dtype not in _CODES}
        begun = {name: starts[name] for name in kept if name in starts}
        return TensorFile({name: tensors[name] for name in kept}, aliases, views, begun)

    @property
    def header(self) -> bytes:
        """Return what stands before the numbers: where each tensor lies."""
        entries, start = _metadata(self.starts), 0
        for name, tensor in self.stored.items():
            stop = start + tensor.numel() * tensor.dtype.itemsize
            shape = [*tensor.shape, tensor.dtype.itemsize] if name in self.views else list(tensor.shape)
            code = _CODES.get(tensor.dtype, "U8")
            entries[name] = {"dtype": code, "shape": shape, "data_offsets": [start, stop]}
            start = stop
        text = json.dumps(entries).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def size(self) -> int:
        """Return how many bytes the file takes."""
        return len(self.header) + sum(tensor.numel() * tensor.dtype.itemsize for tensor in self.stored.values())

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes of the file: one tensor after the other leaves its device."""
        yield self.header
        for tensor in self.stored.values():
            yield bytes_of(tensor)


def _metadata(starts: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    if not starts:
        return {}
    return {_METADATA: {_SHARDING: json.dumps({name: {"saved_offsets": [*start]} for name, start in starts.items()})}}


def starts_in(metadata: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Return where in a whole each tensor of a file begins, as its ``header`` says."""
    return {name: tuple(info["saved_offsets"]) for name, info in json.loads(metadata[_SHARDING]).items()}


def read_tensors(data: bytes, aliases: Mapping[str, str], views: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors of a file's ``data``; aliases are the very tensors that they are aliases of.

    Raises:
        ValueError: when ``data`` is no such file, or does not hold what ``aliases`` and ``views`` name.
    """
    try:
        tensors = safetensors.torch.load(data)
        tensors.update({name: from_bytes(tensors[name], dtype) for name, dtype in views.items()})
        tensors.update({name: tensors[first] for name, first in aliases.items()})
    except (safetensors.SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(f"the file must hold tensors as safetensors, got other: {error}") from error
    return tensors


def from_bytes(stored: Tensor, dtype: str) -> Tensor:
    """Return numbers in their dtype that are ``stored`` as bytes, along one more axis."""
    return stored.view(DTYPES[dtype]).squeeze(-1)


def check_plain(tensor: Tensor, name: str) -> None:
    """Refuse what is more than dense numbers, or holds none."""
    if (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.dtype in DTYPES.values()
        and tensor.device.type != "meta"
        and name != _METADATA
    ):
        return
    raise ValueError(
        f"{name} must be a plain, dense tensor with numbers, got a {type(tensor).__name__} of {tensor.dtype}, "
        f"{tensor.layout}, on {tensor.device}; save what it is made of"
    )


def sight_of(tensor: Tensor) -> object:
    """Return what is equal for two tensors only when they are one memory, seen alike."""
    seen_as = tensor.dtype, tensor.shape, tensor.stride(), tensor.is_conj(), tensor.is_neg()
    return tensor.device, tensor.data_ptr(), *seen_as


def name_of(dtype: torch.dtype) -> str:
    """Return the name of ``dtype``, as in ``DTYPES``."""
    return str(dtype).removeprefix("torch.")


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the numbers of ``tensor``, the last axis fastest, as bytes; without a copy where they lie so."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return memoryview(plain.reshape(-1).view(torch.uint8).numpy())


def tensor_of(data: bytes, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """Return the tensor whose numbers are ``data``."""
    numbers = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
    return numbers.view(dtype).reshape(shape)
