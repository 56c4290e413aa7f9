"""Whole-number geometry of boxes: how large, from where to where, how much they cover.

In numpy, which asks less than torch for so few numbers: one row an axis, one column a box. Whole numbers of pixels are
floats here, which hold them exactly and multiply without a conversion; the boxes that are returned are integers.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
import torch

from cutmix.shapes import Boxes, Chances, Drawn, Edges, Extent, Masks, Sides, Volumes

SEQUENCES = (tuple, list, Sequence)  # the last one is slow to ask, and so is a union built at each call
PLANE = 2
"""The number of axes of a picture."""


def are_whole(values: object) -> bool:
    """Tell whether ``values`` is a sequence of whole numbers."""
    if not isinstance(values, SEQUENCES):
        return False
    kinds = set(map(type, values))  # of values that are mostly of one
    return kinds <= {int} or all(issubclass(kind, Integral) and kind is not bool for kind in kinds)


def extent(size: Sequence[int]) -> Extent:
    """Return the sides of an image as the functions here take them."""
    return np.array(size, dtype=np.float64)[:, None]


def of_the_paper(shares: Drawn, chances: Chances, size: Extent) -> Boxes:
    """Return boxes that cover about these shares: half of each side to either hand of a pixel, both rounded down.

    Source: Yun et al. 2019, eq. 2, where a share is 1 - lambda, and the authors' code.
    """
    halves, centres = sides_for_shares(shares, 0.5 * size), np.floor(chances * size)
    return _clipped(centres - halves, centres + halves, size)


def one_of_the_paper(share: float, chances: Sequence[float], size: Sequence[int]) -> Boxes:
    """Return one such box of a picture: without arrays it takes a fifth of the time, and most batches get one box."""
    fraction = math.sqrt(share)
    starts, stops = [], []
    for side, chance in zip(size, chances, strict=True):
        half, centre = int(fraction * side) // 2, int(chance * side)
        starts.append(max(centre - half, 0))
        stops.append(min(centre + half, side))
    return torch.from_numpy(np.array([[starts, stops]], dtype=np.int64))


def sides_for_shares(shares: Drawn, size: Extent) -> Sides:
    """Return the sides, in whole pixels, of boxes that cover about these shares of an image of ``size``.

    Rounds down, as the authors' code does.
    """
    axes = len(size)
    fractions = np.sqrt(shares) if axes == PLANE else shares ** (1.0 / axes)  # in the plane as the authors have it
    return np.floor(fractions * size)


def sides_for_length(length: float, size: Extent, count: int) -> Sides:
    """Return the sides, in whole pixels, of ``count`` boxes that are the fraction ``length`` of each side of ``size``.

    Rounds down, but for what floats lose: ``k / size`` gives ``k``.
    """
    return np.floor(size * length + 1e-9).repeat(count, 1)


def sides_between(low: float, high: float, size: Extent, chances: Chances) -> Sides:
    """Return the sides, in whole pixels, that ``chances``, in [0, 1), fall on between two fractions of each side.

    Both ends round down, as ``sides_for_length`` does, and both may be hit: all whole numbers between are alike.
    """
    smallest, largest = sides_for_length(low, size, 1), sides_for_length(high, size, 1)
    return smallest + np.floor(chances * (largest - smallest + 1.0))


def place_for(uniform_sampling: bool) -> Callable[[Sides, Chances, Extent], Boxes]:  # noqa: FBT001 - Composer's name
    """Return the rule that places boxes."""
    return for_equal_pixels if uniform_sampling else around_pixels


def around_pixels(sides: Sides, chances: Chances, size: Extent) -> Boxes:
    """Return boxes whose centres are the pixels that ``chances``, in [0, 1), fall on; odd sides stay whole."""
    return _from(np.floor(chances * size) - np.floor(0.5 * sides), sides, size)


def for_equal_pixels(sides: Sides, chances: Chances, size: Extent) -> Boxes:
    """Return boxes placed so that each pixel is inside by the same chance: any place that shows a pixel."""
    before = np.maximum(sides, 1.0) - 1.0
    return _from(np.floor(chances * (size + before)) - before, sides, size)


def wholly_inside(sides: Sides, chances: Chances, size: Extent) -> Boxes:
    """Return boxes that lie wholly inside the image, at any such place by the same chance."""
    return _from(np.floor(chances * (size - sides + 1.0)), sides, size)


def _from(starts: Edges, sides: Sides, size: Extent) -> Boxes:
    return _clipped(starts, starts + sides, size)


def _clipped(starts: Edges, stops: Edges, size: Extent) -> Boxes:
    """Return the boxes, cut off at the edges of the image."""
    edges = np.empty((starts.shape[1], 2, len(size)), dtype=np.int64)
    edges[:, 0], edges[:, 1] = np.maximum(starts, 0.0).T, np.minimum(stops, size).T
    return torch.from_numpy(edges)


def fixed(starts: Sequence[int], stops: Sequence[int], count: int) -> Boxes:
    """Return ``count`` times the same box."""
    return torch.tensor([[starts, stops]] * count, dtype=torch.int64)


def empty(axes: int, count: int = 1) -> Boxes:
    """Return boxes that cover nothing."""
    return torch.zeros(count, 2, axes, dtype=torch.int64)


def volume(boxes: Boxes) -> Volumes:
    """Count the pixels in each box."""
    edges = boxes.numpy()
    return (edges[:, 1] - edges[:, 0]).prod(-1)


def inside(boxes: Boxes, size: Sequence[int]) -> Masks:
    """Return which pixels each box covers, where the boxes are."""
    starts, stops = boxes.unbind(1)
    covered = torch.ones(len(boxes), *[1] * len(size), dtype=torch.bool, device=boxes.device)
    for axis, side in enumerate(size):
        place = torch.arange(side, device=boxes.device)
        along = (place >= starts[:, axis, None]) & (place < stops[:, axis, None])
        covered = covered & along.view(-1, *[side if other == axis else 1 for other in range(len(size))])
    return covered
