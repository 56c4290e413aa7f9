"""What hypothesis draws for the tests of the op: sizes that are never square by habit, plans, batches."""

import math

import torch
from hypothesis import strategies as st

from cutmix.boxes import fixed
from cutmix.plans import Plan

DTYPES = (torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)

sides = st.integers(1, 12)
sizes = st.lists(sides, min_size=1, max_size=3).map(tuple)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def boxes_in(draw, size):
    """One box inside an image of ``size``, empty ones among them."""
    edges = [sorted(draw(st.tuples(st.integers(0, side), st.integers(0, side)))) for side in size]
    return fixed([start for start, _ in edges], [stop for _, stop in edges], 1)


opaque = st.just(1.0)


def anybody(batch):
    """A partner a sample, who may be the same for several."""
    return st.lists(st.integers(0, batch - 1), min_size=batch, max_size=batch)


def permutations(batch):
    """A partner a sample, each another one; some may be their own."""
    return st.permutations(range(batch))


@st.composite
def plans(draw, opacities=opaque, pairings=anybody):
    """A plan for one box a batch, or for one a sample."""
    size, batch = draw(sizes), draw(st.integers(1, 6))
    boxes = draw(st.sampled_from([1, batch]))
    return Plan(
        torch.tensor(draw(pairings(batch))),
        torch.cat([draw(boxes_in(size)) for _ in range(boxes)]),
        torch.tensor([draw(opacities) for _ in range(boxes)], dtype=torch.float64),
        size,
    )


def numbered(*shape, dtype=torch.float64):
    """A batch in which every pixel has a value of its own (modulo what the dtype holds)."""
    return torch.arange(math.prod(shape)).reshape(shape).to(dtype)
