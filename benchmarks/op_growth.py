"""How the cost of mixing in place grows with the batch, and with the side of its pictures.

Run ``python benchmarks/op_growth.py``; it writes ``benchmarks/results/op_growth.json``, of which ``docs/update.py``
draws ``docs/images/growth.png``. With ``--quick`` it stops half way up the sizes and writes nothing.

A step would be a size from which on mixing costs more while copying does not. So what is judged is the cost in copies
of the same batch, from each size to the next; shown is the largest such growth.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import fmean, median
from typing import Any, TypeAlias

import torch

from cutmix.functional import cutmix_batch
from recording import spread
from timing import Arm, Must, Pace, Times, judged, measure, report

Shape: TypeAlias = tuple[int, ...]

SERIES: dict[str, list[Shape]] = {
    "batch of 3x32x32": [(2**power, 3, 32, 32) for power in range(5, 13)],
    "side, batch of 32": [(32, 3, side, side) for side in (32, 48, 64, 96, 128, 192, 256, 384, 512)],
}
WAYS = {"one box": {}, "per sample": {"per_sample": True}}
STEP = 1.5
"""The most by which the cost in copies may grow from one size to the next, whose bytes are about twice as many."""


def arms_on(shape: Shape) -> dict[str, Arm]:
    """Return what is timed on batches of one shape."""
    images, ids = torch.randn(shape), torch.arange(shape[0]) % 10
    ours = {way: partial(cutmix_batch, images, ids, out=images, **settings) for way, settings in WAYS.items()}
    return {"copy": partial(torch.empty_like(images).copy_, images), **ours}


def largest_step(series: str, way: str, times: Mapping[Shape, Mapping[str, Times]]) -> dict[str, Any]:
    """Return where the cost in copies grows most from one shape to the next."""
    in_copies = {"x".join(map(str, shape)): over(arms[way], arms["copy"]) for shape, arms in times.items()}
    musts = tuple(Must(larger, smaller, STEP) for smaller, larger in pairwise(in_copies))
    return max(judged(f"{series}, {way}", in_copies, musts), key=lambda step: step["median"])


def over(times: Times, unit: Times) -> Times:
    """Return the times in multiples of the median of another's."""
    return replace(times, seconds=[seconds / median(unit.seconds) for seconds in times.seconds])


def point(shape: Shape, arms: Mapping[str, Times]) -> dict[str, Any]:
    """Return the figures of one shape: the bytes that are copied or replaced, and the time."""
    size = 4 * torch.Size(shape).numel()
    return {
        "shape": shape,
        "arms": {
            name: {
                "bytes": round(size * fmean(times.replaced or [1.0])),
                "microseconds": spread([1e6 * seconds for seconds in times.seconds]),
            }
            for name, times in arms.items()
        },
    }


def measured(pace: Pace) -> dict[str, Any]:
    """Return the figures of both series, and the largest steps in them."""
    series = {name: shapes[: len(shapes) // 2] if pace.quick else shapes for name, shapes in SERIES.items()}
    times = {name: by_shape(shapes, pace) for name, shapes in series.items()}
    return {
        "what": "microseconds to mix a float32 batch in place, and to copy it",
        "threads": torch.get_num_threads(),
        "series": {name: [point(*one) for one in found.items()] for name, found in times.items()},
        "musts": [largest_step(name, way, found) for name, found in times.items() for way in WAYS],
    }


def by_shape(shapes: list[Shape], pace: Pace) -> dict[Shape, dict[str, Times]]:
    """Time all shapes by turns."""
    times = measure({(shape, name): arm for shape in shapes for name, arm in arms_on(shape).items()}, pace)
    return {shape: {name: times[shape, name] for name in ("copy", *WAYS)} for shape in shapes}


if __name__ == "__main__":
    report("op_growth", measured)
