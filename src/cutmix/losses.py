"""Losses that take mixed targets, and plain ones as they are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, final

from torch import Tensor, nn
from torch.nn import functional as F

from cutmix.crossentropy import Options, Reduction, mixed_cross_entropy
from cutmix.shapes import Labels, Logits, Losses
from cutmix.targets import MixedTarget, MixedTargetError

LossFn: TypeAlias = Callable[[Any, Any], Tensor]
"""``loss_fn(outputs, target)``."""


def cross_entropy(
    outputs: Logits,
    target: Labels | MixedTarget,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Losses:
    """Return ``torch.nn.functional.cross_entropy``, also of a mixed target.

    Args:
        outputs: logits (batch, classes, ...).
        target: class indices, float rows, or a MixedTarget of either.
        weight: (classes,), one weight a class.
        ignore_index: the class index that does not count.
        reduction: "mean", "sum" or "none". With class weights or ignored labels the mean of a mixed target is over the
            weights that count, label by label; without them it is the plain mean over the batch.
        label_smoothing: share of the uniform row, in [0, 1].

    Raises:
        ValueError: when a setting is out of its range.
    """
    if isinstance(target, MixedTarget):
        return mixed_cross_entropy(outputs, *target, Options(weight, ignore_index, reduction, label_smoothing))
    return F.cross_entropy(
        outputs, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


def mixed(loss_fn: LossFn, *, interpolate: bool = False) -> "Mixed":
    """Make a loss take mixed targets; plain targets pass through, so that evaluation uses the same object.

    Args:
        loss_fn: any ``loss_fn(outputs, target)``. Cross entropy takes a mixed target as it is, at the cost of one.
        interpolate: weigh two calls of the loss by ``kept``, instead of calling it once on blended rows. The two are
            equal for losses that are linear in their target; a loss that takes class indices only needs it.
    """
    if isinstance(loss_fn, Mixed):
        loss_fn = loss_fn.loss_fn
    return Mixed(loss_fn, interpolate)


@final
@dataclass(frozen=True, slots=True)
class Mixed:
    """A loss that takes mixed targets; made by ``mixed``."""

    loss_fn: LossFn
    interpolate: bool = False

    def __call__(self, outputs: Any, target: Any) -> Losses:  # noqa: ANN401 - whatever the loss takes
        """Return the loss of ``outputs`` against a plain or a mixed target."""
        if not isinstance(target, MixedTarget):
            return self.loss_fn(outputs, target)
        if self.interpolate:
            return target.interpolate(self.loss_fn, outputs)
        try:
            # Whatever comes to torch's cross entropy in the end takes the mixed target, weights and all.
            return self.loss_fn(outputs, target)
        except (MixedTargetError, AttributeError, TypeError):
            return self._on_dense_rows(outputs, target)

    def _on_dense_rows(self, outputs: Any, target: MixedTarget) -> Losses:  # noqa: ANN401
        try:
            rows = target.dense(None if target.own.is_floating_point() else outputs.shape[1])
            return self.loss_fn(outputs, rows)
        except Exception as error:
            error.add_note(
                "The loss was called on the blended label rows of a mixed batch. If it takes class indices only, "
                "set interpolate_loss=True (CutMix, MixUp) or interpolate=True (cutmix.losses.mixed)."
            )
            raise


def is_cross_entropy(loss_fn: LossFn) -> bool:
    """Tell whether a loss is torch's cross entropy, with settings or without, so that its targets are classes."""
    while isinstance(loss_fn, Mixed | partial):
        loss_fn = loss_fn.loss_fn if isinstance(loss_fn, Mixed) else loss_fn.func
    return loss_fn in (F.cross_entropy, cross_entropy) or isinstance(loss_fn, nn.CrossEntropyLoss)
