"""Losses weighted sample by sample: torch's reduction is taken off, and put back behind the weights."""

import copy
import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, Literal, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn

from cutmix.shapes import Kept, Losses
from cutmix.tensors import is_readable
from cutmix.trees import Tree

LossFn: TypeAlias = Callable[[Any, Any], Tensor]
"""``loss_fn(outputs, target)``."""

Reduction: TypeAlias = Literal["none", "mean", "sum"]


def interpolated(
    loss_fn: LossFn,
    outputs: Tree,
    own: Tree,
    partner: Tree,
    kept: Kept,
    reduction: Reduction | None = None,
) -> Losses:
    """Return ``kept * loss_fn(outputs, own) + (1 - kept) * loss_fn(outputs, partner)``, reduced as the loss does it.

    Args:
        loss_fn: any loss. Where ``kept`` differs between samples, or a ``reduction`` is given, one of torch's own, a
            module with a ``reduction`` (that one must be given then), or a loss that returns one value a sample.
        outputs: whatever the loss takes.
        own: whatever the loss takes.
        partner: the same of the partners.
        kept: (batch,) what the own target weighs.
        reduction: of the weighted losses; else the loss's own.

    Raises:
        ValueError: when losses a sample are needed, and the loss has none.
    """
    if reduction is None and is_shared(kept):
        return _of_two_calls(loss_fn, outputs, own, partner, kept)
    each = with_reduction(loss_fn, "none") if reduction or is_torchs(loss_fn) else loss_fn
    losses = _weighted(each(outputs, own), each(outputs, partner), kept)
    return _reduced(losses, reduction or _reduction_of(loss_fn))


def with_reduction(loss_fn: LossFn, reduction: str) -> LossFn:
    """Return the loss with another reduction, where that is a setting of it; the one handed in stays as it is."""
    if isinstance(loss_fn, nn.Module) and hasattr(loss_fn, "reduction"):
        loss_fn = copy.copy(loss_fn)
        vars(loss_fn)["reduction"] = reduction
        return loss_fn
    return partial(loss_fn, reduction=reduction) if _takes_reduction(unwrapped(loss_fn)) else loss_fn


def is_torchs(loss_fn: LossFn) -> bool:
    """Tell whether a loss is one of torch's own, with settings or without: what it does to reduce is known."""
    kind = unwrapped(loss_fn)
    if isinstance(kind, nn.Module):
        return type(kind).__module__ == "torch.nn.modules.loss" and hasattr(kind, "reduction")
    return getattr(kind, "__module__", "") == "torch.nn.functional" and _takes_reduction(kind)


def _takes_reduction(function: LossFn) -> TypeGuard[FunctionType]:
    return isinstance(function, FunctionType) and "reduction" in inspect.signature(function).parameters


def unwrapped(loss_fn: LossFn) -> LossFn:
    """Return the loss inside of settings that were bound to it."""
    while isinstance(loss_fn, partial):
        loss_fn = loss_fn.func
    return loss_fn


def _reduction_of(loss_fn: LossFn) -> str:
    if not is_torchs(loss_fn):
        return "none"
    if isinstance(loss_fn, partial):
        return loss_fn.keywords.get("reduction") or _reduction_of(loss_fn.func)
    return getattr(loss_fn, "reduction", "mean")


def is_shared(kept: Kept) -> bool:
    """Tell whether all samples keep alike: a plan of one box says so by a stride of 0, else the values do.

    In a graph there are no values yet, and a device is not waited for.
    """
    if len(kept) == 1 or kept.stride() == (0,):
        return True
    return is_readable(kept) and bool((kept == kept[0]).all())


def _of_two_calls(loss_fn: LossFn, outputs: Tree, own: Tree, partner: Tree, kept: Kept) -> Losses:
    readable = is_readable(kept)
    if readable and kept[0] in (0.0, 1.0):  # where the other's loss is infinite, nothing of it is nothing
        return loss_fn(outputs, own if kept[0] == 1.0 else partner)
    loss = loss_fn(outputs, own)
    share = float(kept[0]) if readable else kept[0].to(loss)
    return share * loss + (1.0 - share) * loss_fn(outputs, partner)


def _weighted(own: Losses, partner: Losses, kept: Kept) -> Losses:
    """Weigh the losses of each sample; nothing of an infinite one is nothing."""
    if own.ndim == 0 or len(own) != len(kept):
        raise ValueError(
            "loss_fn must return one value a sample where kept differs between samples, or a reduction is given, got "
            f"shape {tuple(own.shape)} for a batch of {len(kept)}: pass it with reduction='none', or tell how a module "
            "with a reduction of its own reduces, cutmix.losses.mixed(loss_fn, interpolate=True, reduction='mean')"
        )
    wide = torch.promote_types(own.dtype, torch.float32)
    share = kept.to(own.device, wide, non_blocking=True).view(-1, *[1] * (own.ndim - 1))
    return share * own.masked_fill(share == 0.0, 0.0) + (1.0 - share) * partner.masked_fill(share == 1.0, 0.0)


def _reduced(losses: Losses, reduction: str) -> Losses:
    match reduction:
        case "none":
            return losses
        case "mean":
            return losses.mean()
        case "sum":
            return losses.sum()
        case "batchmean":  # KLDivLoss's
            return losses.sum() / len(losses)
        case _:
            raise ValueError(
                f"reduction must be 'none', 'mean', 'sum' or None, got {reduction!r}: it is of the weighted losses"
            )
