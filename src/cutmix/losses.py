"""Losses that take mixed targets, and trees of them, and plain ones as they are."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutmix.reductions import LossFn, Reduction, interpolated
from cutmix.shapes import Losses
from cutmix.targets import MixedTarget, MixedTargetError, cross_entropy
from cutmix.trees import Tree, filled, leaves, named, walk

__all__ = ["LossFn", "Mixed", "cross_entropy", "is_cross_entropy", "mixed"]

REFUSALS = (MixedTargetError, AttributeError, TypeError)
"""What a loss raises that takes tensors only: from torch, or where it asks for what a tensor has."""


def mixed(loss_fn: LossFn, *, interpolate: bool = False, reduction: Reduction | None = None) -> "Mixed":
    """Make a loss take mixed targets; plain targets pass through, so that evaluation uses the same object.

    Args:
        loss_fn: any ``loss_fn(outputs, target)``. Cross entropy takes a mixed target as it is, at the cost of one. The
            target may be a tree with several of them: a loss that calls cross entropy on each just works.
        interpolate: weigh two calls of the loss by ``kept``, instead of calling it once on blended rows. The two are
            equal for losses that are linear in their target; a loss that takes class indices only needs it.
        reduction: with ``interpolate``, of the weighted losses: see ``MixedTarget.interpolate``.

    Raises:
        TypeError: when the loss is no function, or ``interpolate`` not True or False.
        ValueError: when there is a ``reduction`` without ``interpolate``, where nothing would look at it.
    """
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be a function (outputs, target), got {loss_fn!r}: pass F.cross_entropy")
    if not isinstance(interpolate, bool):
        raise TypeError(f"interpolate must be True or False, got {interpolate!r}: it is a choice between two")
    if reduction is not None and not interpolate:
        raise ValueError(
            f"reduction must come with interpolate=True, got {reduction!r} alone: bind it to the loss, "
            "functools.partial(loss_fn, reduction=...)"
        )
    if isinstance(loss_fn, Mixed):
        loss_fn = loss_fn.loss_fn
    return Mixed(loss_fn, interpolate, reduction)


@final
@dataclass(frozen=True, slots=True)
class Mixed:
    """A loss that takes mixed targets; made by ``mixed``."""

    takes_mixed_targets: ClassVar[bool] = True

    loss_fn: LossFn
    interpolate: bool = False
    reduction: Reduction | None = None

    def __call__(self, outputs: Tree, target: Tree) -> Losses:
        """Return the loss of ``outputs`` against a plain or a mixed target, or a tree with some."""
        parts = mixed_in(target)
        if not parts:
            return self.loss_fn(outputs, target)
        if self.interpolate:
            return self._interpolated(outputs, target, parts)
        try:
            # Whatever comes to torch's cross entropy in the end takes the mixed target, weights and all.
            return self.loss_fn(outputs, target)
        except REFUSALS:
            return self._on_blended_rows(outputs, target)

    def _interpolated(self, outputs: Tree, target: Tree, parts: list[MixedTarget]) -> Losses:
        if isinstance(target, MixedTarget):
            return target.interpolate(self.loss_fn, outputs, reduction=self.reduction)
        _check_one_plan(parts)
        own, partner = (walk(target, partial(_side, name=name)) for name in ("own", "partner"))
        return interpolated(self.loss_fn, outputs, own, partner, parts[0].kept, self.reduction)

    def _on_blended_rows(self, outputs: Tree, target: Tree) -> Losses:
        """Call the loss again, with floats blended, and class ids only if it takes no mixed ones at all."""
        blended = walk(target, _blended)
        ids = len(mixed_in(blended))
        if 0 < ids < len(mixed_in(target)):
            try:
                return self.loss_fn(outputs, blended)
            except REFUSALS:
                pass
        try:
            return self.loss_fn(outputs, _dense(outputs, blended) if ids else blended)
        except Exception as error:
            error.add_note(
                "The loss was called on the blended label rows of a mixed batch. If it takes class indices only, "
                "set interpolate_loss=True (CutMix, MixUp) or interpolate=True (cutmix.losses.mixed)."
            )
            raise


def module_of(loss_fn: LossFn) -> nn.Module:
    """Return the module that a loss is, mixed or not; a function is one that has nothing to learn."""
    loss = loss_fn.loss_fn if isinstance(loss_fn, Mixed) else loss_fn
    return loss if isinstance(loss, nn.Module) else nn.Identity()


def mixed_in(tree: Tree) -> list[MixedTarget]:
    """List the mixed targets in a tree of targets."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, MixedTarget)]


def is_cross_entropy(loss_fn: LossFn) -> bool:
    """Tell whether a loss is torch's cross entropy, with settings or without, so that its targets are classes."""
    while isinstance(loss_fn, Mixed | partial):
        loss_fn = loss_fn.loss_fn if isinstance(loss_fn, Mixed) else loss_fn.func
    return loss_fn in (F.cross_entropy, cross_entropy) or isinstance(loss_fn, nn.CrossEntropyLoss)


def outputs_for(outputs: Tree, targets: Tree) -> list[Any]:
    """Return the part of the outputs that each of the targets is for: at its place, where both are built alike.

    Raises:
        ValueError: when they are not.
    """
    found, wanted = named(outputs, "targets"), named(targets, "targets")
    if missing := [path for path in wanted if not isinstance(found.get(path), Tensor)]:
        raise ValueError(
            f"outputs must be a tensor for {missing[0]} to tell its number of classes, got {type(outputs).__name__} "
            f"that holds {', '.join(path.replace('targets', 'outputs', 1) for path in found) or 'nothing'}: build "
            "outputs like the targets, or let the loss call cross entropy on each"
        )
    return [found[path] for path in wanted]


def _dense(outputs: Tree, target: Tree) -> Tree:
    """Return the target with every mixed part as rows of as many classes as its outputs have."""
    if isinstance(target, MixedTarget):
        return target.dense(outputs.shape[1])
    whole = outputs_for(outputs, target)
    return filled(
        target,
        (
            leaf.dense(part.shape[1]) if isinstance(leaf, MixedTarget) else leaf
            for leaf, part in zip(leaves(target), whole, strict=True)
        ),
    )


def _blended(leaf: Any) -> Any:  # noqa: ANN401 - a target of any kind
    return leaf.dense() if isinstance(leaf, MixedTarget) and leaf.own.is_floating_point() else leaf


def _side(leaf: Any, name: str) -> Any:  # noqa: ANN401
    return getattr(leaf, name) if isinstance(leaf, MixedTarget) else leaf


def _check_one_plan(parts: list[MixedTarget]) -> None:
    kept = parts[0].kept
    if any(part.kept is not kept and not torch.equal(part.kept, kept) for part in parts[1:]):
        raise ValueError(
            "targets must be mixed by one plan to be interpolated together, got several kept: interpolate each by "
            "itself, target.interpolate(loss_fn, outputs)"
        )
