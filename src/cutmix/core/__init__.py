"""What people need who write an algorithm, a callback or a logger of their own."""

from cutmix.core.algorithm import Algorithm
from cutmix.core.callback import Callback
from cutmix.core.event import Event
from cutmix.core.keyed import Keyed
from cutmix.core.logger import Logger
from cutmix.core.state import State
from cutmix.core.time import Time

__all__ = ["Algorithm", "Callback", "Event", "Keyed", "Logger", "State", "Time"]
