"""Optimizers and schedules that the Trainer's users need not write."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


def default_optimizer(model: nn.Module) -> Optimizer:
    """Return what the Trainer takes when it is given none."""
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def cosine_with_warmup(optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """Raise the rate in a line to the optimizer's own, then let it fall to 0 along half a cosine; step it every batch.

    Args:
        optimizer: holds the rate at the peak.
        total_steps: steps after which the rate is 0.
        warmup: share of the steps that raise it, in [0, 1); at least one step is left to let it fall.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}; it counts the batches of the whole run")
    if not 0.0 <= warmup < 1.0:
        raise ValueError(f"warmup must lie in [0, 1), got {warmup}; it is a share of the steps: for k of n pass k / n")
    rising = min(round(warmup * total_steps), total_steps - 1)

    def share(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - rising) / (total_steps - rising))))

    return LambdaLR(optimizer, share)


def check_optimizers(optimizers: Sequence[Optimizer], model: nn.Module, loss_fn: object) -> None:
    """Refuse an optimizer that trains neither the model nor the loss."""
    modules = [module for module in (model, loss_fn) if isinstance(module, nn.Module)]
    learned = {parameter for module in modules for parameter in module.parameters()}
    for optimizer in optimizers:
        if learned.isdisjoint(parameter for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError(
                f"optimizers must hold parameters of the model, got a {type(optimizer).__name__} that holds none of "
                "them; make it with model.parameters() of the very model that is handed in"
            )


def check_schedulers(schedulers: Sequence[LRScheduler], optimizers: Sequence[Optimizer]) -> None:
    """Refuse a scheduler that waits for a metric, or that sets the rate of an optimizer nobody steps."""
    for scheduler in schedulers:
        if isinstance(scheduler, ReduceLROnPlateau):
            raise TypeError(
                "schedulers must step without a metric, got a ReduceLROnPlateau; step it in a callback of yours, "
                "eval_end, with state.eval_metrics['eval/loss']"
            )
        if not any(scheduler.optimizer is optimizer for optimizer in optimizers):
            raise ValueError(
                f"schedulers must be of optimizers that are handed in, got a {type(scheduler).__name__} of another; "
                "pass its optimizer too: optimizers=scheduler.optimizer"
            )
