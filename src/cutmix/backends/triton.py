"""Plans on a GPU: one launch of one Triton kernel, and the host waits for nothing.

What shows at a place depends on that place alone, in one's own image and in the partner's. So a program takes a tile of
places: it reads what each shows, from either image, and then writes. In place a tile is narrow and holds the whole
batch, so that all of it is in registers before anything is overwritten, whoever is whose partner: there is no ring to
walk, nothing to save, and no read that waits for the one before it.

Shapes and strides are compile-time constants (``triton_layout.py``): one compilation for each, none for another box.
Pixels that are only copied and lie side by side are moved eight bytes at a time, and a word that an edge of a box cuts
is put together bit by bit.

Boxes, partners and opacities are read from device memory: a plan on the host goes up in one copy, one on the device is
read where it is, as a captured CUDA graph needs it.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any, TypeAlias

import torch
from torch import Tensor

from cutmix.backends.triton_kernel import INTERPRETED, WORDS, mix
from cutmix.backends.triton_layout import FREE, Layout, launch_for
from cutmix.memory import is_same
from cutmix.plans import Plan
from cutmix.shapes import Channels, Images, Source

Moments: TypeAlias = tuple[Tensor, Tensor]

WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""What is only copied is copied as whole numbers of its size: any dtype, and one kernel for all of a size."""

TAKEN_AT_ONCE = 200_000
"""The bytes that were seen to go up behind a busy stream without a wait; fewer do so sooner than from pinned memory."""

HELD_BATCH = 4096
"""The largest batch that one program holds; the partners of a larger one are copied first."""


def mix_images(images: Images, plan: Plan, *, source: Source | None = None, out: Images | None = None) -> Images:
    """Show in each sample's box its partner, with the plan's opacity.

    Raises:
        TypeError: when a pixel has more than 8 bytes.
        ValueError: where the images are on no GPU or require grad, and where a CUDA graph captures a plan of the host.
    """
    mixed = torch.empty_like(images) if out is None else out
    batches = *_checked(images, source), mixed
    if images.itemsize not in WHOLE:
        raise TypeError(
            f"images must have pixels of at most 8 bytes for backend 'triton', got {images.dtype}: take 'eager'"
        )
    blends = images.is_floating_point() and not plan.is_opaque
    if not blends:
        batches = tuple(batch.view(WHOLE[batch.itemsize]) for batch in batches)
    _launch(batches, plan, None, blends=blends)
    return mixed


def mix_normalize(images: Images, plan: Plan, mean: Channels, std: Channels, out: Images) -> Images:
    """Normalize bytes to float32, step by step as torch does, mix, and round to the dtype of ``out``: in one pass.

    Raises:
        ValueError: as ``mix_images`` does.
    """
    _launch((*_checked(images, None), out), plan, (mean.contiguous(), std.contiguous()), blends=not plan.is_opaque)
    return out


def _checked(images: Images, source: Source | None) -> tuple[Images, Images]:
    """Return the images and the batch that partners come from."""
    source = images if source is None else source
    if not (images.is_cuda or INTERPRETED):
        raise ValueError(
            f"images must be on a GPU for backend 'triton', got {images.device}: move them with .cuda(), or take "
            "backend='auto' (or set TRITON_INTERPRET=1 before triton is imported, to try the kernel on the host)"
        )
    if torch.is_grad_enabled() and (images.requires_grad or source.requires_grad):
        raise ValueError(
            "images must not require grad for backend 'triton', got some that do: it has no gradient, "
            "take backend='eager', or detach() them"
        )
    return images, source


def _launch(batches: tuple[Images, ...], plan: Plan, moments: Moments | None, *, blends: bool) -> None:
    """Mix the first of three batches with partners from the second into the third."""
    images, source, out = batches
    if not out.numel():
        return
    in_place, held = is_same(out, images), is_same(out, source)
    if held and plan.batch > HELD_BATCH:
        source, held = source.clone(), False
    batches = images, source, out
    layout = _layout(batches, plan, held=held, blends=blends, normalises=moments is not None)
    programs, constants = launch_for(layout)
    launch: Any = mix[(programs,)]  # which Triton types as the kernel itself, without the launch's own arguments
    with torch.cuda.device_of(images):
        launch(
            *batches,
            *_on(images.device, plan),
            *(moments or (None, None)),
            plan.batch,
            *(batch.stride(0) // constants["WORD"] for batch in batches),
            **constants,
            RANK=len(plan.size),
            OPACITY_A_SAMPLE=plan.opacity.shape[0] > 1,
            ONLY_INSIDE=in_place,
            BLENDS=blends,
            NORMALISES=moments is not None,
            enable_fp_fusion=False,
        )


def _layout(batches: Sequence[Images], plan: Plan, *, held: bool, blends: bool, normalises: bool) -> Layout:
    """Return how batches lie, and what cuts their axes: the channels count among them where they are normalised."""
    rank, free = len(plan.size), batches[0].ndim - 1 - len(plan.size)
    return Layout(
        shape=batches[0].shape,
        strides=tuple(batch.stride()[1:] for batch in batches),
        cut_by=(*([rank, *[FREE] * (free - 1)] if normalises else [FREE] * free), *range(rank)),
        itemsize=batches[0].itemsize,
        most_pixels=1 if blends or normalises else _most_pixels(batches),
        held=held,
        box_a_sample=plan.boxes.shape[0] > 1,
    )


def _most_pixels(batches: Sequence[Images]) -> int:
    """Return how many pixels a word may have, by their bytes and by where samples begin."""
    itemsize = batches[0].itemsize
    starts = reduce(or_, [batch.data_ptr() | batch.stride(0) * itemsize for batch in batches], max(WORDS))
    return max((starts & -starts) // itemsize, 1)


def _on(device: torch.device, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Return a plan's partners, boxes and opacity one after the other in memory of ``device``.

    What is on the host goes up in one copy, and nobody waits: a few bytes CUDA takes at once, from any memory.
    """
    partners, boxes, opacity = plan.partners.contiguous(), plan.boxes.contiguous(), plan.opacity.contiguous()
    if partners.device == device:
        return partners, boxes, opacity
    if torch.cuda.is_current_stream_capturing():
        raise ValueError(
            "plan must live on the images' device where a CUDA graph is captured, got one on the host: "
            f"capture plan.to({str(device)!r}), and copy_ into its tensors before each replay"
        )
    lengths = [partners.numel(), boxes.numel(), opacity.numel()]
    packed = torch.cat([partners, boxes.view(-1), opacity.view(torch.int64)])
    packed = packed if packed.nbytes <= TAKEN_AT_ONCE else packed.pin_memory()
    partners, boxes, opacity = packed.to(device, non_blocking=True).split(lengths)
    return partners, boxes, opacity.view(torch.float64)
