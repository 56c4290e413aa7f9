"""Whole-number geometry of boxes: how large, from where to where, how much they cover.

In numpy, which asks less than torch for so few numbers: one row an axis, one column a box.
"""

from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
import torch

from cutmix.shapes import Boxes, Chances, Drawn, Edges, Extent, Masks, Sides, Volumes


def are_whole(values: object) -> bool:
    """Tell whether ``values`` is a sequence of whole numbers."""
    if not isinstance(values, Sequence):
        return False
    kinds = set(map(type, values))  # of values that are mostly of one
    return kinds <= {int} or all(issubclass(kind, Integral) and kind is not bool for kind in kinds)


def extent(size: Sequence[int]) -> Extent:
    """Return the sides of an image as the functions here take them."""
    return np.array(size)[:, None]


def sides_for_shares(shares: Drawn, size: Extent) -> Sides:
    """Return the sides, in whole pixels, of boxes that cover about these shares of an image of ``size``.

    Source: Yun et al. 2019, eq. 2, where a share is 1 - lambda. Rounds down, as the authors' code does.
    """
    axes = len(size)
    fractions = np.sqrt(shares) if axes == 2 else shares ** (1.0 / axes)  # noqa: PLR2004 - the plane, as the authors have it
    return (fractions * size).astype(np.int64)


def sides_for_length(length: float, size: Extent, count: int) -> Sides:
    """Return the sides, in whole pixels, of ``count`` boxes that are the fraction ``length`` of each side of ``size``.

    Rounds down, but for what floats lose: ``k / size`` gives ``k``.
    """
    return (size * length + 1e-9).astype(np.int64).repeat(count, 1)


def sides_between(low: float, high: float, size: Extent, chances: Chances) -> Sides:
    """Return the sides, in whole pixels, that ``chances``, in [0, 1), fall on between two fractions of each side.

    Both ends round down, as ``sides_for_length`` does, and both may be hit: all whole numbers between are alike.
    """
    smallest, largest = sides_for_length(low, size, 1), sides_for_length(high, size, 1)
    return smallest + (chances * (largest - smallest + 1)).astype(np.int64)


def even(sides: Sides) -> Sides:
    """Return the sides that the authors' code cuts: half of each, rounded down, to either hand of the centre."""
    return sides & -2


def place_for(uniform_sampling: bool) -> Callable[[Sides, Chances, Extent], Boxes]:  # noqa: FBT001 - Composer's name
    """Return the rule that places boxes."""
    return for_equal_pixels if uniform_sampling else around_pixels


def around_pixels(sides: Sides, chances: Chances, size: Extent) -> Boxes:
    """Return boxes whose centres are the pixels that ``chances``, in [0, 1), fall on (the paper's rule)."""
    return _clipped((chances * size).astype(np.int64) - (sides >> 1), sides, size)


def for_equal_pixels(sides: Sides, chances: Chances, size: Extent) -> Boxes:
    """Return boxes placed so that each pixel is inside by the same chance: any place that shows a pixel."""
    before = np.maximum(sides, 1) - 1
    return _clipped((chances * (size + before)).astype(np.int64) - before, sides, size)


def wholly_inside(sides: Sides, chances: Chances, size: Extent) -> Boxes:
    """Return boxes that lie wholly inside the image, at any such place by the same chance."""
    return _clipped((chances * (size - sides + 1)).astype(np.int64), sides, size)


def _clipped(starts: Edges, sides: Sides, size: Extent) -> Boxes:
    """Return the boxes, cut off at the edges of the image."""
    edges = np.empty((2, *starts.shape), dtype=np.int64)
    edges[0], edges[1] = starts, starts + sides
    edges = np.minimum(np.maximum(edges, 0, out=edges), size, out=edges)
    return torch.from_numpy(edges.transpose(2, 0, 1).copy())


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
