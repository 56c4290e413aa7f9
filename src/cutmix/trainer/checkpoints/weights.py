"""Weights from a file into a model, whoever wrote it, with nothing in it ever run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import safetensors.torch
import torch
from torch import Tensor

from cutmix.trainer.checkpoints.checkpoint import read_weights
from cutmix.trainer.checkpoints.saving import named
from cutmix.trainer.checkpoints.shards import placed
from cutmix.trainer.checkpoints.tensorfile import sight_of
from cutmix.trainer.processes import shard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from cutmix.trainer.checkpoints.shards import Saved

_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
"""What DDP, Composer's models and torch.compile put before each name."""
_SHOWN = 8


@final
class Difference(NamedTuple):
    """The names that are ``missing`` in the file, and those in it that the model does not know."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


@final
class _Unread:
    """Stands in for what a Composer checkpoint holds beside its weights: it is made, and takes nothing in."""

    def __new__(cls, *_: object) -> _Unread:
        return object.__new__(cls)

    def __setstate__(self, _: object) -> None: ...


_COMPOSER: list[Any] = [
    # Composer keeps numpy's generator, times and torch's version. The safe loader finds under these names what does
    # nothing, so that not even numpy's own functions are handed anything from the file.
    (_Unread, name)
    for name in (
        "datetime.timedelta",
        "numpy.dtype",
        "numpy.ndarray",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.multiarray._reconstruct",  # before numpy 2
        "torch.torch_version.TorchVersion",
    )
]


def load_weights(model: nn.Module, path: str | Path, strict: bool = True) -> Difference:  # noqa: FBT001, FBT002 - torch's
    """Copy the weights in ``path`` into ``model``; when they are refused, the model stays as it is.

    Args:
        model: any module; its tensors keep their devices, dtypes and strides.
        path: a checkpoint of ours (its folder), a run's ``save_folder``, whose newest is taken, a ``.safetensors``
            file, a state dict written by ``torch.save``, or a Composer checkpoint. Nothing in it is ever run.
        strict: whether all names must be in both; else what is in one alone is left, and returned.

    Raises:
        ValueError: when the file is none of these, or does not fit; it names what differs.
    """
    weights, live = _bare(_weights_in(Path(path))), _bare(_tensors_of(model))
    difference = _difference(weights, live)
    shared = [name for name in live if name in weights]
    wrong = _told(difference) if strict else []
    wrong += [text for name in shared for text in _misfits(name, weights[name], live[name])]
    if wrong:
        raise ValueError(
            f"path must hold weights that fit the model, got {path}: {'; '.join(wrong)}; make the model that was saved"
            + (", or leave out what is in one alone with strict=False" if any(difference) and strict else "")
        )
    names = dict(zip(live, _tensors_of(model), strict=True))
    model.load_state_dict({names[name]: placed(weights[name], live[name]) for name in shared}, strict=False)
    return difference


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    held = model.state_dict(keep_vars=True)  # the very parameters, so that tied ones are known
    tensors = {name: tensor for name, tensor in held.items() if isinstance(tensor, Tensor)}
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise ValueError(f"model must have memory, got {name} on the meta device; call model.to_empty() before")
    return tensors


def _bare(tensors: dict[str, Any]) -> dict[str, Any]:
    """Take wrappers' prefixes off the names, where that leaves them apart."""
    bare = {_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    return bare if len(bare) == len(tensors) else tensors


def _difference(weights: Mapping[str, Saved], live: Mapping[str, Tensor]) -> Difference:
    """Compare the names; of a tensor with several in the model, one is enough."""
    given = {_memory_of(tensor) for name, tensor in live.items() if name in weights}
    missing = (name for name, tensor in live.items() if name not in weights and _memory_of(tensor) not in given)
    return Difference(tuple(missing), tuple(name for name in weights if name not in live))


def _memory_of(tensor: Tensor) -> object:
    return sight_of(tensor) if shard(tensor) is tensor else id(tensor)


def _told(difference: Difference) -> list[str]:
    return [
        f"{who} {_listed(names)}"
        for who, names in zip(("it lacks", "the model lacks"), difference, strict=True)
        if names
    ]


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _misfits(name: str, saved: Saved, live: Tensor) -> Iterator[str]:
    if saved.shape != live.shape:
        yield f"{name} is of shape {tuple(saved.shape)}, in the model of {tuple(live.shape)}"
    if not torch.can_cast(saved.dtype, live.dtype):
        yield f"{name} is of {saved.dtype}, in the model of {live.dtype}"


def _weights_in(path: Path) -> dict[str, Saved]:
    if path.is_dir():
        return dict(sorted(read_weights(named(path)).items()))
    if path.suffix == ".safetensors":
        return {**_from_safetensors(path)}
    return {**_state_dict_in(path, _loaded(path))}


def _from_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"path must be a whole safetensors file, got {path}: {error}") from error


def _loaded(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(_COMPOSER):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a file made to do harm may fail in any way
        raise ValueError(
            f"path must be a file that torch's safe loader reads, got {path} with {_reason(error)}; nothing of it was "
            "run: save model.state_dict() with torch.save, or as safetensors"
        ) from None


def _reason(error: Exception) -> str:
    """Return what was refused. Torch's own text goes on to advise loading without care."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"a {found[1]} in it" if found else f"no such content ({type(error).__name__})"


def _state_dict_in(path: Path, loaded: object) -> dict[str, Tensor]:
    """Return the state dict that was ``loaded``, or that a Composer checkpoint holds."""
    match loaded:
        case {"state": {"model": dict(weights)}}:
            pass
        case dict(weights):
            pass
        case _:
            raise ValueError(f"path must hold a state dict, got {path} with a {type(loaded).__name__}")
    strange = [name for name, tensor in weights.items() if not isinstance(name, str) or not isinstance(tensor, Tensor)]
    if strange or not weights:
        found = ", ".join(f"a {type(weights[name]).__name__} under {name!r}" for name in strange[:_SHOWN])
        raise ValueError(
            f"path must hold a state dict or a Composer checkpoint, got {path} with {found or 'nothing in it'}; "
            "save model.state_dict() alone"
        )
    return weights
