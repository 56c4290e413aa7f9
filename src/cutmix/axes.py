"""Which axes of a batch are cut."""

from collections.abc import Sequence
from typing import TypeAlias

import torch

from cutmix.boxes import are_whole

Axes: TypeAlias = tuple[int, ...]
"""Axes of a batch, counted from the front, in the order of a plan's."""

CHANNEL_COUNTS = (1, 3, 4)
SMALLEST_PICTURE = 16
PICTURE_AXES = (2, 3)


def check_shape(shape: Sequence[int]) -> None:
    """Check that a batch of this shape holds something.

    Raises:
        ValueError: when it is no shape, or one of its axes has no length.
    """
    if not torch.compiler.is_compiling() and not (are_whole(shape) and len(shape) > 0 and min(shape) > 0):
        raise ValueError(f"shape must be whole numbers of 1 or more, the batch's first, got {shape}: pass images.shape")


def picture_axes(shape: Sequence[int], spatial_dims: Sequence[int] | None = None) -> Axes:
    """Return the axes to cut, counted from the front: those asked for, else the last two of four.

    Raises:
        ValueError: when ``spatial_dims`` is needed and not given, or does not fit the shape.
    """
    check_shape(shape)
    if spatial_dims is not None:
        return checked_axes(shape, spatial_dims)
    *_, channels_if_last = shape = tuple(shape)
    rank = len(PICTURE_AXES) + 2
    channels_last = channels_if_last in CHANNEL_COUNTS and min(shape[1:-1], default=0) >= SMALLEST_PICTURE
    if len(shape) != rank or channels_last:
        raise ValueError(
            f"images must be (batch, channels, height, width), got shape {shape}: else pass spatial_dims=(2,) for "
            "signals, (1, 2) for grey or channels-last pictures, (2, 3, 4) for volumes, (2, 3) if these are indeed "
            "height and width"
        )
    return PICTURE_AXES


def checked_axes(shape: Sequence[int], spatial_dims: Sequence[int]) -> Axes:
    """Return ``spatial_dims`` counted from the front.

    Raises:
        TypeError: when they are no whole numbers.
        ValueError: when they name no axis, one twice, one that is not there, or the batch.
    """
    if not are_whole(spatial_dims):
        raise TypeError(f"spatial_dims must be a tuple of axes, got {spatial_dims!r}: for example (2, 3)")
    rank = len(shape)
    axes = tuple(dim + rank if dim < 0 else dim for dim in spatial_dims)
    if not axes or len(set(axes)) < len(axes) or min(axes) < 1 or max(axes) >= rank:
        raise ValueError(
            f"spatial_dims must name different axes of shape {tuple(shape)}, not its first, the batch; "
            f"got {tuple(spatial_dims)}: for example (2, 3) for (batch, channels, height, width)"
        )
    return axes
