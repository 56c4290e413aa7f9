"""Signals that end training between two steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, NoReturn, final

from cutmix.core.callback import Callback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

    from cutmix.core.logger import Logger
    from cutmix.core.state import State

TAKEN = (signal.SIGTERM, signal.SIGINT)
ASK_SECONDS, ASK_STEPS = 0.5, 64
"""How often several processes ask each other whether a signal came: whichever is sooner, but after a whole step."""
GRACE = 60.0
"""Seconds that a worker of a loader works on after SIGTERM, while its trainer saves."""


@final
class Signals(Callback):
    """Ends training at the end of the step in which SIGTERM or SIGINT came; a second SIGINT ends it at once.

    Several processes ask each other, go on for a step until the answers are in, and all end after that one.

    Args:
        save: writes a checkpoint before the end; None where nothing is saved.
    """

    def __init__(self, save: Callable[[State], object] | None) -> None:
        self._save = save
        self._caught = 0
        self._interrupts = 0
        self._asked = 0, 0.0  # at which step, and when
        self._ask_at = 0
        self._answers: Callable[[], list[tuple[int, ...]]] | None = None

    @contextmanager
    def taken(self) -> Generator[None]:
        """Take signals down from here on, and leave their handlers as they were found.

        Only in the main thread, the one that Python hands signals to. What is ignored stays so. A signal that came
        after the last step ends the process all the same.
        """
        self._caught, self._interrupts = 0, 0
        found = {number: signal.getsignal(number) for number in TAKEN} if _in_main_thread() else {}
        ours = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
        try:
            for number in ours:
                signal.signal(number, self._take)
            yield
        finally:
            for number, handler in ours.items():
                signal.signal(number, handler)
        if self._caught:
            _end(self._caught)

    def fit_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._asked, self._ask_at, self._answers = (state.timestamp.batch, monotonic()), 0, None

    def batch_checkpoint(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._end_if_told(state)
        if state.world.size > 1 and state.timestamp.batch >= self._ask_at:
            self._ask(state)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._end_if_told(state)  # loaders fork workers next, beside which nobody should talk

    def fit_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._caught = max(caught for (caught,) in state.world.counts(self._hear() or self._caught))

    def _end_if_told(self, state: State) -> None:
        caught = self._caught if state.world.size == 1 else self._hear()
        if not caught:
            return
        if self._save is not None:
            self._save(state)
        _end(caught)

    def _ask(self, state: State) -> None:
        """Begin to ask all ranks which signal has come to them, and rank 0 when to ask again."""
        step = state.timestamp.batch
        self._answers = state.world.counts_later(self._caught, self._steps_until_next(step))
        self._asked = step, monotonic()

    def _hear(self) -> int:
        """Wait for the answers, and return the signal that had come to any rank; 0 where none had, or nobody asked."""
        if self._answers is None:
            return 0
        answers, self._answers = self._answers(), None
        self._ask_at = self._asked[0] + answers[0][1]
        return max(caught for caught, _ in answers)

    def _steps_until_next(self, step: int) -> int:
        last, then = self._asked
        return max(1, min(ASK_STEPS, int((step - last) * ASK_SECONDS / max(monotonic() - then, 1e-9))))

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self._caught = self._caught or number


@final
@dataclass(frozen=True, slots=True)
class SparedWorker:
    """Starts a worker of a loader that leaves it to its trainer to end.

    Launchers, clusters and Ctrl-C send their signals to workers too, and a trainer that loses its workers fails before
    it has saved.
    """

    then: Callable[[int], None] | None  # the user's worker_init_fn

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end_with_the_trainer)
        if self.then is not None:
            self.then(worker)


def _end_with_the_trainer(_number: int, _frame: FrameType | None) -> None:
    threading.Thread(target=_wait_for_its_end, daemon=True).start()


def _wait_for_its_end() -> None:
    trainer = multiprocessing.parent_process()
    if trainer is not None:
        trainer.join(GRACE)
    os._exit(0)


def _end(caught: int) -> NoReturn:
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
