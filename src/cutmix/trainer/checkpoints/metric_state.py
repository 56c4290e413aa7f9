"""What a metric has added up, so that it can go on from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutmix.core.world import World

_COUNT = "_update_count"  # torchmetrics shows it as update_count, which cannot be set, and warns where it is 0


@runtime_checkable
class Keeping(Protocol):
    """What can tell its state and take it back, as torch's modules can."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object:
        """Take the state back."""


def make_savable(metric: object) -> None:
    """Have a torchmetrics' ``state_dict`` hold what it has added up, which it leaves out by default."""
    for part in _parts(metric).values():
        part.persistent(mode=True)


def metric_state(metric: object) -> dict[str, Any]:
    """Return what ``metric`` has added up; nothing where it cannot tell."""
    state = dict(metric.state_dict()) if isinstance(metric, Keeping) else {}
    return {**state, _COUNT: {name: part.update_count for name, part in _parts(metric).items()}} if state else {}


def put_back_metric(metric: Keeping, state: Mapping[str, Any]) -> None:
    """Give ``metric`` what another had added up."""
    metric.load_state_dict({name: value for name, value in state.items() if name != _COUNT})
    for name, part in _parts(metric).items():
        setattr(part, _COUNT, state[_COUNT][name])


def fill_up(metric: object, world: World, device: torch.device) -> None:
    """Give a torchmetrics that keeps lists, and has seen nothing on this rank, empty ones like those of other ranks.

    Torchmetrics gathers nothing of an empty list, and the ranks that have something would wait for it. All ranks call.
    """
    for part in _parts(metric).values():
        strung = (name for name, joins in part._reductions.items() if getattr(joins, "__name__", "") == "dim_zero_cat")  # noqa: SLF001 - torchmetrics shows no other
        kept = {name: held for name in strung if isinstance(held := getattr(part, name), list)}
        if not kept or world.size == 1:
            continue
        told = world.gathered({name: (held[0].dtype, held[0].shape[1:]) for name, held in kept.items() if held})
        for name, (dtype, shape) in {name: form for own in told for name, form in own.items()}.items():
            if not kept[name]:
                setattr(part, name, [torch.empty(0, *shape, dtype=dtype, device=device)])


def _parts(metric: object) -> dict[str, Any]:
    """Name the torchmetrics that ``metric`` is made of: itself, and those that it wraps."""
    modules = dict(metric.named_modules()) if isinstance(metric, nn.Module) else {}
    return {name: module for name, module in modules.items() if hasattr(module, "update_count")}
