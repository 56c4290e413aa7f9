"""What tests of the triton backend share, and tests on a GPU."""

import warnings
from contextlib import contextmanager

import pytest
import torch

from cutmix.boxes import fixed
from cutmix.plans import Plan

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if GPU else torch.device("cpu")
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
    _set_mode("error")


def allow_waiting():
    _set_mode("default")


def _set_mode(mode):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode")  # is a prototype, says torch
        torch.cuda.set_sync_debug_mode(mode)


def same_bytes(one, other):
    one, other = one.cpu().contiguous(), other.cpu().contiguous()
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def noise(*shape, dtype=torch.float32):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return (values if dtype.is_floating_point else values * 100).to(dtype)


def plan_of(partners, box, size, *, boxes=1, opacity=1.0):
    starts, stops = box
    moved = [fixed([start + i % 2 for start in starts], stops, 1) for i in range(boxes)]
    return Plan(torch.tensor(partners), torch.cat(moved), torch.full((boxes,), opacity, dtype=torch.float64), size)


def mixed_in_place(images, plan, source=None):
    from cutmix.backends import triton

    out = images.to(DEVICE, copy=True)
    source = None if source is None else source.to(DEVICE)

    assert triton.mix_images(out, plan, source=source, out=out) is out
    return out


def normalized_in_steps(images, mean, std):
    per_channel = (1, -1, *[1] * (images.ndim - 2))
    return (images.float() / 255 - mean.view(per_channel)) / std.view(per_channel)
