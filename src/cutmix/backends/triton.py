"""Plans on a GPU: one launch of one Triton kernel, and the host waits for nothing.

What shows at a place depends on that place alone, in one's own image and in the partner's. So a program takes a tile of
places in some samples: it reads what each pixel shows, from either image, and then writes. Into memory that is nobody's
partner, tiles are long and samples few. In place, a tile is narrow and holds the whole batch, so that all of it is in
registers before anything is overwritten, whoever is whose partner: there is no ring to walk, nothing to save, and no
read that waits for the one before it.

A pixel's coordinates follow from its place. The axes are folded first (an axis that fills one step of another becomes
part of it), so that a picture has two or three whatever its layout. They are compile-time constants: one compilation a
shape and layout, none for another box. Boxes, partners and opacities are read from device memory: a plan on the host
goes up in one copy from pinned memory, one on the device is read where it is, as a captured CUDA graph needs it.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from cutmix.backends.triton_kernel import INTERPRETED, mix
from cutmix.memory import is_same
from cutmix.plans import Plan
from cutmix.shapes import Channels, Images, Source

Strides: TypeAlias = tuple[int, ...]
Moments: TypeAlias = tuple[Tensor, Tensor]

FREE = -1
"""What cuts an axis that no plan cuts."""

WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""What is only copied is copied as whole numbers of its size: any dtype, and one kernel for all of a size."""

LONG_TILE = 1024
HELD_TILE = 8192
HELD_BATCH = 4096
"""The largest batch that one program holds; the partners of a larger one are copied first."""

SECTOR = 32
"""The bytes that a GPU moves at least."""

A_WARP = 1024
"""Elements for one warp: 32 a thread, whose values and addresses fit into its registers."""

FEWEST_WARPS, MOST_WARPS = 4, 32


class Axis(NamedTuple):
    """An axis of a sample as the kernel knows it.

    Attributes:
        length: how many places it has.
        cut_by: which of the plan's axes; FREE for none, the number of them for the channels of ``mix_normalize``.
        unit: how many places make one step of the plan's axis.
        own: the stride in the images.
        partner: the stride in the source.
        out: the stride in what is written.
    """

    length: int
    cut_by: int
    unit: int
    own: int
    partner: int
    out: int

    @property
    def strides(self) -> Strides:
        """Return the three strides."""
        return self.own, self.partner, self.out

    def holds(self, inner: "Axis") -> bool:
        """Tell whether ``inner`` fills one step of this axis, in all three batches."""
        return inner.cut_by == FREE and self.strides == tuple(inner.length * stride for stride in inner.strides)

    def folded(self, inner: "Axis") -> "Axis":
        """Return the one axis that both are."""
        return Axis(self.length * inner.length, self.cut_by, self.unit * inner.length, *inner.strides)


def mix_images(images: Images, plan: Plan, *, source: Source | None = None, out: Images | None = None) -> Images:
    """Show in each sample's box its partner, with the plan's opacity.

    Raises:
        ValueError: where the images are on no GPU or require grad, and where a CUDA graph captures a plan of the host.
    """
    mixed = torch.empty_like(images) if out is None else out
    batches = *_checked(images, source), mixed
    blends = images.is_floating_point() and not plan.is_opaque
    if not blends:
        batches = tuple(batch.view(WHOLE[batch.element_size()]) for batch in batches)
    _launch(batches, plan, None, blends=blends)
    return mixed


