"""What changes a training run from outside the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    def state_dict(self) -> Mapping[str, Any]:
        """Return what a checkpoint must hold for a run to go on as if it had not stopped: tensors and plain values.

        What follows from the time and the seed alone needs none. It is called on all ranks, and rank 0's is kept.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - not everybody has a state
        """Take over what ``state_dict`` returned."""
