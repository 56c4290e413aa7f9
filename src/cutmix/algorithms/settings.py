"""What a setting may be: a number in a range, a share of a side, a choice."""

import math
from numbers import Real

from cutmix.boxes import are_whole

NUMBERS = (float, int, Real)
"""Numpy's are found by the last one, which is slow to ask."""

SHARE_OF_SIDE = "it is a share of the image side, for k pixels of n pass k / n"


def check_number(name: str, value: float, low: float, high: float, meaning: str) -> None:
    """Check that a setting is a number from ``low`` to ``high``.

    Raises:
        TypeError: when it is no number.
        ValueError: when it lies outside, or is nan.
    """
    if isinstance(value, bool) or not isinstance(value, NUMBERS):
        raise TypeError(f"{name} must be a number, got {value!r}: {meaning}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value}: {meaning}")


def check_alpha(alpha: float) -> None:
    """Check that ``alpha`` is 0, which mixes nothing, or one that betas can be drawn for.

    Raises:
        TypeError: when it is no number.
        ValueError: when it is negative, nan or infinite.
    """
    check_number("alpha", alpha, 0.0, math.inf, "it is the parameter of Beta(alpha, alpha); 1 is standard")
    if alpha == math.inf:
        raise ValueError(f"alpha must be finite, got {alpha}: a large number keeps all weights close to a half")


def check_p(p: float) -> None:
    """Check that ``p`` is a chance.

    Raises:
        TypeError: when it is no number.
        ValueError: when it lies outside [0, 1], or is nan.
    """
    check_number("p", p, 0.0, 1.0, "it is the share of batches, or of samples, that are changed")


def check_length(length: float, nothing: str) -> None:
    """Check that a length is a share of a side, in (0, 1]; ``nothing`` says how to ask for less.

    Raises:
        TypeError: when it is no number.
        ValueError: when it lies outside, or is nan.
    """
    check_number("length", length, 0.0, 1.0, SHARE_OF_SIDE)
    if length == 0:
        raise ValueError(f"length must lie in (0, 1], got 0: {SHARE_OF_SIDE}, and {nothing} p=0")


def check_min_max(min_max: tuple[float, float]) -> None:
    """Check that the ends of a range of lengths are shares of a side, the smaller one first.

    Raises:
        TypeError: when they are not two numbers.
        ValueError: when they lie outside [0, 1], are in the wrong order, or leave nothing to cut.
    """
    if not isinstance(min_max, tuple) or len(min_max) != 2:  # noqa: PLR2004 - two ends
        raise TypeError(f"min_max must be a pair (low, high), got {min_max!r}: {SHARE_OF_SIDE}")
    for end in min_max:
        check_number("min_max", end, 0.0, 1.0, SHARE_OF_SIDE)
    low, high = min_max
    if not low <= high or high == 0:
        raise ValueError(
            f"min_max must be (low, high) with low <= high and high above 0, got {min_max}: to mix nothing pass p=0"
        )


def check_spatial_dims(spatial_dims: object) -> None:
    """Check that a setting names axes, if any.

    Raises:
        TypeError: when it does not.
    """
    if spatial_dims is not None and not are_whole(spatial_dims):
        raise TypeError(f"spatial_dims must be a tuple of axes, got {spatial_dims!r}: for example (2, 3)")


def check_flag(name: str, value: object) -> None:
    """Check that a setting is True or False.

    Raises:
        TypeError: when it is anything else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}: it is a choice between two")
