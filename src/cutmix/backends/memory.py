"""What the backends that write into memory ask about it."""

import numpy as np

from cutmix.shapes import Images, Partners


def is_in_place(images: Images, out: Images | None) -> bool:
    """Tell whether ``out`` is the images' own memory, seen in the same way."""
    if out is None or out is images:
        return out is images
    return out.data_ptr() == images.data_ptr() and out.stride() == images.stride()


def is_permutation(partners: Partners) -> bool:
    """Tell whether each sample is the partner of just one."""
    return bool(np.bincount(partners.numpy(), minlength=len(partners)).max() == 1)


def check_permutation(partners: Partners) -> None:
    """Check that one can walk from partner to partner and overwrite each sample once it has been read.

    Raises:
        ValueError: when a sample is nobody's partner, or several samples'.
    """
    if not is_permutation(partners):
        raise ValueError(
            f"partners must be a permutation to be mixed in place by this backend, got {partners.tolist()}: "
            "leave out= away, or use backend='eager'"
        )
