"""What loggers share that go on where they were after a resume."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, final

from cutmix.core.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutmix.core.logger import Figure


class Continued(Logger):
    """A logger that is opened by its first figure: of many processes only one logs.

    Its state is the last step with all its figures: after a resume they are written again, since some of them may not
    have arrived, and more may yet come to that step.
    """

    def __init__(self) -> None:
        self._is_open = False
        self._step = 0
        self._figures: dict[str, Figure] = {}

    @abstractmethod
    def open(self, step: int) -> None:
        """Begin to log, or go on from ``step`` on: whatever stands there of it and of later steps is void."""

    @abstractmethod
    def write(self, metrics: Mapping[str, Figure], step: int) -> None:
        """Write plain figures."""

    @abstractmethod
    def shut(self) -> None:
        """Let go of what ``open`` took."""

    @final
    def log_metrics(self, metrics: Mapping[str, Figure], step: int) -> None:
        if not self._is_open:
            self.open(self._step)
            self._is_open = True
            if self._figures:
                self.write(self._figures, self._step)
        self.write(metrics, step)
        self._figures = {**(self._figures if step == self._step else {}), **metrics}
        self._step = step

    @final
    def close(self) -> None:
        if self._is_open:
            self.shut()
        self._is_open = False

    def state_dict(self) -> Mapping[str, Any]:
        return {"step": self._step, "figures": self._figures}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.close()
        self._step, self._figures = state["step"], dict(state["figures"])
