"""Fill boxes of images with one value: no plan, for the labels stay."""

from cutmix.memory import check_out
from cutmix.shapes import Holes, Images


def erase(images: Images, holes: Holes, fill: float, *, out: Images | None, axes: tuple[int, ...]) -> Images:
    """Fill ``holes`` along ``axes`` of each image with one value.

    Raises:
        TypeError: when integer images cannot hold ``fill``.
        ValueError: when ``out`` does not fit.
    """
    if not images.is_floating_point() and fill != int(fill):
        raise TypeError(f"fill must be a whole number for images of {images.dtype}, got {fill}: convert with .float()")
    if out is None:
        erased = images.clone()
    else:
        check_out(images, out)
        erased = out if out is images else out.copy_(images)
    cut = erased.movedim(axes, tuple(range(-len(axes), 0)))
    for starts, stops in holes.tolist():
        cut[(..., *map(slice, starts, stops))] = fill
    return erased
