"""Whole-number geometry of boxes: how large, from where to where, how much they cover."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from cutmix.shapes import Boxes


def side_for_share(share: float, size: int, axes: int) -> int:
    """Return the side, in whole pixels of ``size``, of a box that covers about ``share`` of ``axes`` axes.

    Source: Yun et al. 2019, eq. 2, where ``share`` is 1 - lambda. Rounds down, as the authors' code does.
    """
    fraction = math.sqrt(share) if axes == 2 else share ** (1.0 / axes)  # noqa: PLR2004 - the plane, as the authors have it
    return int(size * fraction)


def even(side: int) -> int:
    """Return the side that the authors' code cuts: half of it, rounded down, to either hand of the centre."""
    return side - side % 2


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


def volume(boxes: Boxes) -> Int64[Tensor, " boxes"]:
    """Count the pixels in each box."""
    starts, stops = boxes.unbind(1)
    return (stops - starts).prod(-1)
