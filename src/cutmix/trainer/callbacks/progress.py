"""How far training has come, on the screen."""

from __future__ import annotations

import sys
from time import perf_counter
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
        self._paused = 0.0

    def fit_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self.close()
        self._bar = _Bar(state)

    def batch_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if self._bar is not None:
            self._bar.update()

    def eval_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._paused = perf_counter()

    def eval_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if self._bar is not None:
            self._bar.pass_over(perf_counter() - self._paused)

    def fit_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self.close()
        if state.stop_reason is not None:
            say(f"Training stopped early: {state.stop_reason}.")

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
        self._before = state.timestamp.sample
        super().__init__(initial=state.timestamp.batch, unit="batch", dynamic_ncols=True)

    def pass_over(self, seconds: float) -> None:
        """Leave out so many seconds in which nothing was trained."""
        self.start_t += seconds
        self.last_print_t += seconds

    @property
    def format_dict(self) -> dict[str, Any]:
        state, shown = self._state, super().format_dict
        return {
            **shown,
            "total": _total(state),
            "prefix": f"epoch {state.epoch}",
            "postfix": _figures(state, state.timestamp.sample - self._before, shown["elapsed"]),
        }


def _total(state: State) -> int | None:
    """Return how many batches there will have been: as many as those so far let us expect, where no one can tell."""
    length, now, per_epoch = state.max_duration, state.timestamp, state.batches_per_epoch
    match length.unit:
        case "ba":
            return length.value
        case "ep" if per_epoch is not None:
            return length.value * per_epoch
        case "ep":
            return round(length.value * (now.batch - now.batch_in_epoch) / now.epoch) if now.epoch else None
        case "sp":
            return round(length.value * now.batch / now.sample) if now.sample else None


def _figures(state: State, samples: int, seconds: float) -> str:
    """Return throughput, then what was measured of the last step and in the last evaluation."""
    if not samples:
        return ""
    train = {name.removeprefix("train/"): value for name, value in state.train_metrics.items() if name not in HIDDEN}
    figures = [f"{name} {float(value):.4g}" for name, value in {**train, **state.eval_metrics}.items()]
    return ", ".join([f"{samples / seconds:,.0f} samples/s", *figures])
