"""Losses and weights that are not finite."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch.nn.utils import get_total_norm

from cutmix.core.callback import Callback
from cutmix.losses import mixed_in
from cutmix.trainer.processes import shard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from cutmix.core.logger import Logger
    from cutmix.core.state import State
    from cutmix.plans import Plan

SHOWN = 16
"""How many boxes, weights and samples a message writes out."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What is known of a step, for whoever asks why its loss is not finite."""

    number: int
    rates: tuple[float | Tensor, ...]  # of the optimizers' groups
    plan: Plan | None
    kept: tuple[Tensor, ...]  # of the mixed targets
    samples: Any  # their indices in the data set, where the order knows them

    @staticmethod
    def of(state: State) -> Step:
        """Take down the step that is being taken, without waiting for the device."""
        rates = tuple(group["lr"] for optimizer in state.optimizers for group in optimizer.param_groups)
        kept = tuple(target.kept for target in mixed_in(state.batch_get_item(state.target_key)))
        return Step(state.timestamp.batch + 1, rates, state.plan, kept, state.samples)

    def __str__(self) -> str:
        return f"step {self.number} ({'; '.join(self._described())})"

    def _described(self) -> Iterator[str]:
        yield f"rate {', '.join(dict.fromkeys(f'{float(rate):g}' for rate in self.rates))}"
        if self.plan is not None:
            yield f"box {_few([tuple(box) for box in self.plan.boxes.flatten(1).tolist()])}"
        for kept in self.kept:
            shares = [float(f"{share:.4g}") for share in kept.tolist()]
            yield f"kept {_few(shares if len(set(shares)) > 1 else shares[:1])}"
        if self.samples is not None:
            yield f"samples {_few(self.samples if isinstance(self.samples, list | tuple) else [self.samples])}"


@final
class NonFiniteLossError(ArithmeticError):
    """A loss or a weight is nan or infinite; ``step`` tells what is known of the step, where it is one step's."""

    def __init__(self, message: str, step: Step | None = None) -> None:
        super().__init__(message)
        self.step = step


@final
class LossWatch(Callback):
    """Ends training when a loss is not finite: at once on the host, one step late on a device, which works on."""

    def __init__(self) -> None:
        self._seen: tuple[Step, Tensor, torch.cuda.Event] | None = None

    def after_train_batch(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        loss = _loss_of(state)
        if not loss.is_cuda:
            if not math.isfinite(value := loss.item()):
                raise _refusal(value, Step.of(state))
            return
        self.settle()
        copy = torch.empty((), dtype=loss.dtype, pin_memory=True).copy_(loss.detach(), non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._seen = Step.of(state), copy, arrived

    def fit_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        check_finite(state)

    def settle(self) -> None:
        """Look at the last loss that was taken down, and wait for it.

        Raises:
            NonFiniteLossError: when it is nan or infinite.
        """
        if self._seen is not None:
            (step, loss, arrived), self._seen = self._seen, None
            arrived.synchronize()
            if not math.isfinite(value := loss.item()):
                raise _refusal(value, step)


@final
class SkipNonFinite(Callback):
    """Skips each step whose loss or gradient is not finite, and says so: neither weights nor buffers change.

    It waits for the device once a step, and copies the model's buffers. Without it training ends at the first such
    step. Under ``amp_fp16`` the gradient is left to the scaler, which skips what its own scale has made overflow.

    Args:
        limit: the most steps that are skipped in the whole run; one more ends it with a ``NonFiniteLossError``.
    """

    def __init__(self, limit: int) -> None:
        if not isinstance(limit, int) or limit < 0:
            raise ValueError(f"limit must be a whole number of 0 or more, got {limit!r}; it counts the steps skipped")
        self._limit = limit
        self._skipped = 0
        self._buffers: dict[str, Tensor] = {}

    def state_dict(self) -> Mapping[str, Any]:
        return {"skipped": self._skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._skipped = state["skipped"]

    def before_train_batch(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._buffers = {name: buffer.detach().clone() for name, buffer in state.model.named_buffers()}

    def after_train_batch(self, state: State, logger: Logger) -> None:
        if _is_harmless(state):
            return
        self._skipped += 1
        step = Step.of(state)
        if self._skipped > self._limit:
            raise NonFiniteLossError(
                f"at most {self._limit} steps may have a loss or gradient that is not finite, got one more at {step}; "
                "lower the learning rate, look at these samples, or raise the limit of SkipNonFinite",
                step,
            )
        self._undo(state)
        logger.log_metrics({"epoch": state.epoch, "skipped_steps": self._skipped}, step.number)
        warnings.warn(f"skipped a loss or gradient that is not finite: {step}", stacklevel=2)

    def _undo(self, state: State) -> None:
        for name, buffer in state.model.named_buffers():
            buffer.detach().copy_(self._buffers[name])
        if state.scaler is None:
            for optimizer in state.optimizers:
                optimizer.zero_grad(set_to_none=True)  # so that it leaves the weights and its own state alone


def check_finite(state: State) -> None:
    """Refuse weights that are worth nothing, before they are kept; waits for the device.

    Raises:
        NonFiniteLossError: when the last loss, or a weight that is trained, is nan or infinite, on any rank.
    """
    found = _found(state)
    if any(is_lost for (is_lost,) in state.world.counts(found is not None)):
        told = state.world.gathered(None if found is None else str(found))
        raise found or NonFiniteLossError(next(filter(None, told)))


def _found(state: State) -> NonFiniteLossError | None:
    lost = _lost_weights(state)
    try:
        for callback in state.callbacks:
            if isinstance(callback, LossWatch):
                callback.settle()
    except NonFiniteLossError as error:
        return error
    if not lost:
        return None
    return NonFiniteLossError(
        f"the weights must stay finite, got nan or infinity in {_few(lost)} after step {state.timestamp.batch}; lower "
        "the learning rate"
    )


def _lost_weights(state: State) -> list[str]:
    trained = {name: weight for name, weight in state.model.named_parameters() if weight.requires_grad}
    if _is_finite([*trained.values()]):
        return []
    return [name for name, weight in trained.items() if not _is_finite([weight])]


def _is_harmless(state: State) -> bool:
    """Tell whether the step may be taken, the same on all ranks."""
    gradients = [
        weight.grad
        for optimizer in state.optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
        if weight.grad is not None and state.scaler is None
    ]
    return all(state.world.gathered(_is_finite([_loss_of(state), *gradients])))


def _is_finite(tensors: Sequence[Tensor]) -> bool:
    """Tell whether all numbers are finite; of sharded tensors, those of this rank, which may have none."""
    own = [part for part in map(shard, tensors) if part.numel()]
    return not own or bool(get_total_norm(own, math.inf).isfinite())


def _loss_of(state: State) -> Tensor:
    if state.loss is None:
        raise ValueError("state.loss must be there when a batch has been trained on, got None; leave it in place")
    # What weighs nothing, on a rank that only keeps step, may be what it likes.
    return state.loss if state.weight else torch.zeros_like(state.loss)


def _refusal(loss: float, step: Step) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"the loss must stay finite, got {loss} at {step}; lower the learning rate, look at these samples, or skip "
        "such steps: callbacks=[SkipNonFinite(limit=10)]",
        step,
    )


def _few(values: Sequence[Any]) -> str:
    more = len(values) - SHOWN
    return f"[{', '.join(map(str, values[:SHOWN]))}{f', and {more} more' if more > 0 else ''}]"
