"""Optimizers and schedules that the Trainer's users need not write."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cutmix.core.algorithm import Algorithm
from cutmix.core.event import Event
from cutmix.core.time import Time
from cutmix.losses import module_of
from cutmix.trainer.processes import full

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from cutmix.core.logger import Logger
    from cutmix.core.state import State
    from cutmix.core.time import Timestamp
    from cutmix.reductions import LossFn


def default_optimizer(model: nn.Module) -> Optimizer:
    """Return what the Trainer takes when it is given none."""
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def parameter_groups(model: nn.Module, weight_decay: float, *, decay_embeddings: bool = False) -> list[dict[str, Any]]:
    """Return the groups for an optimizer: weights, which decay, and biases, norms and embeddings, which do not.

    Whatever has one axis at most counts among the latter. Each parameter stands in one group, once: a tied one too, and
    one that is frozen.
    """
    kinds = (nn.LayerNorm, nn.RMSNorm, *(() if decay_embeddings else (nn.Embedding, nn.EmbeddingBag)))
    spared = {
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim <= 1 or name == "bias" or isinstance(module, kinds)
    }
    decaying = [parameter for parameter in model.parameters() if parameter not in spared]
    others = [parameter for parameter in model.parameters() if parameter in spared]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def clip(optimizers: Sequence[Optimizer], norm: float) -> Tensor:
    """Shorten the gradients of all optimizers, taken together, to ``norm``; return how long they were."""
    alike = defaultdict(list)  # torch mixes no sharded ones with whole ones, such as those of a loss that learns
    for parameter in (one for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]):
        alike[getattr(parameter, "device_mesh", None)].append(parameter)
    gradients = [[one.grad for one in parameters if one.grad is not None] for parameters in alike.values()]
    total = reduce(torch.hypot, [full(nn.utils.get_total_norm(ones)) for ones in gradients])
    for parameters in alike.values():
        nn.utils.clip_grads_with_norm_(parameters, norm, total)
    return total


@final
@dataclass(frozen=True, slots=True)
class CosineWithWarmup(Algorithm):
    """Raises the rates in a line to the optimizers' own, then lets them fall along half a cosine, by the clock.

    The end is ``max_duration``. A rate depends on the time alone, so that it is exact from any step on.

    Args:
        warmup: how long they rise: a share of the run, in [0, 1), or a time, ``'5ep'`` or ``'500ba'``.
        final: the share of its own rate that an optimizer ends with, in [0, 1].
    """

    warmup: float | str | Time = 0.1
    final: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.warmup, str):
            object.__setattr__(self, "warmup", Time.parse(self.warmup, "warmup"))
        elif not isinstance(self.warmup, Time) and not 0.0 <= self.warmup < 1.0:
            raise ValueError(
                f"warmup must lie in [0, 1) as a share of the run, got {self.warmup}; as a time write '5ep' or '500ba'"
            )
        if not 0.0 <= self.final <= 1.0:
            raise ValueError(f"final must lie in [0, 1], got {self.final}; it is a share of the optimizer's own rate")

    events = (Event.INIT, Event.FIT_START, Event.BATCH_START)

    def apply(self, event: Event, state: State, logger: Logger) -> None:  # noqa: ARG002
        groups = [group for optimizer in state.optimizers for group in optimizer.param_groups]
        if event is Event.INIT:
            for group in groups:
                group.setdefault("initial_lr", copy.deepcopy(group["lr"]))
            return
        share = self.share(state.timestamp, state.max_duration, state.batches_per_epoch)
        for group in groups:
            _set_rate(group, share)

    def share(self, now: Timestamp, duration: Time, batches_per_epoch: int | None) -> float:
        """Return the share of an optimizer's own rate that the step which begins ``now`` is made with.

        Raises:
            ValueError: when the end of the warm-up cannot be told, or lies behind the run.
        """
        rising = self._rising(duration, batches_per_epoch)
        count = now.elapsed(duration.unit, batches_per_epoch)
        if count < rising:
            # What counts is the end of the step, where it is known, so that the first one is not made with nothing.
            return min(now.next_batch(0).elapsed(duration.unit, batches_per_epoch) / rising, 1.0)
        fallen = min((count - rising) / (duration.value - rising), 1.0)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * fallen))

    def _rising(self, duration: Time, batches_per_epoch: int | None) -> float:
        """Return how long the rates rise, counted in the unit of ``duration``."""
        rising = _counted(self.warmup, duration, batches_per_epoch)
        if rising >= duration.value:
            raise ValueError(f"warmup must end before max_duration, {duration}, got {self.warmup}; train longer")
        if rising and duration.unit == "ep" and batches_per_epoch is None:
            raise ValueError(
                f"warmup must be 0 where nobody knows how many batches an epoch has, got {self.warmup}; "
                "give max_duration in batches"
            )
        return rising


def _counted(warmup: float | str | Time, duration: Time, batches_per_epoch: int | None) -> float:
    """Return how long ``warmup`` is in the unit of ``duration``."""
    if not isinstance(warmup, Time):
        return float(warmup) * duration.value
    if warmup.unit == duration.unit:
        return warmup.value
    if batches_per_epoch is None or "sp" in (warmup.unit, duration.unit):
        raise ValueError(
            f"warmup must be told in the unit of max_duration, {duration}, got {warmup}; a share, 0.1, does in all"
        )
    return warmup.value * batches_per_epoch if warmup.unit == "ep" else warmup.value / batches_per_epoch


def _set_rate(group: dict[str, Any], share: float) -> None:
    rate = share * group["initial_lr"]
    if isinstance(group["lr"], Tensor):
        group["lr"].copy_(rate)
    else:
        group["lr"] = rate


def split_schedulers(
    schedulers: Sequence[LRScheduler | CosineWithWarmup],
) -> tuple[list[LRScheduler], list[CosineWithWarmup]]:
    """Tell torch's schedulers from ours, which sets the rates of all optimizers and so must be alone."""
    ours = [scheduler for scheduler in schedulers if isinstance(scheduler, CosineWithWarmup)]
    if ours and len(schedulers) > 1:
        raise ValueError(
            f"schedulers must be torch's, or one CosineWithWarmup alone, got {len(schedulers)} with one among them; "
            "it sets the rates of all optimizers"
        )
    return [scheduler for scheduler in schedulers if not isinstance(scheduler, CosineWithWarmup)], ours


def check_optimizers(optimizers: Sequence[Optimizer], model: nn.Module, loss_fn: LossFn) -> None:
    """Refuse an optimizer that trains neither the model nor the loss."""
    learned = {parameter for module in (model, module_of(loss_fn)) for parameter in module.parameters()}
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
