"""The plan: what was drawn for one batch."""

import math
from dataclasses import dataclass, fields
from typing import final

import torch

from cutmix.boxes import volume
from cutmix.shapes import Boxes, Kept, Opacity, Partners

OPAQUE = torch.ones(1, dtype=torch.float64)
"""The opacity of a whole batch that shows nothing but its partners in its box."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What was drawn for one batch: within its box, each sample shows its partner with ``opacity``.

    CutMix has opacity 1; MixUp has the whole image as its box; a sample that is not mixed has an empty box. Everything
    after the draw is a pure function of the batch and its plan, so that one plan mixes images and masks alike.

    Attributes:
        partners: (batch,) int64, who is pasted into each sample.
        boxes: (1, 2, axes) for the whole batch or (batch, 2, axes), int64: starts, then stops (exclusive), in pixels.
        opacity: (1,) or (batch,) float64 in [0, 1].
        size: the image's side along each axis (height before width), in pixels.

    All tensors live on the host.

    Raises:
        ValueError: when a box leaves the image, or an opacity [0, 1].
    """

    partners: Partners
    boxes: Boxes
    opacity: Opacity
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        edges = self.boxes.numpy()
        starts, stops = edges[:, 0], edges[:, 1]
        if edges.min() < 0 or (starts > stops).any() or (stops > self.size).any():
            raise ValueError(
                f"boxes must start and stop inside the image of size {self.size}, starts before stops, "
                f"got {self.boxes.tolist()}: cut them off at the edges"
            )
        if self.opacity is not OPAQUE and not ((self.opacity >= 0.0) & (self.opacity <= 1.0)).all():
            raise ValueError(f"opacity must lie in [0, 1], got {self.opacity.tolist()}: 1 shows the partner alone")

    @property
    def batch(self) -> int:
        """Return how many samples the plan is for."""
        return len(self.partners)

    @property
    def kept(self) -> Kept:
        """Return how much of each sample's own content is left: from whole numbers, in float64, on the host."""
        covered = volume(self.boxes) / math.prod(self.size)
        return torch.from_numpy(1.0 - self.opacity.numpy() * covered).expand(self.batch)

    @property
    def bbox(self) -> tuple[int, ...]:
        """Return the box of the whole batch as whole numbers: all starts, then all stops.

        For images that is ``(top, left, bottom, right)``.

        Raises:
            ValueError: when each sample has a box of its own.
        """
        if len(self.boxes) != 1:
            raise ValueError(f"plan.bbox is the one box of a whole batch, got {len(self.boxes)} boxes; use plan.boxes")
        return tuple(self.boxes.flatten().tolist())

    def __eq__(self, other: object) -> bool:
        """Compare by value: two plans are equal when they mix every batch alike."""
        if not isinstance(other, Plan):
            return NotImplemented
        return self.size == other.size and all(
            torch.equal(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
            if field.name != "size"
        )

    __hash__ = None
