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


@final
class Runner:
    """Runs an event: first the algorithms that match, in the order given, then the callbacks that watch for it."""

    def __init__(self, state: State, logger: Logger) -> None:
        self.state = state
        self.logger = logger
        concerned = {
            event: (_algorithms(state.algorithms, event), _watchers(state.callbacks, event)) for event in Event
        }
        self._concerned = {event: everybody for event, everybody in concerned.items() if any(everybody)}

    def __call__(self, *events: Event) -> None:
        """Tell everybody whom ``events``, one after the other, concern."""
        for event in events:
            if event not in self._concerned:
                continue
            algorithms, watchers = self._concerned[event]
            for algorithm in algorithms:
                if algorithm.match(event, self.state):
                    algorithm.apply(event, self.state, self.logger)
            for watch in watchers:
                watch(self.state, self.logger)


def _algorithms(algorithms: tuple[Algorithm, ...], event: Event) -> tuple[Algorithm, ...]:
    """Return those that may act at ``event``."""
    return tuple(algorithm for algorithm in algorithms if algorithm.events is None or event in algorithm.events)


def _watchers(callbacks: tuple[Callback, ...], event: Event) -> tuple[Watcher, ...]:
    """Return the methods for ``event`` of the callbacks that override it: the others cost nothing."""
    default = getattr(Callback, event)
    methods: list[Watcher] = [getattr(callback, event) for callback in callbacks]
    return tuple(method for method in methods if getattr(method, "__func__", method) is not default)