def mix_normalize(images: Images, plan: Plan, mean: Channels, std: Channels, out: Images) -> Images:
    """Normalize bytes to float32, step by step as torch does, mix, and round to the dtype of ``out``: in one pass.

    Raises:
        ValueError: as ``mix_images`` does.
    """
    _launch((*_checked(images, None), out), plan, (mean, std), blends=not plan.is_opaque)
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
    rank, free = len(plan.size), images.ndim - 1 - len(plan.size)
    cut_by = *([FREE] * free if moments is None else [rank, *[FREE] * (free - 1)]), *range(rank)
    geometry = _geometry(out.shape[1:], cut_by, tuple(batch.stride()[1:] for batch in batches))
    places = geometry["PLACES"]
    tiling = _held_tiles(places, plan.batch, out.element_size()) if held else _long_tiles(places)
    partners, boxes, opacity, *moved = _on(
        images.device, plan.partners, plan.boxes.contiguous(), plan.opacity.contiguous(), *(moments or ())
    )
    programs = tiling["TILES"] * -(-plan.batch // tiling["SAMPLES"])
    launch: Any = mix[(programs,)]  # which Triton types as the kernel itself, without the launch's own arguments
    with torch.cuda.device_of(images):
        launch(
            *batches,
            partners,
            boxes,
            opacity,
            *(moved or (None, None)),
            plan.batch,
            *(batch.stride(0) for batch in batches),
            **geometry,
            **tiling,
            RANK=rank,
            BOX_A_SAMPLE=len(boxes) > 1,
            OPACITY_A_SAMPLE=len(opacity) > 1,
            ONLY_INSIDE=in_place,
            HELD=held,
            BLENDS=blends,
            NORMALISES=bool(moved),
            enable_fp_fusion=False,
        )


@lru_cache(maxsize=256)
def _geometry(lengths: tuple[int, ...], cut_by: tuple[int, ...], strides: tuple[Strides, ...]) -> dict[str, Any]:
    """Return the constants that say where in three batches each of a sample's places lies, and what cuts it."""
    axes = [Axis(length, by, 1, *steps) for length, by, *steps in zip(lengths, cut_by, *strides, strict=True)]
    names = ("LENGTHS", "CUT_BY", "UNITS", "OWN_STRIDES", "PARTNER_STRIDES", "OUT_STRIDES")
    return {
        **dict(zip(names, zip(*_folded(axes), strict=True), strict=True)),
        "PLACES": math.prod(lengths),
        "WIDE": max(sum((axis.length - 1) * max(axis.strides) for axis in axes), math.prod(lengths)) >= 2**31,
    }


def _folded(axes: Sequence[Axis]) -> list[Axis]:
    """Return the axes, innermost first, with neighbours made one wherever memory and plan let them be."""
    folded: list[Axis] = []
    for axis in sorted(axes, key=lambda axis: axis.out):
        outer = axis
        while folded and outer.holds(folded[-1]):
            outer = outer.folded(folded.pop())
        if outer.length > 1 or outer.cut_by != FREE:
            folded.append(outer)
    return folded


def _long_tiles(places: int) -> dict[str, int]:
    """Return the tiles for programs that read nothing which is overwritten."""
    tile = min(LONG_TILE, _power_of_two(places))
    return _tiles(places, LONG_TILE // tile, tile)


def _held_tiles(places: int, batch: int, itemsize: int) -> dict[str, int]:
    """Return the tiles for programs that hold the whole batch: at least a sector of each sample."""
    samples = _power_of_two(batch)
    return _tiles(places, samples, min(max(HELD_TILE // samples, SECTOR // itemsize), _power_of_two(places)))


def _tiles(places: int, samples: int, tile: int) -> dict[str, int]:
    warps = min(max(samples * tile // A_WARP, FEWEST_WARPS), MOST_WARPS)
    return {"SAMPLES": samples, "TILE": tile, "TILES": -(-places // tile), "num_warps": warps}


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()


def _on(device: torch.device, *values: Tensor) -> Sequence[Tensor]:
    """Return ``values`` on ``device``; those of the host go up together, from pinned memory, and nobody waits."""
    host = [value for value in values if value.device != device]
    if not host:
        return values
    if torch.cuda.is_current_stream_capturing():
        raise ValueError(
            "plan must live on the images' device where a CUDA graph is captured, got one on the host: "
            f"capture plan.to({str(device)!r}), and copy_ into its tensors before each replay"
        )
    packed = torch.cat([value.reshape(-1).view(torch.uint8) for value in host]).pin_memory()
    pieces = packed.to(device, non_blocking=True).split([value.nbytes for value in host])
    moved = iter([piece.view(value.dtype).view(value.shape) for piece, value in zip(pieces, host, strict=True)])
    return [value if value.device == device else next(moved) for value in values]
