"""Faults that runs meet in the tests."""

from cutmix.core import Callback


class Stop(Callback):
    """Ends a run as a fault would, in the midst of it."""

    def __init__(self, step):
        self.step = step

    def batch_start(self, state, logger):
        if state.timestamp.batch == self.step:
            raise ConnectionAbortedError
