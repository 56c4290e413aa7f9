"""Plans on the host in compiled loops (numba): each run of pixels is one ``memcpy``, whatever the dtype.

It pays most where torch's own operations are far from the limit: small pictures, and a box for each sample. In place,
each thread takes its share of the rows of the box and walks from sample to sample for a few of them at a time, so that
no thread waits for another, and each saves these rows of one sample. Out of place, each takes its share of the samples.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cutmix.backends.kernels import (
    CACHE_LINE,
    IN_RUNS,
    IN_SLABS,
    NO_PERMUTATION,
    NOBODY,
    PAST_CACHE,
    Batch,
    Size,
    normalize,
    paste,
    walk,
)
from cutmix.backends.partners import CannotMixError, no_permutation, not_present
from cutmix.memory import is_same
from cutmix.plans import Plan
from cutmix.shapes import Images, Source, Table

BYTES_A_THREAD = 1 << 22
"""Below it another thread costs more than it takes over."""
LARGE_SAMPLE = 1 << 16
BYTES_TOGETHER = 1 << 17
"""About so many bytes of a sample are walked at a time: it is then still in the cache when it is overwritten."""
AXES = 3
"""The most that a plan has here."""


class Layout(NamedTuple):
    """How a sample lies in memory, in bytes from one part, row, ... to the next.

    ``order`` is how the axes in front of the image's are nested, and ``outers`` how many parts of the sample that
    makes around the image.
    """

    order: tuple[int, ...]
    outers: int
    outer: int
    first: int
    second: int
    place: int


def mix_images(images: Images, plan: Plan, *, source: Source | None = None, out: Images | None = None) -> Images:
    """Show in each sample's box its partner, which must be opaque.

    Raises:
        CannotMixError: when a batch lies in memory in a way that the loops do not know, or partners are no permutation
            and the images shall be mixed in place.
        ValueError: when a partner is not there.
    """
    mixed = torch.empty_like(images) if out is None else out
    if not images.numel():
        return mixed
    in_place = source is None and out is not None and is_same(out, images)
    source = images if source is None else source
    batches = (images,) if in_place else (mixed, images, source)
    layouts = _layouts(plan, *batches)
    placed = [_placed(batch, layout) for batch, layout in zip(batches, layouts, strict=True)]
    samples = source.shape[0]
    numbers = _size(plan, samples, layouts[0]), plan.partners.numpy(), _boxes(plan)
    if in_place:
        rows = layouts[0].outers * (plan.size[0] if len(plan.size) > 1 else 1)
        room = max(BYTES_TOGETHER, images.nbytes // samples // rows)
        saved = torch.empty(min(torch.get_num_threads(), rows) * room, dtype=torch.uint8)
        _in_parts(walk, plan, samples, images, *placed, *numbers, saved.data_ptr(), room, most=rows)
    else:
        way = _way(images, out, numbers[0], placed)
        _in_parts(paste, plan, samples, images, *placed, *numbers, way)
    return mixed


def mix_normalize(images: Images, plan: Plan, table: Table, out: Images) -> Images:
    """Fill ``out`` with what ``table`` has for each pixel that shows, in one pass; partners must be opaque."""
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[out.element_size()]  # bfloat16 is unknown to numpy
    values = table.contiguous().view(bits).numpy()
    numbers = values, plan.partners.numpy(), _boxes(plan)
    _in_parts(normalize, plan, len(images), out, out.view(bits).numpy(), images.numpy(), *numbers)
    return out


def _layouts(plan: Plan, *batches: Images | Source) -> list[Layout]:
    """Return how these batches lie in memory, which must be alike, and in a way that the loops know."""
    layouts = [_layout(batch.shape, batch.stride(), len(plan.size), batch.element_size()) for batch in batches]
    known = [layout for layout in layouts if layout is not None]
    if len(known) < len(layouts) or any(layout[:2] != known[0][:2] for layout in known):
        raise CannotMixError(
            "images, source and out must lie in memory alike, in runs along the last axis, got strides "
            f"{[batch.stride() for batch in batches]}: use backend='eager'"
        )
    return known


def _in_parts(
    kernel: Callable[..., int],
    plan: Plan,
    samples: int,
    images: Images,
    *arguments: Any,  # noqa: ANN401 - the kernel's
    most: int | None = None,
) -> None:
    """Run a kernel in as many threads as torch would take, ``most`` at most, each for its part."""
    parts = max(1, min(torch.get_num_threads(), images.nbytes // BYTES_A_THREAD, most or plan.batch))
    others = [_threads().submit(kernel, *arguments, part, parts) for part in range(1, parts)]
    try:
        said = kernel(*arguments, 0, parts)
    finally:  # whatever comes, nobody may write on when the memory is given back
        if others:
            wait(others)
    for other in others:
        other.result()
    if said == NO_PERMUTATION:
        raise no_permutation(plan.partners)
    if said == NOBODY:
        raise not_present(plan.partners, samples)


@cache
def _threads() -> ThreadPoolExecutor:
    """Return threads that wait for work; a process that was forked has none of its parent's, and makes its own."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_threads.cache_clear)
    return ThreadPoolExecutor(os.cpu_count(), "cutmix")


