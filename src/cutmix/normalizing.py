"""From bytes to the mixed, normalized batch that a model takes: the input stage as one call."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cutmix.backends import mix_normalize as normalize_images
from cutmix.memory import check_out, overlap
from cutmix.mixing import check_images, mix
from cutmix.plans import Plan
from cutmix.shapes import Channels, Images, Labels
from cutmix.tensors import is_readable
from cutmix.trees import leaves


def mix_normalize(  # noqa: PLR0913 - what is mixed, and what it becomes
    images: Images,
    targets: Labels,
    plan: Plan,
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.preserve_format,
    out: Images | None = None,
) -> tuple[Images, Any]:
    """Turn bytes into the mixed, normalized batch that a model takes, in one pass over memory where it can be had.

    The images become ``(images / 255 - mean) / std`` in float32, mixed by ``plan``, then rounded to ``dtype``: to the
    bit what these steps give one after the other. One pass on the host needs the ``compiled`` extra.

    Args:
        images: (batch, channels, height, width) uint8. Never written to.
        targets: as for ``cutmix.mix``.
        plan: what was drawn for this batch.
        mean: one number a channel, in shares of 255, as ``(0.485, 0.456, 0.406)``.
        std: one number above 0 a channel.
        dtype: of the result, floating point.
        memory_format: of the result: ``torch.channels_last`` for networks that want it.
        out: where the images go, (batch, channels, height, width) of ``dtype``; else new memory.

    Returns:
        The images, and the targets as ``cutmix.mix`` returns them.

    Raises:
        TypeError: when images are no bytes, or ``dtype`` is not floating point.
        ValueError: when a shape, the plan, ``mean``, ``std`` or ``out`` does not fit.
    """
    _check_bytes(images, dtype)
    offsets, scales = _channels("mean", mean, images), _channels("std", std, images)
    _check_shares(offsets, scales)
    offsets, scales = (numbers.to(images.device, non_blocking=True) for numbers in (offsets, scales))
    _, mixed_targets = mix(images[:, :0].float(), targets, plan)  # all is checked there, and no channel moved
    if out is None:
        out = torch.empty_like(images, dtype=dtype, memory_format=memory_format)
    else:
        _check_out(images, targets, out, dtype)
    return normalize_images(images, plan, offsets, scales, out=out), mixed_targets


def _check_bytes(images: Images, dtype: torch.dtype) -> None:
    check_images(images)
    if images.dtype is not torch.uint8 or images.ndim != 4:  # noqa: PLR2004 - (batch, channels, height, width)
        raise TypeError(
            f"images must be (batch, channels, height, width) of torch.uint8, got {images.dtype} of shape "
            f"{tuple(images.shape)}: mix what is no bytes by cutmix.mix, and normalize it before or after"
        )
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point or dtype.itemsize == 1:
        raise TypeError(f"dtype must be floating point, got {dtype}: for example torch.bfloat16, the smallest")


def _check_out(images: Images, targets: Labels, out: Images, dtype: torch.dtype) -> None:
    check_out(images.new_empty(1, dtype=dtype).expand(images.shape), out)  # like the result, in memory of one number
    if any(overlap(out, held) for held in (images, *leaves(targets))):
        raise ValueError(
            "out must share no memory with the images and the targets, got some: leave it out, or make it anew"
        )


def _channels(name: str, values: Sequence[float] | Tensor, images: Images) -> Channels:
    """Return one number a channel as float32."""
    try:
        numbers = torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be numbers, one a channel, got {values!r}: pass (0.5, 0.5, 0.5)") from error
    if numbers.shape != images.shape[1:2]:
        raise ValueError(
            f"{name} must be {images.shape[1]} numbers, one a channel, got {values}: in shares of 255, (0.5, 0.5, 0.5)"
        )
    return numbers


def _check_shares(mean: Channels, std: Channels) -> None:
    """Check that both are in shares of 255, where that costs no waiting."""
    if not (is_readable(mean) and is_readable(std)):
        return
    if not bool(((mean >= 0.0) & (mean <= 1.0)).all()):
        raise ValueError(f"mean must lie in [0, 1], got {mean.tolist()}: in shares of 255, divide it by 255")
    if not bool(((std > 0.0) & (std <= 1.0)).all()):
        raise ValueError(f"std must lie in (0, 1], got {std.tolist()}: in shares of 255, divide it by 255")
