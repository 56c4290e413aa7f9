"""The average of the weights over the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from cutmix.core.callback import Callback
from cutmix.core.time import Time
from cutmix.trainer.processes import full, like

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

    from cutmix.core.logger import Logger
    from cutmix.core.state import State


@final
class EMA(Callback):
    """Averages the weights over the steps, the later ones more, and lends the average to every evaluation.

    The initial weights have no part in it; buffers, such as BatchNorm's, are the model's. Weights in half precision are
    averaged in float32. It takes the memory of one more model, and of another one during an evaluation.

    Args:
        half_life: after how long a step counts half as much, ``'1000ba'`` or ``'2ep'``.
        decay: the same as a factor for each batch, 0.999; give one of the two.
    """

    def __init__(self, half_life: str | Time | None = None, *, decay: float | None = None) -> None:
        if (half_life is None) == (decay is None):
            raise ValueError(f"EMA takes half_life or decay, got {half_life!r} and {decay!r}; write EMA('1000ba')")
        if decay is not None and not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}; an average over many steps has 0.999")
        self._half_life = None if half_life is None else Time.parse(half_life, "half_life")
        if self._half_life is not None and self._half_life.unit == "sp":
            raise ValueError(f"half_life must count batches or epochs, got {half_life!r}; write '1000ba' or '2ep'")
        self._decay = decay or 0.0
        self._model: nn.Module | None = None
        self._live: dict[str, nn.Parameter] = {}
        self._average: dict[str, Tensor] = {}  # in the same order; empty before the first step
        self._steps = 0

    def weights(self) -> dict[str, Any]:
        """Return a copy of the model's ``state_dict`` with the average in it, for ``load_state_dict`` or a file.

        What is sharded is made whole: then all ranks must call it.
        """
        if self._model is None or not self._average:
            raise ValueError("EMA must have seen a step before it has weights, got none; train with callbacks=ema")
        averages = {parameter: self._average[name] for name, parameter in self._live.items()}
        held = self._model.state_dict(keep_vars=True)
        return {name: _copied(averages.get(value, value)) for name, value in held.items()}

    def init(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._model, self._live = state.model, dict(state.model.named_parameters())

    def fit_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if self._half_life is not None:
            self._decay = 0.5 ** (1 / _batches(self._half_life, state.batches_per_epoch))

    @torch.no_grad()
    def batch_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if not self._average:
            self._average = {name: _widened(parameter).clone() for name, parameter in self._live.items()}
        self._steps += 1
        # The shares of the steps add up to 1 from the first step on.
        share = (1.0 - self._decay) / (1.0 - self._decay**self._steps)
        live = [_widened(parameter) for parameter in self._live.values()]
        torch._foreach_lerp_(list(self._average.values()), live, share)

    def eval_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if self._average:
            live = self._live.values()
            state.after_eval.callback(_write, live, [parameter.detach().clone() for parameter in live])
            _write(live, self._average.values())

    def state_dict(self) -> Mapping[str, Any]:
        return {"steps": self._steps, "average": self._average} if self._average else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = state["steps"]
        self._average = {
            name: torch.empty_like(_widened(parameter)).copy_(like(parameter, state["average"][name]))
            for name, parameter in self._live.items()
        }


def _batches(half_life: Time, batches_per_epoch: int | None) -> int:
    if half_life.unit == "ba":
        return half_life.value
    if batches_per_epoch is None:
        raise ValueError(
            f"half_life must count batches where nobody knows how many of them an epoch has, got {half_life}; "
            "write '1000ba'"
        )
    return half_life.value * batches_per_epoch


def _widened(parameter: Tensor) -> Tensor:
    """Return ``parameter``, in float32 where small steps towards it would be lost to rounding."""
    return parameter.detach().float() if parameter.dtype in (torch.float16, torch.bfloat16) else parameter.detach()


def _copied(value: Any) -> Any:  # noqa: ANN401 - a state_dict may hold anything
    return full(value.detach()).clone() if isinstance(value, Tensor) else value


@torch.no_grad()
def _write(parameters: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
