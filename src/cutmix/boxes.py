"""Whole-number geometry of boxes: how large, from where to where, how much they cover."""

import math
from collections.abc import Sequence
from operator import add

import numpy as np
import torch
from jaxtyping import Int64

from cutmix.shapes import Boxes


def side_for_share(share: float, size: int, axes: int) -> int:
    """Return the side, in whole pixels of ``size``, of a box that covers about ``share`` of ``axes`` axes.

    Source: Yun et al. 2019, eq. 2, where ``share`` is 1 - lambda. Rounds down, as the authors' code does.
    """
    fraction = math.sqrt(share) if axes == 2 else share ** (1.0 / axes)  # noqa: PLR2004 - the plane, as the authors have it
    return int(size * fraction)


def side_for_length(length: float, size: int) -> int:
    """Return the side, in whole pixels, that is the fraction ``length`` of ``size``.

    Rounds down, but for what floats lose: ``k / size`` gives ``k``.
    """
    return int(size * length + 1e-9)


def even(side: int) -> int:
    """Return the side that the authors' code cuts: half of it, rounded down, to either hand of the centre."""
    return side - side % 2


def start_around_a_pixel(size: int, side: int, chance: float) -> int:
    """Return where a box starts whose centre is the pixel that ``chance``, in [0, 1), falls on (the paper's rule)."""
    return int(size * chance) - side // 2


def start_for_equal_pixels(size: int, side: int, chance: float) -> int:
    """Return where a box starts so that each pixel is inside by the same chance: any place that shows a pixel."""
    places = size + max(side, 1) - 1
    return int(places * chance) - max(side, 1) + 1


def placed(size: Sequence[int], sides: Sequence[int], chances: Sequence[float], *, evenly: bool) -> Boxes:
    """Return one box with ``sides``, at the place that ``chances``, one an axis, fall on, cut off at the edges.

    ``evenly`` is for equal pixels, else the box lies around a pixel.
    """
    start = start_for_equal_pixels if evenly else start_around_a_pixel
    starts = list(map(start, size, sides, chances))
    return clip(starts, list(map(add, starts, sides)), size)


def clip(starts: Sequence[int], stops: Sequence[int], size: Sequence[int]) -> Boxes:
    """Return one box, cut off at the edges of the image."""
    edges = [[min(max(edge, 0), length) for edge, length in zip(edges, size, strict=True)] for edges in (starts, stops)]
    return torch.tensor([edges], dtype=torch.int64)


def empty(axes: int) -> Boxes:
    """Return one box that covers nothing."""
    return torch.zeros(1, 2, axes, dtype=torch.int64)


def whole(size: Sequence[int]) -> Boxes:
    """Return one box that covers the whole image."""
    return clip([0] * len(size), size, size)


def volume(boxes: Int64[np.ndarray, "boxes 2 axes"]) -> Int64[np.ndarray, " boxes"]:
    """Count the pixels in each box; in numpy, which asks less for so few numbers."""
    return (boxes[:, 1] - boxes[:, 0]).prod(-1)
