"""The loop that trains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, final

import torch

from cutmix.core.batch import get_item, num_samples, split, to_device
from cutmix.core.event import Event
from cutmix.core.logger import value_of
from cutmix.keys import fold
from cutmix.trainer import precision
from cutmix.trainer.batches.dealing import Share
from cutmix.trainer.composer.models import outputs_of
from cutmix.trainer.loggers import EVERY
from cutmix.trainer.optim import clip
from cutmix.trainer.processes import unsynced
from cutmix.trainer.runtime import generators_of
from cutmix.trainer.scores import detached_scores, loss_of, train_scores, weighted
from cutmix.trees import leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from cutmix.core.batch import Batch
    from cutmix.core.logger import Figure, Loggers
    from cutmix.core.runner import Runner
    from cutmix.core.time import Timestamp
    from cutmix.trainer.batches.order import Batches
    from cutmix.trainer.evaluation import Evaluation


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How the loop goes about its steps."""

    precision: AbstractContextManager[object]
    microbatch_size: int | None
    step_schedulers_every_batch: bool
    gradient_clip_norm: float | None

    def __post_init__(self) -> None:
        size = self.microbatch_size
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(
                f"device_train_microbatch_size must be at least 1, got {size!r}; None computes the batch at once"
            )
        norm = self.gradient_clip_norm
        if norm is not None and (not isinstance(norm, int | float) or not norm > 0.0):
            raise ValueError(f"gradient_clip_norm must be above 0, got {norm!r}; None leaves the gradients as they are")


