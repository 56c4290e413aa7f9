"""The plan: what was drawn for one batch."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from cutmix import boxes as geometry
from cutmix.shapes import Boxes, Kept, Masks, Opacity, Partners
from cutmix.tensors import is_readable

OPAQUE = torch.ones(1, dtype=torch.float64)
"""The opacity of a whole batch that shows nothing but its partners in its box."""
FEW = 8
"""How many partners are shown."""


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

    Drawn plans live on the host, where all is read without waiting; ``to`` moves one to where a graph replays it.

    Raises:
        TypeError: when one of them is not of its type.
        ValueError: when a shape does not fit, a box leaves the image, an opacity [0, 1], or a partner is negative.
    """

    partners: Partners
    boxes: Boxes
    opacity: Opacity
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if torch.compiler.is_compiling():
            return
        self._check_kinds()
        if not self.is_readable:
            return
        if self.partners.numpy().min() < 0:
            raise ValueError(f"partners must be 0 or more, got {self.partners.tolist()}: they are places in a batch")
        edges = self.boxes.numpy()
        starts, stops = edges[:, 0], edges[:, 1]
        if edges.min() < 0 or (starts > stops).any() or (stops > self.size).any():
            raise ValueError(
                f"boxes must start and stop inside the image of size {self.size}, starts before stops, "
                f"got {self.boxes.tolist()}: cut them off at the edges"
            )
        if self.opacity is not OPAQUE and not ((self.opacity >= 0.0) & (self.opacity <= 1.0)).all():
            raise ValueError(f"opacity must lie in [0, 1], got {self.opacity.tolist()}: 1 shows the partner alone")

    def _check_kinds(self) -> None:
        for name, dtype in _TENSORS.items():
            value = getattr(self, name)
            if not isinstance(value, Tensor) or value.dtype is not dtype:
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{name} must be a torch.Tensor of {dtype}, got {kind}: convert with .to({dtype})")
        if not geometry.are_whole(self.size) or not self.size or min(self.size) < 1:
            raise ValueError(f"size must be whole numbers of 1 or more, the image's sides, got {self.size!r}")
        samples, axes = self.partners.numel(), len(self.size)
        fits = (
            tuple(self.partners.shape) == (samples,)
            and samples > 0
            and tuple(self.boxes.shape) in {(1, 2, axes), (samples, 2, axes)}
            and tuple(self.opacity.shape) in {(1,), (samples,)}
        )
        if not fits:
            shapes = " and ".join(str(tuple(getattr(self, name).shape)) for name in _TENSORS)
            raise ValueError(
                f"partners, boxes and opacity must be (batch,), (1 or batch, 2, {axes}) and (1 or batch,) for size "
                f"{self.size}, got {shapes}: give one for the whole batch, or one a sample"
            )
        if len({getattr(self, name).device for name in _TENSORS}) > 1:
            raise ValueError(
                "partners, boxes and opacity must lie on one device, got several: plan.to(device) moves all of them"
            )

    @property
    def batch(self) -> int:
        """Return how many samples the plan is for."""
        return self.partners.shape[0]  # len() of a tensor is a call of Python

    @property
    def is_readable(self) -> bool:
        """Tell whether its numbers can be read without waiting: it is on the host, no graph or transform around."""
        return is_readable(self.boxes) and not _is_transformed()

    @property
    def is_opaque(self) -> bool:
        """Tell whether nothing is blended, as far as this can be read: a graph takes other plans after this one."""
        if torch.compiler.is_compiling():
            return False
        return self.opacity is OPAQUE or (self.is_readable and bool(self.opacity.numpy().min() == 1.0))

    @property
    def blends(self) -> bool:
        """Tell whether any pixel is of two images, which only fractions can hold, as far as this can be read."""
        if self.is_opaque or not self.is_readable:
            return False
        return not bool(((self.opacity == 1.0) | (self.kept == 1.0)).all())

    @property
    def kept(self) -> Kept:
        """Return how much of each sample's own content is left: from whole numbers, in float64, where the plan is."""
        if not self.is_readable:
            edges = self.boxes.to(self.opacity)
            kept = 1.0 - self.opacity * ((edges[:, 1] - edges[:, 0]).prod(-1) / math.prod(self.size))
        elif self.boxes.shape[0] == self.opacity.shape[0] == 1:
            kept = torch.full((1,), self.area, dtype=torch.float64)
        else:  # in numpy, which asks less for so few numbers
            covered = geometry.volume(self.boxes) / math.prod(self.size)
            kept = torch.from_numpy(1.0 - self.opacity.numpy() * covered)
        return kept.expand(self.batch)

    @property
    def area(self) -> float:
        """Return how much of every sample's own content is left, of a plan with one box for the whole batch.

        Raises:
            ValueError: when each sample has a box of its own.
        """
        edges, axes = self.bbox, len(self.size)
        covered = math.prod(stop - start for start, stop in zip(edges[:axes], edges[axes:], strict=True))
        return 1.0 - self.opacity.tolist()[0] * (covered / math.prod(self.size))

    @property
    def bbox(self) -> tuple[int, ...]:
        """Return the box of the whole batch as whole numbers: all starts, then all stops.

        For images that is ``(top, left, bottom, right)``.

        Raises:
            ValueError: when each sample has a box of its own.
        """
        if self.boxes.shape[0] != 1:
            raise ValueError(f"plan.bbox is the one box of a whole batch, got {len(self.boxes)} boxes; use plan.boxes")
        ((starts, stops),) = self.boxes.tolist()
        return *starts, *stops

    def mask(self) -> Masks:
        """Return where partners show, (1, *size) for the whole batch or (batch, *size), where the plan is."""
        return geometry.inside(self.boxes, self.size)

    def scaled(self, size: Sequence[int]) -> "Plan":
        """Fit the boxes to another size along the same axes, such as a feature map's.

        Edges go to the nearest whole pixel, halves up, so that ``kept`` of the result is about that of this plan;
        labels stay weighted by the plan that was drawn.

        Raises:
            ValueError: when ``size`` has another number of axes, or a side that is no whole number of 1 or more.
        """
        if not geometry.are_whole(size) or len(size) != len(self.size) or min(size) < 1:
            raise ValueError(
                f"size must be {len(self.size)} whole numbers of 1 or more, one an axis of the plan, got {size!r}: "
                "for a feature map pass features.shape[2:]"
            )
        size = tuple(int(side) for side in size)
        old, new = (torch.tensor(sides, device=self.boxes.device) for sides in (self.size, size))
        return replace(self, boxes=(2 * self.boxes * new + old) // (2 * old), size=size)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Plan":
        """Move the plan, for instance to where a CUDA graph replays it; numbers on a device cannot be checked."""
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in _TENSORS}
        return replace(self, **moved)

    def to_json(self) -> str:
        """Write the plan as one line of JSON, to be logged and replayed by ``from_json``."""
        return json.dumps({**{name: getattr(self, name).tolist() for name in _TENSORS}, "size": self.size})

    @staticmethod
    def from_json(text: str) -> "Plan":
        """Read a plan that ``to_json`` wrote; both are equal.

        Raises:
            ValueError: when the text is no plan, or one whose numbers break the rules of a plan.
        """
        try:
            # Whole numbers become int64, and others are seen to be none: nothing is rounded in silence.
            return Plan(**{name: _READ[name](value) for name, value in json.loads(text).items()})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"text must hold {', '.join(_READ)}, as plan.to_json() writes them, got {text!r:.200}: {error}"
            ) from error

    def __repr__(self) -> str:
        shape = f"{self.batch} of {'x'.join(map(str, self.size))}"
        if not self.is_readable:
            return f"Plan({shape} on {self.boxes.device})"
        least, most = self.kept.min().item(), self.kept.max().item()
        shown = f"box {self.bbox}" if len(self.boxes) == 1 else f"{len(self.boxes)} boxes"
        span = f"{least:.4g}" if least == most else f"{least:.4g} to {most:.4g}"
        return f"Plan({shape}, partners {_few(self.partners)}, {shown}, kept {span})"

    def __eq__(self, other: object) -> bool:
        """Compare by value: two plans are equal when all their numbers are, on the same device."""
        if not isinstance(other, Plan):
            return NotImplemented
        alike = (self.size, self.boxes.device) == (other.size, other.boxes.device)
        return alike and all(torch.equal(getattr(self, name), getattr(other, name)) for name in _TENSORS)

    __hash__ = None


