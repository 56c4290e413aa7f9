"""What partners must be: there, and to be mixed in place without a copy of the batch, a way round all samples."""

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


def check_present(partners: Partners, samples: int) -> None:
    """Check that there are samples to be pasted at these places: loops that go by address trust it.

    Raises:
        ValueError: when there are not.
    """
    places = partners.numpy()  # which asks less than torch for so few numbers
    if places.min() < 0 or places.max() >= samples:
        raise not_present(partners, samples)


def not_present(partners: Partners, samples: int) -> ValueError:
    """Return the refusal of partners that are not there."""
    return ValueError(
        f"partners must lie in [0, {samples}), the samples that there are, got {partners.tolist()}: "
        "pass the batch that they were drawn for, or source="
    )


def no_permutation(partners: Partners) -> CannotMixError:
    """Return the refusal of partners that do not come round."""
    return CannotMixError(
        f"partners must be a permutation to be mixed in place by this backend, got {partners.tolist()}: "
        "leave out= away, or use backend='eager'"
    )
