"""What is left of a step of CutMix beside the images: drawing the plan, and the loss of two labels.

Run ``python benchmarks/plan_and_loss.py``; it writes ``benchmarks/results/plan_and_loss.json``. With ``--quick`` a
few trials are run and nothing is written. A plan is held against its limit in microseconds; a loss, forward and
backward, against torch's cross entropy of plain labels on the same logits, its peak memory against their size.
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from cutmix.algorithms import CutMix
from cutmix.losses import cross_entropy
from cutmix.targets import MixedTarget
from timing import Arm, Must, Pace, Times, judged, measure, ratios, report

PLANS = {
    "one box, batch of 128": (CutMix(), (128, 3, 224, 224), 60.0),
    "per sample, batch of 512, alpha 1": (CutMix(per_sample=True), (512, 3, 32, 32), 150.0),
    "per sample, batch of 512, alpha 0.2": (CutMix(0.2, per_sample=True), (512, 3, 32, 32), 220.0),
}
"""What is drawn for which batch, and the most microseconds that it may take."""
AT_ONCE = 50
LOGITS = ((1024, 1000), (64, 21843))
KEPT = 0.7
LOSSES = ("mixed", "mixed, per sample")
"""Ours; the others are what people write by hand."""
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


def losses(rows: int, classes: int) -> dict[str, Arm]:
    """Return the losses, each with its backward pass."""
    logits = torch.randn(rows, classes, requires_grad=True)
    own, partner = torch.randint(classes, (2, rows))
    shared = MixedTarget(own, partner, torch.full((1,), KEPT, dtype=torch.float64).expand(rows))
    each = MixedTarget(own, partner, torch.rand(rows, dtype=torch.float64))

    def step(loss_fn: Callable[[Tensor], Tensor]) -> None:
        torch.autograd.grad(loss_fn(logits), logits)

    arms = {
        "plain": lambda outputs: F.cross_entropy(outputs, own),
        "mixed": lambda outputs: cross_entropy(outputs, shared),
        "mixed, per sample": lambda outputs: cross_entropy(outputs, each),
        "interpolated": lambda outputs: lerp(F.cross_entropy(outputs, partner), F.cross_entropy(outputs, own)),
        "dense rows": lambda outputs: F.cross_entropy(
            outputs, lerp(F.one_hot(partner, classes).float(), F.one_hot(own, classes).float())
        ),
    }
    check(logits, arms)
    return {name: partial(step, loss_fn) for name, loss_fn in arms.items()}


def lerp(partner: Tensor, own: Tensor) -> Tensor:
    """Return the weighted sum that people write by hand."""
    return KEPT * own + (1.0 - KEPT) * partner


def check(logits: Tensor, arms: dict[str, Callable[[Tensor], Tensor]]) -> None:
    """Check that the ways to mix a loss agree."""
    for other in ("interpolated", "dense rows"):
        torch.testing.assert_close(arms["mixed"](logits), arms[other](logits), rtol=1e-5, atol=1e-6)


def against_plain(rows: int, classes: int, pace: Pace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Time the losses on logits of one shape; return the figures and what they say of the musts."""
    arms = losses(rows, classes)
    times = measure(arms, pace)
    name, size = f"cross entropy, {rows}x{classes}", 4 * rows * classes
    figures = {
        "logits": [rows, classes],
        "arms": {
            arm: {
                "over_plain": ratios(taken, times["plain"]),
                "peak_memory_over_logits": round(peak_memory(arms[arm]) / size, 2),
            }
            for arm, taken in times.items()
        },
    }
    return figures, judged(name, times, tuple(Must(arm, "plain", 1.3) for arm in LOSSES))


def peak_memory(arm: Arm) -> int:
    """Return the most bytes that a call holds at once beyond those that it finds."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        arm()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def measured(pace: Pace) -> dict[str, Any]:
    """Return all figures, and what they say of the musts."""
    figures, musts = zip(*(against_plain(*shape, pace) for shape in LOGITS), strict=True)
    return {
        "what": "drawing a plan in microseconds; cross entropy, forward and backward, in multiples of plain labels'",
        "threads": torch.get_num_threads(),
        "losses": figures,
        "musts": [*plans(pace), *(must for some in musts for must in some)],
    }


if __name__ == "__main__":
    report("plan_and_loss", measured)
