"""What it takes to mix in place without a copy of the batch: to walk from partner to partner."""

import numpy as np

from cutmix.shapes import Partners


def is_permutation(partners: Partners) -> bool:
    """Tell whether each sample is the partner of just one."""
    return bool(np.bincount(partners.numpy(), minlength=len(partners)).max() == 1)


def check_permutation(partners: Partners) -> None:
    """Check that each sample can be overwritten once the one sample that shows it has been written.

    Raises:
        ValueError: when a sample is nobody's partner, or several samples'.
    """
    if not is_permutation(partners):
        raise ValueError(
            f"partners must be a permutation to be mixed in place by this backend, got {partners.tolist()}: "
            "leave out= away, or use backend='eager'"
        )
