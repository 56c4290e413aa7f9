"""Figures as files: one JSON object a line."""

from __future__ import annotations

import math
from json import JSONEncoder
from time import perf_counter
from typing import TYPE_CHECKING, final

from cutmix.core.callback import Callback
from cutmix.core.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cutmix.core.logger import Figure
    from cutmix.core.state import State

EVERY = 50
"""Steps between two writings: each waits for the device."""
_encode = JSONEncoder(allow_nan=False).encode


@final
class JsonLines(Logger):
    """Writes one flat object a line, ``step`` first. Never over a file that another run has written.

    JSON knows neither nan nor infinity: such a figure is null.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._is_ours = False

    def claim(self) -> None:
        """Make the folder, and refuse it when it holds another run's file."""
        if self._is_ours:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"save_folder must be a folder, {self._path.parent} cannot be one: {error}") from error
        if self._path.exists():
            raise ValueError(
                f"save_folder must hold no other run, got {self._path.parent} with a {self._path.name} in it; "
                "name another folder, or move that file away"
            )

    def log_metrics(self, metrics: Mapping[str, Figure], step: int) -> None:
        figures = {"step": step, **metrics}
        try:
            line = _encode(figures)
        except ValueError:
            line = _encode({name: None if _is_unwritable(value) else value for name, value in figures.items()})
        self._lines.append(line + "\n")

    def flush(self) -> None:
        """Write, and hold no file open in between: whoever forgets to close loses nothing."""
        if self._lines:
            self.claim()
            with self._path.open("a" if self._is_ours else "x", encoding="utf-8") as file:
                file.writelines(self._lines)
            self._lines, self._is_ours = [], True


def _is_unwritable(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


@final
class Timings(Callback):
    """Writes how long training takes, every ``EVERY`` steps and at the end.

    ``seconds`` count from the start of ``fit``, all things included; ``samples_per_second`` is of the steps since the
    line before, without evaluation.
    """

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines
        self._seconds = 0.0  # up to the line before
        self._samples = 0
        self._last = self._paused = perf_counter()
        self._evaluating = 0.0

    def fit_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._last, self._evaluating, self._samples = perf_counter(), 0.0, state.timestamp.sample

    def eval_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._paused = perf_counter()

    def eval_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._evaluating += perf_counter() - self._paused

    def batch_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        # Not at the end of a batch: after the last one ``fit_end`` writes, when its evaluation is over.
        if state.timestamp.batch % EVERY == 0 and state.timestamp.sample > self._samples:
            self._write(state)

    def fit_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._write(state)

    def _write(self, state: State) -> None:
        now, samples = perf_counter(), state.timestamp.sample
        passed = now - self._last
        self._seconds += passed
        rate = (samples - self._samples) / (passed - self._evaluating)
        figures = {"epoch": state.epoch, "seconds": self._seconds, "samples_per_second": rate}
        self._lines.log_metrics(figures, state.timestamp.batch)
        self._lines.flush()
        self._last, self._evaluating, self._samples = now, 0.0, samples
