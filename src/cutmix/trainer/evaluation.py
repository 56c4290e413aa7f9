"""The loop that measures."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch

from cutmix.core.batch import num_samples, to_device
from cutmix.core.event import Event
from cutmix.keys import fold
from cutmix.losses import mixed_in
from cutmix.trainer.composer.models import outputs_of
from cutmix.trainer.processes import reshard
from cutmix.trainer.runtime import generators_of, seeded
from cutmix.trainer.scores import computed, eval_scores, loss_of, take_in

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from cutmix.core.runner import Runner
    from cutmix.core.state import State
    from cutmix.core.time import Time
    from cutmix.trainer.batches.order import Batches
    from cutmix.trainer.scores import Metric


@final
@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Measures a model on batches that are never mixed; its figures are called ``eval/loss``, ``eval/LABEL/loss``."""

    label: str  # empty for one that is nameless
    batches: Batches
    metrics: Mapping[str, Metric]
    precision: AbstractContextManager[object]
    interval: Time | None  # None: never in training

    @property
    def prefix(self) -> str:
        """Return what the names of the figures begin with."""
        return prefix_for(self.label)

    def measure(self, run: Runner) -> dict[str, float]:
        """Return the loss, the accuracy where there are classes, and the user's metrics, over all samples."""
        state = run.state
        before = state.eval_metrics
        chance = seeded(fold(state.seed, "eval"), generators_of(state.device))
        with _set_aside(state), state.after_eval, chance, torch.no_grad():
            run(Event.EVAL_START)
            state.eval_metrics = measured = self._over(run)
            run.logger.log_metrics({"epoch": state.epoch, **measured}, state.timestamp.batch)
            run(Event.EVAL_END)
        state.eval_metrics = {**before, **measured}
        return measured

    def _over(self, run: Runner) -> dict[str, float]:
        state, samples = run.state, list[int]()
        scores: dict[str, list[Tensor]] = defaultdict(list)
        for metric in self.metrics.values():
            metric.reset()
        for batch, share in self.batches.epoch(0):
            state.batch = to_device(batch, state.device)
            if share is not None and not share.here:
                self._go_along(state)
                continue
            run(Event.EVAL_BATCH_START)
            images, target = state.batch_get_item(state.input_key), _plain(state.batch_get_item(state.target_key))
            run(Event.EVAL_BEFORE_FORWARD)
            with self.precision:
                state.outputs = outputs_of(state)
                state.loss = loss_of(state, target)
            run(Event.EVAL_AFTER_FORWARD)
            samples.append(num_samples(images))
            for name, score in {"loss": state.loss, **eval_scores(state, target)}.items():
                scores[name].append(score)
            take_in(self.metrics, state, target)
            run(Event.EVAL_BATCH_END)
        own = {name: list(zip(torch.stack(values).tolist(), samples, strict=True)) for name, values in scores.items()}
        return {f"{self.prefix}/{name}": mean for name, mean in _means(state.world.gathered(own)).items()} | computed(
            self.metrics, self.prefix, state
        )

    def _go_along(self, state: State) -> None:
        """Compute what the other ranks need of this one, which has no batch left: nothing of it counts."""
        with self.precision:
            state.outputs = outputs_of(state)
        take_in(self.metrics, state, None, counts=False)


def prefix_for(label: str) -> str:
    """Return what the names of an evaluator's figures begin with."""
    return f"eval/{label}" if label else "eval"


def _plain(target: Any) -> Any:  # noqa: ANN401 - the user's
    if mixed_in(target):
        raise ValueError("eval_dataloader must give plain targets, got a MixedTarget; take the mixing collate_fn off")
    return target


def _means(measured: list[dict[str, list[tuple[float, int]]]]) -> dict[str, float]:
    """Return the means over the samples of all ranks: exact sums, which do not depend on the order."""
    pairs: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for own in measured:
        for name, values in own.items():
            pairs[name] += values
    if not pairs:
        raise ValueError("eval_dataloader must give at least one batch, got none; leave it None not to evaluate")
    return {
        name: math.fsum(value * count for value, count in values) / sum(count for _, count in values)
        for name, values in pairs.items()
    }


@contextmanager
def _set_aside(state: State) -> Generator[None]:
    """Lend the model, in evaluation mode, and the state's batch; leave both as they were."""
    batch, outputs, loss = state.batch, state.outputs, state.loss
    training = [module for module in state.model.modules() if module.training]
    state.model.eval()
    try:
        yield
    finally:
        reshard(state.model)
        for module in training:
            module.training = True
        state.batch, state.outputs, state.loss = batch, outputs, loss
