"""Figures as files: one JSON object a line."""

from __future__ import annotations

import math
import os
import re
from itertools import count
from json import JSONEncoder
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, final

from cutmix.core.callback import Callback
from cutmix.core.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self._end: int | None = None  # where to cut the file of a run that goes on

    @property
    def name(self) -> str:
        """Return the file's name in its folder."""
        return self._path.name

    def claim(self) -> None:
        """Refuse the folder when it holds another run's file; cut the file of the run that goes on."""
        if self._path.exists() and not self._is_ours:
            raise ValueError(
                f"save_folder must hold no other run, got {self._path.parent} with a {self._path.name} in it; "
                "name another folder, move that file away, or go on with autoresume=True"
            )
        if self._end is not None and self._is_ours:
            os.truncate(self._path, self._end)
        self._end = None

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
            make_folder(self._path.parent)
            self.claim()
            with self._path.open("a" if self._is_ours else "x", encoding="utf-8") as file:
                file.writelines(self._lines)
            self._lines, self._is_ours = [], True

    def position(self) -> int:
        """Return how many bytes are written, when they are on the disk for good."""
        self.flush()
        if not self._is_ours or not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size

    def go_on_at(self, position: int) -> None:
        """Take the file over as ours, to forget what stands behind ``position`` when it is claimed.

        Not before: as long as the folder is not locked, whoever writes there may be another.

        Raises:
            ValueError: when there is less.
        """
        found = self._path.stat().st_size if self._path.exists() else 0
        if found < position:
            raise ValueError(
                f"{self._path} must hold the {position} bytes that its checkpoint tells of, got {found}; put the file "
                "back, or go on in another folder: Trainer(load_path=..., save_folder=...)"
            )
        self._lines, self._is_ours, self._end = [], found > 0, position

    def set_aside(self) -> None:
        """Make room for a file of ours: what is there is kept under another name."""
        if self._path.exists() and not self._is_ours:
            names = (self._path.with_name(f"{self._path.name}.{number}") for number in count(1))
            self._path.rename(next(name for name in names if not name.exists()))


def checked_folder(save_folder: str | Path) -> Path:
    """Return the folder of a run, of this machine.

    Raises:
        ValueError: when it is an address, or a format string of Composer's.
    """
    if re.search(r"^\w+://|\{\w+\}", str(save_folder)):
        raise ValueError(
            f"save_folder must be a folder of this machine, no address or format string, got {str(save_folder)!r}; "
            "name the folder itself, and copy its checkpoints to a store when they are written"
        )
    return Path(save_folder)


def make_folder(folder: Path) -> None:
    """Make the folder of a run.

    Raises:
        ValueError: when it cannot be one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"save_folder must be a folder, {folder} cannot be one: {error}") from error


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

    def state_dict(self) -> Mapping[str, Any]:
        return {"seconds": self._seconds + perf_counter() - self._last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seconds = state["seconds"]

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