def _way(images: Images, out: Images | None, size: Size, placed: list[Batch]) -> int:
    """Return how it is best to paste.

    New memory costs most where it is first written to, and only once is best. A buffer that the cache does not hold
    beside the images would not stay there for whoever reads it next.
    """
    if out is None:
        return IN_SLABS if images.nbytes >= LARGE_SAMPLE * images.shape[0] else IN_RUNS
    return PAST_CACHE if 2 * images.nbytes > _cache_bytes() and _is_in_lines(size, *placed) else IN_RUNS


@cache
def _cache_bytes() -> float:
    """Return how much the largest cache of this machine holds; where the system does not tell, without end."""
    told = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((int(size.read_text().strip().removesuffix("K")) * 1024 for size in told), default=math.inf)


def _is_in_lines(size: Size, out: Batch, own: Batch, source: Batch) -> bool:
    """Tell whether ``out`` is a buffer whose samples fill lines of the cache, and all three are dense and lie alike."""
    if out.start in (own.start, source.start) or own[1:] != out[1:] or source[1:] != out[1:]:
        return False
    row = dense = size.last * out.place
    for count, step in ((size.second, out.second), (size.first, out.first), (size.outers, out.outer)):
        if count > 1 and step != dense:
            return False
        dense *= count
    return out.sample == dense and row >= CACHE_LINE and out.start % CACHE_LINE == dense % CACHE_LINE == 0


def _size(plan: Plan, source: int, layout: Layout) -> Size:
    return Size(source, layout.outers, *_along_three(plan.size, 1))


def _along_three(axes: Sequence[int], missing: int) -> tuple[int, ...]:
    """Put what is missing in front of the last axis, so that the first one has the rows that threads share."""
    return *axes[:-1], *(missing,) * (AXES - len(axes)), axes[-1]


def _boxes(plan: Plan) -> np.ndarray:
    """Return the boxes along three axes, whole along those that are missing."""
    edges, between = plan.boxes.numpy(), len(plan.size) - 1
    boxes = np.zeros((len(edges), 2, AXES), dtype=np.int64)
    boxes[:, 1] = 1
    boxes[:, :, :between], boxes[:, :, -1] = edges[:, :, :-1], edges[:, :, -1]
    return boxes


def _placed(batch: Images | Source, layout: Layout) -> Batch:
    return Batch(batch.data_ptr(), batch.stride(0) * batch.element_size(), *layout[2:])


@lru_cache(maxsize=256)
def _layout(shape: tuple[int, ...], strides: tuple[int, ...], axes: int, itemsize: int) -> Layout | None:
    """Return how a sample of such a batch lies in memory, or None where the loops do not know the way.

    Axes in front of the image's lie inside its pixels (channels last) or around it (channels first).
    """
    around = sorted((axis for axis in range(1, len(shape) - axes) if shape[axis] != 1), key=strides.__getitem__)
    order, place = tuple(around), 1
    while around and strides[around[0]] == place:
        place *= shape[around.pop(0)]
    nested = all(strides[outer] == strides[inner] * shape[inner] for inner, outer in pairwise(around))
    in_runs = shape[-1] == 1 or strides[-1] == place
    if axes > AXES or not nested or not in_runs:
        return None
    first, second, _ = _along_three(strides[-axes:], 0)
    steps = (strides[around[0]] if around else 0, first, second, place)
    return Layout(order, math.prod(shape[axis] for axis in around), *(step * itemsize for step in steps))
