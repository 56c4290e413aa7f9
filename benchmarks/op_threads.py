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
SLACK = 1.25
"""How much more of its time on one thread mixing may need than copying does."""


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
    times = measure(
        {f"{name}, {threads}": on(threads, arm) for name, arm in arms.items() for threads in (1, most)}, pace
    )
    gains = judged("all cores", times, tuple(Must(f"{name}, {most}", f"{name}, 1", 1.0) for name in arms))
    copy = gains[0]["median"]
    for gain in gains[1:]:
        gain["must"] = round(SLACK * copy, 4)
        gain["holds"] = gain["median"] <= gain["must"]
    return {
        "what": "time on all cores, in multiples of that on one thread, of a float32 batch mixed in place",
        "shape": SHAPE,
        "cores": most,
        "musts": gains,
    }


if __name__ == "__main__":
    report("op_threads", measured)
