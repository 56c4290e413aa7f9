"""Signals that end training between two steps."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, final

from cutmix.core.callback import Callback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

    from cutmix.core.logger import Logger
    from cutmix.core.state import State

TAKEN = (signal.SIGTERM, signal.SIGINT)


@final
class Signals(Callback):
    """Ends training at the end of the step in which SIGTERM or SIGINT came; a second SIGINT ends it at once.

    Args:
        save: writes a checkpoint before the end; None where nothing is saved.
    """

    def __init__(self, save: Callable[[State], object] | None) -> None:
        self._save = save
        self._caught: signal.Signals | None = None
        self._interrupts = 0

    @contextmanager
    def taken(self) -> Generator[None]:
        """Take signals down from here on, and leave their handlers as they were found.

        Only in the main thread, the one that Python hands signals to. What is ignored stays so. A signal that came
        after the last step ends the process all the same.
        """
        self._caught, self._interrupts = None, 0
        found = {number: signal.getsignal(number) for number in TAKEN} if _in_main_thread() else {}
        ours = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
        try:
            for number in ours:
                signal.signal(number, self._take)
            yield
        finally:
            for number, handler in ours.items():
                signal.signal(number, handler)
        if self._caught is not None:
            _end(self._caught)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if self._caught is None:
            return
        if self._save is not None:
            self._save(state)
        _end(self._caught)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self._caught = self._caught or signal.Signals(number)


def _end(caught: signal.Signals) -> NoReturn:
    """End as somebody whom this signal asks to end.

    Raises:
        KeyboardInterrupt: for SIGINT.
        SystemExit: for any other, with the code that a shell gives to it.
    """
    if caught == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + caught)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
