"""Where figures go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Figure: TypeAlias = "float | int | Tensor | Callable[[], Tensor]"
"""A number, a tensor of one element, or a function that computes one when it is asked for."""


class Logger(ABC):
    """A place for figures: a file, a service, a screen. It is handed plain numbers, in the order of the steps."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, Figure], step: int) -> None:
        """Take down ``metrics`` as they are after ``step`` steps."""

    def flush(self) -> None:  # noqa: B027 - not every place holds back
        """Write out what is held back."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return what a checkpoint must hold for the log to go on where it was; called after ``flush``."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - not every place can be put back
        """Take over what ``state_dict`` returned: what was logged since will be logged again."""

    def close(self) -> None:  # noqa: B027 - not every place is held
        """Let go of what is held; nothing is logged after this."""


class _Record(NamedTuple):
    metrics: dict[str, Figure]
    step: int


@final
class Loggers(Logger):
    """All loggers of a run as one: what algorithms and callbacks are handed.

    Tensors of one element may be logged, and functions that compute one. They are turned into numbers by ``flush``,
    many at once, so that a step neither computes nor waits for what it logs.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = tuple(loggers)
        self._records: list[_Record] = []

    def log_metrics(self, metrics: Mapping[str, Figure], step: int) -> None:
        if self._loggers:
            self._records.append(_Record({name: _held(name, value) for name, value in metrics.items()}, step))

    def flush(self) -> None:
        records, self._records = self._records, []
        numbers = _numbers([value_of(figure) for record in records for figure in record.metrics.values()])
        for metrics, step in records:
            row = {name: next(numbers) for name in metrics}
            for logger in self._loggers:
                logger.log_metrics(row, step)
        for logger in self._loggers:
            logger.flush()

    def close(self) -> None:
        self.flush()
        for logger in self._loggers:
            logger.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of those that have one, when all figures up to now are with them."""
        self.flush()
        return {name: dict(state) for name, logger in self._named() if (state := logger.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand each its state; one that is new to the run has none."""
        for name, logger in self._named():
            if name in state:
                logger.load_state_dict(state[name])

    def _named(self) -> list[tuple[str, Logger]]:
        """Name the loggers by their classes, and those of one class by their number."""
        seen = Counter[str]()
        named = []
        for logger in self._loggers:
            kind = type(logger).__name__
            named.append((f"{kind}/{seen[kind]}", logger))
            seen[kind] += 1
        return named


def value_of(figure: Figure) -> float | int | Tensor:
    """Return the number, or the tensor of one, that a figure is or computes."""
    return figure if isinstance(figure, Tensor | float | int) else figure()


def _held(name: str, value: Figure) -> Figure:
    """Return ``value`` as it is now, whatever its owner does with it later."""
    if not isinstance(value, Tensor):
        return value
    if value.numel() != 1:
        raise ValueError(f"{name} must be one number, got a tensor of shape {tuple(value.shape)}; log its mean or sum")
    return value.detach().clone()


def _numbers(figures: Sequence[float | int | Tensor]) -> Iterator[float | int]:
    """Turn figures into plain numbers, waiting once for each device and dtype among them."""
    alike = defaultdict(list)
    for figure in figures:
        if isinstance(figure, Tensor):
            alike[figure.device, figure.dtype].append(figure)
    fetched = {
        kind: iter(torch.cat([tensor.view(1) for tensor in tensors]).tolist()) for kind, tensors in alike.items()
    }
    return (next(fetched[figure.device, figure.dtype]) if isinstance(figure, Tensor) else figure for figure in figures)
