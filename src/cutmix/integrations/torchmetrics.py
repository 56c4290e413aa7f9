"""The mixed accuracy as torchmetrics have it: added up over batches, and over ranks."""

from abc import abstractmethod
from typing import Any, final

import torch
from torch import Tensor
from torchmetrics import Metric

from cutmix.metrics import accuracy, ceiling
from cutmix.shapes import Labels, Logits
from cutmix.targets import MixedTarget


class _Mean(Metric):
    """A mean over all samples that were seen, on all ranks."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    takes_mixed_targets = True
    """For the Trainer, which spares other metrics the mixed batches."""

    total: Tensor
    samples: Tensor

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - torchmetrics'
        super().__init__(**settings)
        # Not float64: some devices have none. A batch's share is added at once, so that little is lost.
        self.add_state("total", torch.zeros((), dtype=torch.float32), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Logits, target: Labels | MixedTarget) -> None:
        """Take one more batch into account.

        Args:
            outputs: (batch, classes); the largest is the prediction.
            target: class indices (batch,), rows (batch, classes) whose largest entry is the class, or a MixedTarget.
        """
        self.total += self._mean(outputs.detach(), target) * len(outputs)
        self.samples += len(outputs)

    def compute(self) -> Tensor:
        """Return the mean over all samples since the last reset, a tensor without axes."""
        return self.total / self.samples

    @abstractmethod
    def _mean(self, outputs: Logits, target: Labels | MixedTarget) -> Tensor:
        """Return the mean over one batch."""


@final
class MixedAccuracy(_Mean):
    """The share of the label mass that predictions hit: ``kept * hit(own) + (1 - kept) * hit(partner)``.

    On plain targets it is the accuracy. On mixed ones a perfect model does not reach 1: see ``MixedCeiling``.
    """

    def _mean(self, outputs: Logits, target: Labels | MixedTarget) -> Tensor:
        return accuracy(outputs, target)


@final
class MixedCeiling(_Mean):
    """The highest ``MixedAccuracy`` that any predictions reach; on plain targets it is 1."""

    def _mean(self, outputs: Logits, target: Labels | MixedTarget) -> Tensor:
        return ceiling(target) if isinstance(target, MixedTarget) else outputs.new_ones((), dtype=torch.float32)
