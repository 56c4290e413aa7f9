"""In which numbers a step is computed, and how gradients are kept from vanishing in float16."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch
from torch.amp import GradScaler

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

    from cutmix.core.state import State

P = ParamSpec("P")
T = TypeVar("T")
PRECISIONS = {"fp32": None, "amp_bf16": torch.bfloat16, "amp_fp16": torch.float16}


def precision_for(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context to compute in; it may be entered again and again."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}; take 'amp_bf16'")
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def within(context: AbstractContextManager[object], function: Callable[P, T]) -> Callable[P, T]:
    """Return ``function`` computed in ``context``, one of ``precision_for``."""
    return context(function) if isinstance(context, torch.autocast) else function


def scaler_for(device: torch.device, precision: str) -> GradScaler | None:
    """Return what scales the loss where gradients would vanish: in float16."""
    return GradScaler(device.type) if precision == "amp_fp16" else None


def backward(loss: Tensor, state: State) -> None:
    """Add the gradient of ``loss``, scaled where there is a scaler."""
    (loss if state.scaler is None else state.scaler.scale(loss)).backward()


def unscale(state: State) -> list[Optimizer]:
    """Bring the gradients to their true size, for whoever looks at them next; return the optimizers that have some."""
    if state.scaler is None:
        return state.optimizers
    optimizers = [optimizer for optimizer in state.optimizers if _has_gradients(optimizer)]  # it refuses the others
    for optimizer in optimizers:
        state.scaler.unscale_(optimizer)
    return optimizers


def step(state: State, optimizers: list[Optimizer]) -> None:
    """Step the ``optimizers``; the scaler leaves out those whose gradients have overflowed.

    It waits for the device to tell, but for optimizers that are fused.
    """
    for optimizer in optimizers:
        if state.scaler is None:
            optimizer.step()
        else:
            state.scaler.step(optimizer)
    if state.scaler is not None and optimizers:
        state.scaler.update()


def step_schedulers(state: State) -> None:
    """Step the schedulers: the clock goes on where the scaler left a step out."""
    with nullcontext() if state.scaler is None else warnings.catch_warnings():
        if state.scaler is not None:
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        for scheduler in state.schedulers:
            scheduler.step()


def _has_gradients(optimizer: Optimizer) -> bool:
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])
