"""Label smoothing: some of each label goes to all classes alike; it composes with mixing in either order."""

import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, final

import torch
from torch import nn

from cutmix.algorithms.settings import check_number
from cutmix.core.algorithm import Algorithm
from cutmix.core.event import Event
from cutmix.losses import Mixed, is_cross_entropy, outputs_for
from cutmix.reductions import LossFn
from cutmix.shapes import Labels, Logits, Losses, Rows
from cutmix.targets import MixedTarget
from cutmix.trees import Tree, filled, leaves

if TYPE_CHECKING:
    from cutmix.core.logger import Logger
    from cutmix.core.state import State


@final
@dataclass(frozen=True, slots=True)
class LabelSmoothing(Algorithm):
    """Give ``smoothing`` of each label to all classes alike (Szegedy et al. 2016).

    Hand it to ``Trainer(algorithms=[LabelSmoothing(), CutMix()])``, in either order: smoothing is linear, so that
    smoothed mixed labels are mixed smoothed labels. Only the loss sees it, and only in training: the batch keeps its
    labels, for whatever else reads them. Cross entropy takes it as its own ``label_smoothing``, without rows. In a
    plain loop, ``rows = LabelSmoothing()(logits, target)``.

    Args:
        smoothing: the share that goes to all classes alike, in [0, 1].

    Raises:
        TypeError: when ``smoothing`` is no number.
        ValueError: when it lies outside of [0, 1].
    """

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_number("smoothing", self.smoothing, 0.0, 1.0, "it is the share that goes to all classes alike")

    def __call__(self, logits: Logits, target: Labels | MixedTarget) -> Rows:
        """Return smoothed rows, (batch, classes, ...), of class ids, rows or a mixed target.

        Args:
            logits: (batch, classes, ...), for the number of classes.
            target: ids (batch, ...), rows like the logits, or a MixedTarget of either.

        Raises:
            TypeError: when one of them is no tensor.
            ValueError: when the target is none of these, or an id is no class.
        """
        own = target.own if isinstance(target, MixedTarget) else target
        for name, value in (("logits", logits), ("target", own)):
            if not isinstance(value, torch.Tensor):
                raise TypeError(
                    f"{name} must be a torch.Tensor, got {type(value).__name__}: convert with torch.as_tensor"
                )
        if own.shape != (logits.shape if own.is_floating_point() else (*logits.shape[:1], *logits.shape[2:])):
            raise ValueError(
                f"target must be class ids (batch, ...) or rows like the logits, {tuple(logits.shape)}, got "
                f"{own.dtype} of shape {tuple(own.shape)}: ids need .long()"
            )
        classes = logits.shape[1]
        dtype = own.dtype if own.is_floating_point() else torch.promote_types(logits.dtype, torch.float32)
        return (1.0 - self.smoothing) * _rows(target, classes, dtype) + self.smoothing / classes

    events = (Event.FIT_START, Event.BEFORE_LOSS, Event.AFTER_LOSS, Event.EVAL_START)

    def apply(self, event: Event, state: "State", logger: "Logger") -> None:  # noqa: ARG002 - the interface
        if event == Event.FIT_START:
            _check_alone(state)
        # Not at AFTER_LOSS alone: a loss that failed was not followed by it.
        state.loss_fn = _unsmoothed(state.loss_fn)
        if event == Event.BEFORE_LOSS:
            state.loss_fn = Smoothed(state.loss_fn, self)


@final
@dataclass(frozen=True, slots=True)
class Smoothed:
    """A loss against smoothed labels."""

    loss_fn: LossFn
    smooth: LabelSmoothing

    def __call__(self, outputs: Tree, target: Tree) -> Losses:
        """Return the loss of ``outputs`` against a target of any kind, smoothed.

        Raises:
            ValueError: when the loss smooths by itself, or takes class ids only.
        """
        if is_cross_entropy(self.loss_fn):
            return _smoothing(self.loss_fn, self.smooth.smoothing)(outputs, target)
        if isinstance(self.loss_fn, Mixed) and self.loss_fn.interpolate:
            raise ValueError(
                "interpolate_loss must be False with LabelSmoothing, got True: smoothed labels are rows, and a loss "
                "that takes class ids only has no place for them"
            )
        try:
            return self.loss_fn(outputs, self._smoothed(outputs, target))
        except Exception as error:
            error.add_note(
                "LabelSmoothing hands the loss rows of shares: a loss that takes class indices only has no place for "
                "them; take LabelSmoothing away"
            )
            raise

    def _smoothed(self, outputs: Tree, target: Tree) -> Tree:
        parts = [outputs] if isinstance(target, torch.Tensor | MixedTarget) else outputs_for(outputs, target)
        return filled(target, map(self.smooth, parts, leaves(target)))


def _unsmoothed(loss_fn: LossFn) -> LossFn:
    """Return the loss as it was, also where a mixer of a later fit has wrapped the smoothed one."""
    inner = loss_fn.loss_fn if isinstance(loss_fn, Mixed) else loss_fn
    return _unsmoothed(inner.loss_fn) if isinstance(inner, Smoothed) else loss_fn


def _smoothing(loss_fn: LossFn, smoothing: float) -> LossFn:
    """Return the cross entropy that smooths by itself; it takes mixed targets and ids as they are."""
    if isinstance(loss_fn, Mixed):
        return Mixed(_smoothing(loss_fn.loss_fn, smoothing), loss_fn.interpolate, loss_fn.reduction)
    is_module = isinstance(loss_fn, nn.CrossEntropyLoss)
    settings = vars(loss_fn) if is_module else getattr(loss_fn, "keywords", {})
    if own := settings.get("label_smoothing"):
        raise ValueError(
            f"loss_fn must not smooth labels beside LabelSmoothing, got label_smoothing={own}: take one of them away"
        )
    if not is_module:
        return partial(loss_fn, label_smoothing=smoothing)
    loss_fn = copy.copy(loss_fn)
    vars(loss_fn)["label_smoothing"] = smoothing
    return loss_fn


def _rows(target: Labels | MixedTarget, classes: int, dtype: torch.dtype) -> Rows:
    if isinstance(target, MixedTarget):
        return target.dense(classes, dtype)
    if target.is_floating_point():
        return target
    return MixedTarget(target, target, torch.ones(len(target), dtype=torch.float64)).dense(classes, dtype)


def _check_alone(state: "State") -> None:
    if sum(isinstance(algorithm, LabelSmoothing) for algorithm in state.algorithms) > 1:
        raise ValueError(
            f"algorithms must hold one LabelSmoothing at most, got {state.algorithms}: labels are smoothed once"
        )
