"""When training ends early."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, final

from cutmix.core.callback import Callback
from cutmix.trainer.evaluation import prefix_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutmix.core.logger import Logger
    from cutmix.core.state import State


@final
class EarlyStopping(Callback):
    """Stops training when a figure of evaluation has not become better for a while; ``state.stop_reason`` says so.

    Args:
        metric: the figure as it is logged, ``'eval/loss'`` or ``'eval/val/accuracy'``.
        patience: after how many evaluations in a row without a gain.
        min_delta: a gain is more than this.
        mode: whether less is better, ``'min'``, or more, ``'max'``.
    """

    def __init__(
        self, metric: str, patience: int, *, min_delta: float = 0.0, mode: Literal["min", "max"] = "min"
    ) -> None:
        if not isinstance(patience, int) or patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience!r}; it counts evaluations without a gain")
        if not 0.0 <= min_delta < math.inf:
            raise ValueError(f"min_delta must be at least 0, got {min_delta}; it is what a gain must exceed")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}; a loss is better when it is less, 'min'")
        self._metric = metric
        self._patience = patience
        self._min_delta = min_delta
        self._sign = 1.0 if mode == "max" else -1.0
        self._label: str | None = None
        self._best = -self._sign * math.inf
        self._waited = 0
        self._seen = -1  # the step of the last evaluation that counted

    def fit_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        prefixes = {label: prefix_for(label) for label in state.evaluated}
        self._label = next((label for label, prefix in prefixes.items() if self._metric.startswith(f"{prefix}/")), None)
        if self._label is None:
            raise ValueError(
                f"metric must be a figure that is measured in training, of {', '.join(prefixes.values()) or 'none'}, "
                f"got {self._metric!r}; pass eval_dataloader to the Trainer, and name the figure as it is logged"
            )
        self._stop_when_due(state)

    def eval_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        step = state.timestamp.batch
        if step == self._seen or state.evaluated.get(self._label) != step:
            return  # of another evaluator, or not of training
        if self._metric not in state.eval_metrics:
            raise ValueError(f"metric must be one of {', '.join(state.eval_metrics)}, got {self._metric!r}")
        self._seen = step
        self._weigh(state.eval_metrics[self._metric])
        self._stop_when_due(state)

    def _weigh(self, value: float) -> None:
        if self._sign * (value - self._best) > self._min_delta:
            self._best, self._waited = value, 0
        else:
            self._waited += 1

    def _stop_when_due(self, state: State) -> None:
        if self._waited >= self._patience:
            state.stop_reason = (
                f"{self._metric} was {self._best:.4g} at its best, and no better in {self._waited} evaluations since"
            )

    def state_dict(self) -> Mapping[str, Any]:
        return {"best": self._best, "waited": self._waited, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._waited, self._seen = state["best"], state["waited"], state["seen"]