@final
class Loop:
    """Trains until ``state.max_duration``, telling everybody of each moment of ``Event``, in that order."""

    def __init__(
        self,
        run: Runner,
        loggers: Loggers,
        batches: Batches,
        evaluations: Sequence[Evaluation],
        settings: Settings,
    ) -> None:
        self._run = run
        self._tell = run.tell
        self._state = run.state
        self._loggers = loggers
        self._batches = batches
        self._evaluations = [(evaluation, every) for evaluation in evaluations if (every := evaluation.interval)]
        run.state.evaluated = {evaluation.label: -1 for evaluation, _ in self._evaluations}
        self._settings = settings
        self._outputs_of = precision.within(settings.precision, outputs_of)
        self._loss_of = precision.within(settings.precision, loss_of)
        self._generator = generators_of(run.state.device)[1]
        self._is_host = run.state.device.type == "cpu"

    def fit(self) -> None:
        """Train on from where the state is."""
        self._state.model.train()
        self._run(Event.FIT_START)
        while not self._state.has_ended:
            self._epoch()
        self._loggers.settle()
        self._run(Event.FIT_END)

    def _epoch(self) -> None:
        """Train for an epoch, or for what is left of it."""
        if self._state.timestamp.batch_in_epoch == 0:
            self._run(Event.EPOCH_START)
        for batch, share in self._fetched():
            self._load(batch)
            self._step(share)
            if self._state.has_ended:
                return
        self._end_epoch()

    def _fetched(self) -> Iterator[tuple[Batch, Share | None]]:
        start = self._state.timestamp
        batches = self._batches.epoch(start.epoch, start.batch_in_epoch)
        while not self._state.epoch_is_over:
            self._tell[Event.BEFORE_DATALOADER]()
            try:
                fetched = next(batches)
            except StopIteration:
                return
            yield fetched

    def _load(self, batch: Batch) -> None:
        """Bring the batch to the device, where algorithms may change it: once, before it is cut into microbatches."""
        state = self._state
        copied = not self._is_host and not _is_on(state.device, batch)
        state.owns_batch = copied or self._batches.are_new
        state.batch, state.plan = to_device(batch, state.device), None
        state.find_samples = self._batches.samples(state.timestamp.batch_in_epoch)
        self._generator.manual_seed(fold(state.seed, "step", state.timestamp.batch, state.world.rank))

    def _step(self, share: Share | None) -> None:
        state, tell, before = self._state, self._tell, self._state.timestamp
        tell[Event.AFTER_DATALOADER]()
        tell[Event.BATCH_START]()
        tell[Event.BEFORE_TRAIN_BATCH]()
        counted = self._differentiate(share)
        stepping = precision.unscale(state)
        tell[Event.AFTER_TRAIN_BATCH]()
        if (norm := self._settings.gradient_clip_norm) is not None:
            state.train_figures["train/grad_norm"] = clip(state.optimizers, norm)
        precision.step(state, stepping)
        if self._settings.step_schedulers_every_batch:
            precision.step_schedulers(state)
        state.timestamp = before.next_batch(counted.total)
        self._log(counted.here)
        tell[Event.BATCH_END]()
        if self._evaluations:
            self._evaluate(before)
        tell[Event.BATCH_CHECKPOINT]()

    def _differentiate(self, share: Share | None) -> Share:
        """Set the gradients to those of the parts' losses, weighted by samples; return how many samples there are."""
        state, whole, size = self._state, self._state.batch, self._settings.microbatch_size
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if size is None:
            samples = self._count(whole)
            weight = 1.0 if share is None else share.weights([samples], state.world.size, parts=1)[0]
            state.measured = self._microbatch(whole, weight)
            share = share or Share.alone(samples)
        else:
            share = self._differentiate_parts(split(whole, size), size, share)
        state.batch, state.weight = whole, 1.0 if share.here else 0.0
        return share

    def _differentiate_parts(self, parts: list[Batch], size: int, share: Share | None) -> Share:
        state, counts = self._state, [self._count(part) for part in parts]
        share = share or Share.alone(sum(counts))
        *weights, last = share.weights(counts, state.world.size, parts=-(-share.most // size))
        parts += parts[:1] * (len(weights) + 1 - len(parts))  # what only keeps step computes anything
        measured = []
        for part, weight in zip(parts, weights, strict=False):
            with unsynced(state):
                measured.append(self._microbatch(part, weight)())
        measured.append(self._microbatch(parts[-1], last)())
        figures = _weighted(measured[: len(counts)], counts)
        state.measured, state.loss = figures, torch.as_tensor(figures["train/loss"])
        return share

    def _count(self, batch: Batch) -> int:
        samples = num_samples(get_item(batch, self._state.input_key))
        if samples == 0:
            raise ValueError(
                "train_dataloader must give batches of at least one sample, got an empty one; leave it out"
            )
        return samples

    def _microbatch(self, batch: Batch, weight: float) -> Callable[[], dict[str, Figure]]:
        """Add the gradient of ``weight`` times the loss; return what is measured of it, when somebody asks."""
        state, tell = self._state, self._tell
        state.batch, state.weight = batch, weight
        tell[Event.BEFORE_FORWARD]()
        state.outputs = self._outputs_of(state)
        tell[Event.AFTER_FORWARD]()
        tell[Event.BEFORE_LOSS]()
        target = get_item(state.batch, state.target_key)
        state.loss = self._loss_of(state, target)
        tell[Event.AFTER_LOSS]()
        tell[Event.BEFORE_BACKWARD]()
        precision.backward(weighted(state.loss, state), state)
        tell[Event.AFTER_BACKWARD]()
        state.loss = state.loss.detach()
        outputs = detached_scores(state.outputs)
        return partial(train_scores, state.loss, outputs, target, state.loss_fn)

    def _log(self, samples: int) -> None:
        state = self._state
        if self._loggers.are_heard:
            self._loggers.log_means({"epoch": state.epoch, **state.train_figures}, state.timestamp.batch, samples)
        if state.timestamp.batch % EVERY == 0:
            self._loggers.settle()

    def _end_epoch(self) -> None:
        state, before = self._state, self._state.timestamp
        if before.batch_in_epoch == 0:
            raise ValueError(
                f"train_dataloader must give at least one batch an epoch, got none in epoch {before.epoch + 1}; "
                "a generator gives its batches once: pass a function that makes one"
            )
        if not self._settings.step_schedulers_every_batch:
            precision.step_schedulers(state)
        state.timestamp = before.next_epoch()
        self._run(Event.EPOCH_END)
        self._evaluate(before)
        self._run(Event.EPOCH_CHECKPOINT)

    def _evaluate(self, before: Timestamp) -> None:
        """Evaluate what is due since ``before``; when training ends, all that was not evaluated at this step."""
        state = self._state
        for evaluation, every in self._evaluations:
            if every.divides(before, state.timestamp):
                self._measure(evaluation)
        if state.has_ended:
            for evaluation, _ in self._evaluations:
                self._measure(evaluation)

    def _measure(self, evaluation: Evaluation) -> None:
        step = self._state.timestamp.batch
        if self._state.evaluated[evaluation.label] != step:
            self._state.evaluated[evaluation.label] = step
            evaluation.measure(self._run)
            self._loggers.settle()


def _weighted(measured: list[dict[str, Figure]], counts: list[int]) -> dict[str, Figure]:
    """Return the means over all samples of what was measured of each part."""
    shares = [count / sum(counts) for count in counts]
    return {
        name: sum(value_of(part[name]) * share for part, share in zip(measured, shares, strict=True))
        for name in measured[0]
    }


def _is_on(device: torch.device, batch: Batch) -> bool:
    """Tell whether a part of ``batch`` lies on ``device`` already, so that moving would not copy it."""
    return any(getattr(leaf, "device", None) == device for leaf in leaves(batch))
