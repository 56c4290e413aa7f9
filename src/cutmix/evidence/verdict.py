"""What may be said of two arms, from their differences paired by seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias, final

Verdict: TypeAlias = Literal["gain", "loss", "not shown"]

MEMORISED = 0.98


@final
@dataclass(frozen=True, slots=True)
class Paired:
    """How much two arms differ in one measure, seed by seed."""

    differences: tuple[float, ...]

    @property
    def span(self) -> tuple[float, float, float]:
        """Return the mean, the smallest and the largest difference."""
        return fmean(self.differences), min(self.differences), max(self.differences)

    @property
    def verdict(self) -> Verdict:
        """Judge by the sign alone: it has to be the same for every seed, and there have to be two at least."""
        if len(self.differences) < 2:  # noqa: PLR2004 - a single pair has no agreement
            return "not shown"
        if all(difference > 0 for difference in self.differences):
            return "gain"
        return "loss" if all(difference < 0 for difference in self.differences) else "not shown"


def paired(arm: Sequence[float], reference: Sequence[float]) -> Paired:
    """Take the differences seed by seed."""
    return Paired(tuple(mine - theirs for mine, theirs in zip(arm, reference, strict=True)))


def sentence(arm: str, reference: str, accuracy: Paired, scope: str) -> str:
    """Say in one sentence what the test accuracies show, why, and how far it reaches."""
    return (
        f"{accuracy.verdict.capitalize()}: {arm} against {reference} in test accuracy, {_points(accuracy)}; "
        f"{_reason(accuracy)}. Seen with {scope}, not beyond."
    )


def _points(accuracy: Paired) -> str:
    mean, smallest, largest = (f"{100 * value:+.1f}" for value in accuracy.span)
    return f"{mean} points" if len(accuracy.differences) == 1 else f"{mean} points ({smallest} to {largest})"


def _reason(accuracy: Paired) -> str:
    seeds = len(accuracy.differences)
    if seeds == 1:
        return "one seed shows nothing, run --seeds 2 or more"
    if not any(accuracy.differences):
        return f"there is no difference for any of the {seeds} seeds"
    if accuracy.verdict == "not shown":
        return f"the sign is not the same for all {seeds} seeds"
    return f"the sign is the same for all {seeds} seeds (by luck alone in 1 of {2 ** (seeds - 1)} comparisons)"


def memory_sentence(reference: str, train_accuracy: float) -> str:
    """Say which side of the rule a comparison is on: CutMix has paid where the network without it memorises.

    The rule, measured on small networks: it pays from about 98 % clean train accuracy on, and costs accuracy below.
    """
    reached = f"{reference} gets {100 * train_accuracy:.1f} % of its own training images right"
    if train_accuracy >= MEMORISED:
        return f"{reached}: it has memorised them, and there CutMix has been seen to pay."
    return (
        f"{reached}: it has not memorised them (about {100 * MEMORISED:.0f} %), and there CutMix has been seen to cost "
        "accuracy; train longer, on fewer images or with a larger network before it can pay."
    )
