"""What the loss of two labels costs beside torch's cross entropy of plain ones.

Run ``python benchmarks/loss.py``; it writes ``benchmarks/results/loss.json``. With ``--quick`` a few trials are run and
nothing is written. Time is of forward and backward on the same logits, peak memory in multiples of their size.
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from cutmix.losses import cross_entropy
from cutmix.targets import MixedTarget
from timing import Arm, Must, Pace, judged, measure, ratios, report

LOGITS = ((1024, 1000), (64, 21843))
KEPT = 0.7
LOSSES = ("mixed", "mixed, per sample")
"""Ours; the others are what people write by hand."""


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
        "what": "cross entropy, forward and backward, in multiples of plain labels'",
        "threads": torch.get_num_threads(),
        "losses": figures,
        "musts": [must for some in musts for must in some],
    }


if __name__ == "__main__":
    report("loss", measured)