_TENSORS = {"partners": torch.int64, "boxes": torch.int64, "opacity": torch.float64}
_READ: dict[str, Callable[..., Any]] = {
    "partners": torch.tensor,
    "boxes": torch.tensor,
    "opacity": partial(torch.tensor, dtype=torch.float64),
    "size": tuple,
}


def trusted_plan(partners: Partners, boxes: Boxes, opacity: Opacity, size: tuple[int, ...]) -> Plan:
    """Return a plan of what has just been drawn, which follows the rules: to check it would take as long again."""
    if torch.compiler.is_compiling():
        return Plan(partners, boxes, opacity, size)  # which checks nothing there
    plan = object.__new__(Plan)
    set_ = object.__setattr__
    set_(plan, "partners", partners)
    set_(plan, "boxes", boxes)
    set_(plan, "opacity", opacity)
    set_(plan, "size", size)
    return plan


def _is_transformed() -> bool:
    """Tell whether this runs inside of ``torch.func.grad`` and the like, where a tensor has no memory to be read."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # noqa: SLF001 - torch has no public name for it


def _few(partners: Partners) -> str:
    """Show the first partners, and all of a small batch."""
    shown = ", ".join(map(str, partners[:FEW].tolist()))
    return f"[{shown}, ...]" if len(partners) > FEW else f"[{shown}]"
