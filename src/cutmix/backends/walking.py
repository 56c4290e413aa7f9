"""What it takes to mix in place without a copy of the batch: to walk from partner to partner."""

import numpy as np

from cutmix.shapes import Partners


class CannotMixError(ValueError):
    """A backend cannot do what is asked, and has written nothing; another can."""


def check_permutation(partners: Partners) -> None:
    """Check that each sample can be overwritten once the one sample that shows it has been written.

    Raises:
        CannotMixError: when a sample is nobody's partner, or several samples'.
    """
    if np.bincount(partners.numpy(), minlength=len(partners)).max() != 1:
        raise no_permutation(partners)


def no_permutation(partners: Partners) -> CannotMixError:
    """Return the refusal of partners that do not come round."""
    return CannotMixError(
        f"partners must be a permutation to be mixed in place by this backend, got {partners.tolist()}: "
        "leave out= away, or use backend='eager'"
    )
