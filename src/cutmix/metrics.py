"""Accuracy that is honest on a mixed batch."""

import torch
from torch import Tensor

from cutmix.shapes import Ids, Labels, Logits
from cutmix.targets import MixedTarget


def accuracy(outputs: Logits, target: Labels | MixedTarget) -> Tensor:
    """Return the accuracy in [0, 1], as a tensor without axes on the outputs' device.

    Of a mixed batch it is the mean over the samples of ``kept * hit(own) + (1 - kept) * hit(partner)``, the share of
    the label mass that the prediction hits. A perfect model does not reach 1 there: see ``ceiling``.

    Args:
        outputs: (batch, classes); the largest is the prediction.
        target: class indices (batch,), rows (batch, classes) whose largest entry is the class, or a MixedTarget.
    """
    predicted = outputs.argmax(1)
    if not isinstance(target, MixedTarget):
        return (predicted == _classes(target)).float().mean()
    kept = target.kept.to(outputs.device, torch.float32, non_blocking=True)
    own, partner = ((predicted == _classes(labels)).float() for labels in (target.own, target.partner))
    return torch.lerp(partner, own, kept).mean()


def ceiling(target: MixedTarget) -> Tensor:
    """Return the highest ``accuracy`` that any prediction reaches on this mixed batch.

    One class is predicted for two labels: ``mean(1 where own == partner, else max(kept, 1 - kept))``.
    """
    own, partner = _classes(target.own), _classes(target.partner)
    kept = target.kept.to(own.device, torch.float32, non_blocking=True)
    return torch.where(own == partner, 1.0, torch.maximum(kept, 1.0 - kept)).mean()


def _classes(labels: Labels) -> Ids:
    return labels.argmax(1) if labels.is_floating_point() else labels
