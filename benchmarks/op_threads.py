"""How mixing in place gains from more threads, beside how copying does.

Run ``python benchmarks/op_threads.py``; it writes ``benchmarks/results/op_threads.json``.
"""

import os
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from cutmix.algorithms import CutMix
from cutmix.backends import Backend, mix_images
from timing import Arm, Must, Pace, judged, measure, report

SHAPE = (128, 3, 224, 224)
BACKENDS: tuple[Backend, ...] = ("ring", "compiled")
PLANS = 64
GAIN = 0.8
"""The most of its time on one thread that anything may need on all cores, where there are two or more."""


def on(threads: int, arm: Arm) -> Callable[[], Any]:
    """Return what runs ``arm`` with so many of torch's threads."""

    def run() -> Any:  # noqa: ANN401 - the arm's
        torch.set_num_threads(threads)
        return arm()

    return run


def arms_on(images: Tensor) -> dict[str, Arm]:
    """Return what is timed: a copy, and each backend in place."""
    plans = cycle([CutMix().draw(images.shape) for _ in range(PLANS)])
    mixing = {name: lambda name=name: mix_images(images, next(plans), out=images, backend=name) for name in BACKENDS}
    return {"copy": partial(torch.empty_like(images).copy_, images), **mixing}


def measured(pace: Pace) -> dict[str, Any]:
    """Return what each takes on one thread and on all cores, and whether mixing gains as copying does."""
    most = os.cpu_count() or 1
    arms = arms_on(torch.randn(SHAPE[0] // (8 if pace.quick else 1), *SHAPE[1:]))
    one = {f"{name}, one": on(1, arm) for name, arm in arms.items()}
    all_cores = {f"{name}, {most} threads": on(most, arm) for name, arm in arms.items()}
    times = measure(one | all_cores, pace)
    musts = tuple(Must(f"{name}, {most} threads", f"{name}, one", GAIN) for name in arms)
    return {
        "what": "time on all cores, in multiples of that on one thread, of a float32 batch mixed in place",
        "shape": SHAPE,
        "cores": most,
        "musts": judged("128x3x224x224 float32, in place", times, musts),
    }


if __name__ == "__main__":
    report("op_threads", measured)
