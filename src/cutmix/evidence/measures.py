"""What a trained network is measured by: pure functions of logits and labels."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutmix.data.feed import Floats, Standardise
from cutmix.data.images import Splits
from cutmix.metrics import accuracy
from cutmix.shapes import Ids, Logits

BINS = 15


@final
@dataclass(frozen=True, slots=True)
class Measures:
    """One network after its last step; every share lies between 0 and 1."""

    train_accuracy: float
    """On the training images as they are: neither augmented nor mixed."""
    test_accuracy: float
    test_nll: float
    """Mean negative log likelihood of the test labels, in nats."""
    test_calibration_error: float
    hole_accuracy: float
    """On the test images with a hole in the middle."""


def measure(model: nn.Module, splits: Splits) -> Measures:
    """Measure ``model``, which takes images standardised by the training set."""
    standardise = Standardise.fitted(splits.train.pixels)
    train, test = (standardise.of(images.pixels) for images in (splits.train, splits.test))
    labels, logits = splits.test.labels, predict(model, test)
    return Measures(
        train_accuracy=accuracy(predict(model, train), splits.train.labels).item(),
        test_accuracy=accuracy(logits, labels).item(),
        test_nll=negative_log_likelihood(logits, labels),
        test_calibration_error=calibration_error(logits, labels),
        hole_accuracy=accuracy(predict(model, with_hole(test)), labels).item(),
    )


@torch.inference_mode()
def predict(model: nn.Module, images: Floats, batch_size: int = 256) -> Logits:
    """Return the logits of all ``images`` on the host, the model in evaluation mode."""
    device = next(model.parameters()).device
    model.eval()
    return torch.cat([model(batch.to(device)).float().cpu() for batch in images.split(batch_size)])


def negative_log_likelihood(logits: Logits, labels: Ids) -> float:
    """Return the mean negative log likelihood of ``labels``, in nats."""
    return F.cross_entropy(logits.double(), labels).item()


def calibration_error(logits: Logits, labels: Ids) -> float:
    """Return the expected calibration error of the top prediction: 15 bins of equal width over the confidence.

    In each bin the gap between the mean confidence and the accuracy, weighted by the bin's share of the images.
    Source: Guo et al. 2017, eq. 5. In float64; torchmetrics gives the same in float32 for a second of import a run.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    excess = confidence - (predicted == labels).double()
    bins = (confidence * BINS).ceil().long() - 1
    return (excess.new_zeros(BINS).index_add_(0, bins, excess).abs().sum() / len(labels)).item()


def with_hole(images: Floats) -> Tensor:
    """Return ``images`` with a square of half the side in the middle at the training set's mean colour.

    Standardised images have their mean at 0. For 32 x 32 it hides rows and columns 8 to 23, a quarter of the image.
    """
    height, width = images.shape[-2:]
    top, left = height // 4, width // 4
    holed = images.clone()
    holed[..., top : top + height // 2, left : left + width // 2] = 0
    return holed
