"""The stencil: partners that show through a mask of any form, beside the plan and its boxes."""

from dataclasses import dataclass
from typing import final

import torch

from cutmix.shapes import Images, Kept, Masks, Partners
from cutmix.tensors import is_readable


@final
@dataclass(frozen=True, slots=True, eq=False)
class Stencil:
    """Where partners show, in any form: what ``mix_by_mask`` mixes by."""

    mask: Masks
    partners: Partners

    def __post_init__(self) -> None:
        if self.mask.dtype is not torch.bool:
            raise TypeError(f"mask must be bool, got {self.mask.dtype}: convert with mask > 0.5, or as it is meant")
        if self.partners.dtype not in (torch.int32, torch.int64) or self.partners.ndim != 1:
            raise ValueError(
                f"partners must be whole numbers, one a sample, got {self.partners.dtype} of shape "
                f"{tuple(self.partners.shape)}: convert with .long(), or pass torch.randperm(len(images))"
            )
        if self.mask.ndim < 2 or len(self.mask) not in (1, self.batch) or not self.mask.numel():  # noqa: PLR2004
            raise ValueError(
                f"mask must be (1, *size) or ({self.batch}, *size), got shape {tuple(self.mask.shape)}: "
                "one for the whole batch, mask[None], or one a sample"
            )

    @property
    def batch(self) -> int:
        """Return how many samples there are."""
        return len(self.partners)

    @property
    def size(self) -> tuple[int, ...]:
        """Return the side of the images along each axis."""
        return tuple(self.mask.shape[1:])

    @property
    def kept(self) -> Kept:
        """Return how much of each sample's own content is left: from whole numbers, in float64, on the host."""
        shown = self.mask.flatten(1).sum(1).cpu()
        return (1.0 - shown.double() / self.mask[0].numel()).expand(self.batch)

    @property
    def is_readable(self) -> bool:
        """Tell whether who is paired can be read without waiting."""
        return is_readable(self.partners)

    def show(self, images: Images, source: Images, out: Images | None = None) -> Images:
        """Return the images with their partners where the mask is true."""
        between = [1] * (images.ndim - self.mask.ndim)
        inside = self.mask.to(images.device, non_blocking=True).view(len(self.mask), *between, *self.size)
        partners = self.partners.to(source.device, non_blocking=True)
        mixed = torch.where(inside, source.index_select(0, partners), images)
        return (torch.empty_like(images) if out is None else out).copy_(mixed)
