"""What changes a training run from outside the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutmix.core.event import Event
    from cutmix.core.logger import Logger
    from cutmix.core.state import State


class Algorithm(ABC):
    """Something that changes the state of a run at moments of its choice."""

    __slots__ = ()

    @abstractmethod
    def match(self, event: Event, state: State) -> bool:
        """Tell whether to act now."""

    @abstractmethod
    def apply(self, event: Event, state: State, logger: Logger) -> None:
        """Act: change ``state``."""
