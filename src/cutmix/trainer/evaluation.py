"""The loop that measures."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, final

import torch

from cutmix.core.batch import num_samples, to_device
from cutmix.core.event import Event
from cutmix.keys import fold
from cutmix.losses import mixed_in
from cutmix.trainer.composer_models import outputs_of, update
from cutmix.trainer.order import generators_in, iterate
from cutmix.trainer.runtime import generators_of, seeded
from cutmix.trainer.scores import computed, eval_scores, loss_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from cutmix.core.batch import Batch
    from cutmix.core.runner import Runner
    from cutmix.core.state import State
    from cutmix.core.time import Time
    from cutmix.trainer.order import Source
    from cutmix.trainer.scores import Metric


@final
@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Measures a model on batches that are never mixed; its figures are called ``eval/loss``, ``eval/LABEL/loss``."""

    label: str  # empty for one that is nameless
    source: Source
    limit: int | None
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
        before, generators = state.eval_metrics, (*generators_of(state.device), *generators_in(self.source))
        with _set_aside(state), state.after_eval, seeded(fold(state.seed, "eval"), generators), torch.no_grad():
            run(Event.EVAL_START)
            state.eval_metrics = measured = self._over(islice(iterate(self.source), self.limit), run)
            run.logger.log_metrics({"epoch": state.epoch, **measured}, state.timestamp.batch)
            run(Event.EVAL_END)
        state.eval_metrics = {**before, **measured}
        return measured

    def _over(self, batches: Iterator[Batch], run: Runner) -> dict[str, float]:
        state, samples = run.state, list[int]()
        scores: dict[str, list[Tensor]] = defaultdict(list)
        for metric in self.metrics.values():
            metric.reset()
        for batch in batches:
            state.batch = to_device(batch, state.device)
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
            update(self.metrics.values(), state, target)
            run(Event.EVAL_BATCH_END)
        if not sum(samples):
            raise ValueError("eval_dataloader must give at least one batch, got none; leave it None not to evaluate")
        means = {
            f"{self.prefix}/{name}": _mean(torch.stack(values).tolist(), samples) for name, values in scores.items()
        }
        return {**means, **computed(self.metrics, self.prefix)}


def prefix_for(label: str) -> str:
    """Return what the names of an evaluator's figures begin with."""
    return f"eval/{label}" if label else "eval"


def _plain(target: Any) -> Any:  # noqa: ANN401 - the user's
    if mixed_in(target):
        raise ValueError("eval_dataloader must give plain targets, got a MixedTarget; take the mixing collate_fn off")
    return target


def _mean(values: list[float], samples: list[int]) -> float:
    return math.fsum(value * count for value, count in zip(values, samples, strict=True)) / sum(samples)


@contextmanager
def _set_aside(state: State) -> Generator[None]:
    """Lend the model, in evaluation mode, and the state's batch; leave both as they were."""
    batch, outputs, loss = state.batch, state.outputs, state.loss
    training = [module for module in state.model.modules() if module.training]
    state.model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
        state.batch, state.outputs, state.loss = batch, outputs, loss
