"""What it costs to draw a plan, in microseconds.

Run ``python benchmarks/plan.py``; it writes ``benchmarks/results/plan.json``. With ``--quick`` a few trials are run and
nothing is written. Next to nothing is computed: it is Python and some twenty of torch's smallest calls, so that the
microseconds are those of the machine's processor.
"""

from typing import Any

import torch

from cutmix.algorithms import CutMix
from timing import Arm, Must, Pace, Times, judged, measure, report

PLANS = {
    "one box, batch of 128": (CutMix(), (128, 3, 224, 224), 60.0),
    "per sample, batch of 512, alpha 1": (CutMix(per_sample=True), (512, 3, 32, 32), 150.0),
    "per sample, batch of 512, alpha 0.2": (CutMix(0.2, per_sample=True), (512, 3, 32, 32), 220.0),
}
"""What is drawn for which batch, and the most microseconds that it may take."""
AT_ONCE = 50
MICROSECOND = Times(draws=1, seconds=[1e-6])


def drawing(recipe: CutMix, shape: tuple[int, ...]) -> Arm:
    """Return a call that draws many plans, as one alone is too short to be timed."""

    def run() -> None:
        for _ in range(AT_ONCE):
            recipe.draw(shape)

    return run


def plans(pace: Pace) -> list[dict[str, Any]]:
    """Time drawing, in microseconds a plan."""
    times = measure({name: drawing(recipe, shape) for name, (recipe, shape, _) in PLANS.items()}, pace)
    one = {name: Times(taken.draws, [seconds / AT_ONCE for seconds in taken.seconds]) for name, taken in times.items()}
    musts = tuple(Must(name, "1 µs", limit) for name, (*_, limit) in PLANS.items())
    return judged("drawing a plan", {**one, "1 µs": MICROSECOND}, musts)


def measured(pace: Pace) -> dict[str, Any]:
    """Return all figures, and what they say of the musts."""
    return {"what": "drawing a plan, in microseconds", "threads": torch.get_num_threads(), "musts": plans(pace)}


if __name__ == "__main__":
    report("plan", measured)
