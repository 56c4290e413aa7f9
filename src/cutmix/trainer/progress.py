"""How far training has come, on the screen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, final

from tqdm import tqdm

from cutmix.core.callback import Callback

if TYPE_CHECKING:
    from cutmix.core.logger import Logger
    from cutmix.core.state import State

HIDDEN = ("train/mixed_accuracy_ceiling", "train/grad_norm")  # for the file: it does not fit on the line


@final
class ProgressBar(Callback):
    """Shows epoch, steps, time left, throughput, loss and accuracy on stderr, one line for the whole fit."""

    def __init__(self) -> None:
        self._bar: _Bar | None = None

    def fit_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self.close()
        self._bar = _Bar(state)

    def batch_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if self._bar is not None:
            self._bar.update()

    def fit_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def say(sentence: str) -> None:
    """Tell the user something, beside the bar."""
    tqdm.write(sentence, file=sys.stderr)


@final
class _Bar(tqdm):  # type: ignore[type-arg]
    """Reads the figures only when it is drawn, so that no step waits for them."""

    monitor_interval = 0  # no thread of its own

    def __init__(self, state: State) -> None:
        self._state = state
        super().__init__(total=_total(state), initial=state.timestamp.batch, unit="batch", dynamic_ncols=True)

    @property
    def format_dict(self) -> dict[str, Any]:
        shown = super().format_dict
        return {**shown, "prefix": f"epoch {self._state.epoch}", "postfix": _figures(self._state, shown)}


def _total(state: State) -> int | None:
    """Return how many batches there will have been, where that can be told."""
    match state.max_duration.unit:
        case "ba":
            return state.max_duration.value
        case "ep":
            return None if state.batches_per_epoch is None else state.max_duration.value * state.batches_per_epoch
        case "sp":
            return None


def _figures(state: State, shown: dict[str, Any]) -> str:
    """Return throughput, then what was measured of the last step and in the last evaluation."""
    now, done = state.timestamp, shown["n"] - shown["initial"]
    if not done:
        return ""
    rate = done / shown["elapsed"] * now.sample / now.batch
    train = {name.removeprefix("train/"): value for name, value in state.train_metrics.items() if name not in HIDDEN}
    figures = {**train, **state.eval_metrics}
    return ", ".join([f"{rate:,.0f} samples/s", *(f"{name} {float(value):.4g}" for name, value in figures.items())])
