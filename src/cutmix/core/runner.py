"""Who is called at which moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from cutmix.core.callback import Callback
from cutmix.core.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from cutmix.core.algorithm import Algorithm
    from cutmix.core.logger import Logger
    from cutmix.core.state import State

    Watcher = Callable[[State, Logger], None]


NOBODY = type(None)
"""What is called where an event concerns nobody: it does nothing, in less time than a function of Python's."""


@final
class Runner:
    """Runs an event: first the algorithms that match, in the order given, then the callbacks that watch for it.

    ``tell[event]()`` and ``run(event, ...)`` do the same; the first costs next to nothing where nobody is concerned.
    """

    def __init__(self, state: State, logger: Logger) -> None:
        self.state = state
        self.logger = logger
        self.tell = {event: self._telling(event) for event in Event}

    def __call__(self, *events: Event) -> None:
        """Tell everybody whom ``events``, one after the other, concern."""
        for event in events:
            self.tell[event]()

    def _telling(self, event: Event) -> Callable[[], None]:
        algorithms, watchers = _algorithms(self.state.algorithms, event), _watchers(self.state.callbacks, event)

        def tell() -> None:
            for algorithm in algorithms:
                if algorithm.match(event, self.state):
                    algorithm.apply(event, self.state, self.logger)
            for watch in watchers:
                watch(self.state, self.logger)

        return tell if algorithms or watchers else NOBODY


def _algorithms(algorithms: tuple[Algorithm, ...], event: Event) -> tuple[Algorithm, ...]:
    """Return those that may act at ``event``."""
    return tuple(algorithm for algorithm in algorithms if algorithm.events is None or event in algorithm.events)


def _watchers(callbacks: tuple[Callback, ...], event: Event) -> tuple[Watcher, ...]:
    """Return the methods for ``event`` of the callbacks that override it: the others cost nothing."""
    default = getattr(Callback, event)
    methods: list[Watcher] = [getattr(callback, event) for callback in callbacks]
    return tuple(method for method in methods if getattr(method, "__func__", method) is not default)
