"""What tests on a GPU share."""

import warnings
from contextlib import contextmanager

import pytest
import torch

GPU = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not GPU, reason="what only a GPU shows: there is none here")


@contextmanager
def waiting_refused():
    """Let every call fail that waits for the GPU."""
    refuse_waiting()
    try:
        yield
    finally:
        allow_waiting()


def refuse_waiting():
    _say("error")


def allow_waiting():
    _say("default")


def _say(mode):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode")  # is a prototype, says torch
        torch.cuda.set_sync_debug_mode(mode)
