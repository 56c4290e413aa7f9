"""Where figures go."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from itertools import takewhile
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, final

import torch
from torch import Tensor

from cutmix.core.naming import by_class
from cutmix.core.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Figure: TypeAlias = "float | int | Tensor | Callable[[], Tensor]"
"""A number, a tensor of one element, or a function that computes one when it is asked for."""
Number: TypeAlias = "float | int | Tensor"


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
        """Take over what ``state_dict`` returned: what was logged since will be logged again.

        Called when the run begins and has its folder for itself, so that files may be cut then.
        """

    def close(self) -> None:  # noqa: B027 - not every place is held
        """Let go of what is held; nothing is logged after this."""


class _Record(NamedTuple):
    metrics: dict[str, Number]
    step: int
    samples: int | None = None  # of this rank, where the figures are to be means over all ranks; None: as they are


@final
class Loggers(Logger):
    """All loggers of a run as one: what algorithms and callbacks are handed. On several ranks only rank 0's are used.

    Tensors of one element may be logged, and functions that compute one, which nobody calls where nobody listens. They
    are turned into numbers by ``flush``, many at once, so that no step waits for what it logs. Means over all ranks
    wait for ``settle``, and so does what was logged after them.

    Where they are made ``waiting`` they hear nothing before ``begin``, and never if the run does not come to that.
    """

    def __init__(self, loggers: Sequence[Logger], world: World | None = None, *, waiting: bool = False) -> None:
        self._world = World() if world is None else world
        self._all = tuple(loggers)
        self._loggers = () if self._world.rank else self._all
        self.are_heard = self._world.broadcast(bool(loggers))  # on rank 0, by anybody
        self._records: list[_Record] = []
        self._waiting = waiting
        self._states: Mapping[str, Any] = {}  # to be taken over

    def begin(self) -> None:
        """Let loggers go on where they were, and hear from now on, once nobody else can write where they do."""
        for name, logger in by_class(self._loggers).items():
            if name in self._states:
                logger.load_state_dict(self._states[name])
        self._waiting, self._states = False, {}

    def log_metrics(self, metrics: Mapping[str, Figure], step: int) -> None:
        if self._loggers:
            self._records.append(_Record({name: _held(name, value) for name, value in metrics.items()}, step))

    def log_means(self, metrics: Mapping[str, Figure], step: int, samples: int) -> None:
        """Take down means over the ``samples`` of this rank, to be made means over those of all: on all ranks."""
        if self.are_heard:
            held = {name: _held(name, value) for name, value in metrics.items()}
            self._records.append(_Record(held, step, samples if self._world.size > 1 else None))

    def settle(self) -> None:
        """Make the means what they are over all ranks, and flush: a call that all ranks make, or none."""
        if self.are_heard and self._world.size > 1:
            waiting = [record for record in self._records if record.samples is not None]
            means = iter(
                _means(
                    self._world.collected(
                        [(row, record.samples or 0) for row, record in zip(_rows(waiting), waiting, strict=True)]
                    )
                )
            )
            self._records = [
                record if record.samples is None else _Record(next(means), record.step)
                for record in self._records
                if self._loggers
            ]
        self.flush()

    def flush(self) -> None:
        if self._waiting:
            return
        settled = list(takewhile(lambda record: record.samples is None, self._records))
        self._records = self._records[len(settled) :]
        for row, record in zip(_rows(settled), settled, strict=True):
            for logger in self._loggers:
                logger.log_metrics(row, record.step)
        for logger in self._loggers:
            logger.flush()

    def flush_alone(self) -> None:
        """Flush all, where other ranks may be gone: means are then those over the samples of rank 0."""
        self._records = [record._replace(samples=None) for record in self._records]
        self.flush()

    def close(self) -> None:
        self.flush_alone()
        for logger in self._all:
            logger.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of those that have one, when all figures up to now are with them."""
        self.flush()
        return {name: dict(state) for name, logger in by_class(self._loggers).items() if (state := logger.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand each its state when it may hear; one that is new to the run has none."""
        self._states = state
        if not self._waiting:
            self.begin()


def value_of(figure: Figure) -> float | int | Tensor:
    """Return the number, or the tensor of one, that a figure is or computes."""
    return figure if isinstance(figure, Tensor | float | int) else figure()


def _held(name: str, value: Figure) -> Number:
    """Return ``value`` as it is now, whatever its owner does with it later."""
    number = value_of(value)
    if not isinstance(number, Tensor):
        return number
    if number.numel() != 1:
        raise ValueError(f"{name} must be one number, got a tensor of shape {tuple(number.shape)}; log its mean or sum")
    return number.detach().clone() if number is value else number.detach()


def _rows(records: Sequence[_Record]) -> Iterator[dict[str, float | int]]:
    """Return the records' figures as plain numbers."""
    numbers = _numbers([figure for record in records for figure in record.metrics.values()])
    return ({name: next(numbers) for name in record.metrics} for record in records)


def _means(ranks: list[list[tuple[dict[str, float | int], int]]]) -> Iterator[dict[str, Number]]:
    """Return for each step the means over the samples of all ranks, of what rank 0 has measured too."""
    for step in zip(*ranks, strict=True):
        yield {
            name: _mean([(row[name], samples) for row, samples in step if samples and name in row])
            for name in step[0][0]
        }


def _mean(pairs: list[tuple[float | int, int]]) -> float | int:
    values, samples = zip(*pairs, strict=True)
    if all(value == values[0] for value in values):
        return values[0]  # a whole number stays one
    return math.fsum(map(mul, values, samples)) / sum(samples)


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
