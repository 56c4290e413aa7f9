"""Optimizers and schedules that the Trainer's users need not write."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.optim.lr_scheduler import LambdaLR

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def default_optimizer(model: nn.Module) -> Optimizer:
    """Return what the Trainer takes when it is given none."""
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def cosine_with_warmup(optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """Raise the rate in a line to the optimizer's own, then let it fall to 0 along half a cosine; step it every batch.

    Args:
        optimizer: holds the rate at the peak.
        total_steps: steps after which the rate is 0.
        warmup: share of the steps that raise it, in [0, 1).
    """
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}; it counts the batches of the whole run")
    if not 0.0 <= warmup < 1.0:
        raise ValueError(f"warmup must lie in [0, 1), got {warmup}; it is a share of the steps: for k of n pass k / n")
    rising = round(warmup * total_steps)

    def share(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - rising) / (total_steps - rising))))

    return LambdaLR(optimizer, share)
