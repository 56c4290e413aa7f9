"""Accuracy that is honest on a mixed batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from cutmix.shapes import Hit, Ids, Kept, Labels, Logits
from cutmix.targets import MixedTarget


class Hits(NamedTuple):
    """Where a batch's predictions are right, and where its two labels are alike: enough for every accuracy."""

    own: Hit
    partner: Hit
    alike: Hit
    kept: Kept

    def accuracy(self) -> Tensor:
        """Return the share of the label mass that the predictions hit."""
        kept = self.kept.to(self.own.device, torch.float32, non_blocking=True)
        return torch.lerp(self.partner.float(), self.own.float(), kept).mean()

    def ceiling(self) -> Tensor:
        """Return the largest share that any prediction hits: each names one class, for two labels."""
        kept = self.kept.to(self.own.device, torch.float32, non_blocking=True)
        return torch.where(self.alike, 1.0, torch.maximum(kept, 1.0 - kept)).mean()


def accuracy(outputs: Logits, target: Labels | MixedTarget) -> Tensor:
    """Return the accuracy in [0, 1], as a tensor without axes on the outputs' device.

    Of a mixed batch it is the mean over the samples of ``kept * hit(own) + (1 - kept) * hit(partner)``, the share of
    the label mass that the prediction hits. A perfect model does not reach 1 there: see ``ceiling``.

    Args:
        outputs: (batch, classes); the largest is the prediction.
        target: class indices (batch,), rows (batch, classes) whose largest entry is the class, or a MixedTarget.

    Raises:
        ValueError: when there is not one label for each prediction.
    """
    if isinstance(target, MixedTarget):
        return hits(outputs, target).accuracy()
    return _hit(outputs.argmax(1), classes_of(target)).float().mean()


def ceiling(target: MixedTarget) -> Tensor:
    """Return the highest ``accuracy`` that any prediction reaches on this mixed batch.

    One class is predicted for two labels: ``mean(1 where own == partner, else max(kept, 1 - kept))``.
    """
    alike = classes_of(target.own) == classes_of(target.partner)
    return Hits(alike, alike, alike, target.kept).ceiling()


def hits(outputs: Logits, target: MixedTarget) -> Hits:
    """Compare the predictions with both labels of a mixed batch."""
    predicted, own, partner = outputs.argmax(1), classes_of(target.own), classes_of(target.partner)
    return Hits(_hit(predicted, own), _hit(predicted, partner), own == partner, target.kept)


def _hit(predicted: Ids, classes: Ids) -> Hit:
    if classes.shape != predicted.shape:
        raise ValueError(
            f"target must have one label for each of the predictions {tuple(predicted.shape)}, got labels of shape "
            f"{tuple(classes.shape)}: flatten() makes (batch,) of (batch, 1)"
        )
    return predicted == classes


def classes_of(labels: Labels) -> Ids:
    """Return the class of each label: an index as it is, of a row its largest entry."""
    return labels.argmax(1) if labels.is_floating_point() else labels
