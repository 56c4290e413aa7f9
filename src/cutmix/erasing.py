"""Fill boxes of images with one value: no plan, for the labels stay."""

import torch

from cutmix.memory import check_out
from cutmix.shapes import Holes, Images


def check_erasing(images: Images, fill: float, out: Images | None) -> None:
    """Check that images can hold ``fill``, and that results may go to ``out``.

    Raises:
        TypeError: when integer images cannot hold ``fill``, or ``out`` is no tensor.
        ValueError: when ``out`` does not fit.
    """
    if not images.is_floating_point() and not images.is_complex():
        whole = torch.iinfo(torch.uint8 if images.dtype is torch.bool else images.dtype)
        if not float(fill).is_integer() or not whole.min <= fill <= whole.max:
            raise TypeError(
                f"fill must be a whole number in [{whole.min}, {whole.max}] for images of {images.dtype}, got {fill}: "
                "convert with .float()"
            )
    if out is not None:
        check_out(images, out)


def erase(images: Images, holes: Holes, fill: float, *, out: Images | None, axes: tuple[int, ...]) -> Images:
    """Fill ``holes`` along ``axes`` of each image with one value, once ``check_erasing`` has seen them."""
    erased = images.clone() if out is None else out if out is images else out.copy_(images)
    cut = erased.movedim(axes, tuple(range(-len(axes), 0)))
    for starts, stops in holes.tolist():
        cut[(..., *map(slice, starts, stops))] = fill
    return erased
