"""What changes a training run from outside the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping  # noqa: TC003 - the hints of recipes are read, these among them
from typing import TYPE_CHECKING, Any, ClassVar

from cutmix.core.event import Event  # noqa: TC001

if TYPE_CHECKING:
    from cutmix.core.logger import Logger
    from cutmix.core.state import State


class Algorithm(ABC):
    """Something that changes the state of a run at moments of its choice."""

    __slots__ = ()
    events: ClassVar[Collection[Event] | None] = None
    """The moments at which it may act: at all others nobody asks ``match``. None: it is asked at each."""

    def match(self, event: Event, state: State) -> bool:  # noqa: ARG002 - others look at it
        """Tell whether to act now; as it is here, at each of ``events``."""
        return self.events is None or event in self.events

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
