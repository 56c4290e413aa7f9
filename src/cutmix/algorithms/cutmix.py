"""CutMix: paste a box of another image, and mix the labels by the pixels that show."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import cast, final

import torch

from cutmix import boxes
from cutmix.algorithms.recipe import Recipe
from cutmix.algorithms.schedule import Schedule, Until
from cutmix.algorithms.settings import check_length, check_min_max
from cutmix.axes import picture_axes
from cutmix.core.batch import Key
from cutmix.draws import Pairing, draw_beta_and_chances, draw_betas_and_chances, draw_chances
from cutmix.plans import OPAQUE
from cutmix.shapes import Boxes, Opacity

BOX = "whole numbers, all starts then all stops"
EXAMPLE = "for images (top, left, bottom, right) with 0 <= top <= bottom <= height and 0 <= left <= right <= width"


@final
@dataclass(frozen=True, slots=True)
class CutMix(Recipe):
    """Fill a box of each image with the same region of another image of the batch (Yun et al. 2019).

    The paper's rule: lambda ~ Beta(alpha, alpha); box sides ``int(side * sqrt(1 - lambda))``, of which an odd one loses
    a pixel, as in the authors' code; the centre uniform over the image's pixels; clipped at the edges, so that labels
    are weighted by what shows. One box for the whole batch, unless ``per_sample``.

    Args:
        alpha: of the Beta distribution; 1 is the standard choice, 0 mixes nothing. It may follow
            the clock: ``linear(1.0, 0.0)``, or any function of the elapsed share of the run, see ``at``.
        interpolate_loss: in the Trainer, weigh two calls of the loss instead of calling it on blended label rows.
        uniform_sampling: place the box so that every pixel is equally likely to be replaced; odd sides stay whole.
        input_key: where the images are in a batch (index, key, attribute, or a getter and setter); else the Trainer's,
            and 0 in a plain loop.
        target_key: where the targets are; else the Trainer's, and 1 in a plain loop.
        p: the share of batches that are mixed, in [0, 1]; of samples with ``per_sample``. It may follow the clock too.
        per_sample: draw a box of its own, and whether there is one, for each sample.
        length: cut this fraction of each side, in (0, 1], instead of drawing it; ``alpha`` is then unused. Rounds
            down; odd sides stay whole. The paper's centre may still clip it.
        bbox: cut just this box, in whole pixels: all starts, then all stops, (top, left, bottom, right) for images.
            ``alpha`` is then unused.
        min_max: cut boxes that lie wholly inside, each side between two fractions of the image's, (0.2, 0.8): all
            whole numbers between are alike, both ends round down and count. ``alpha`` is then unused.
        pairing: "ring", one random cycle, where nobody is its own partner; "shuffle", a plain permutation; or
            "same_class", a random cycle inside each class, where who is alone in it stays as it is.
        until: mix nothing from then on: ``'270ep'`` since the start of the run, or a share of it, 0.9.
        spatial_dims: the axes to cut, for what is not (batch, channels, height, width): (2,) for signals, (1, 2) for
            grey or channels-last pictures, (2, 3, 4) for volumes.

    Raises:
        TypeError: when a setting is of the wrong type.
        ValueError: when a setting is out of its range, or two of ``length``, ``bbox`` and ``min_max`` are given.
    """

    alpha: float | Schedule = 1.0
    interpolate_loss: bool = False
    uniform_sampling: bool = False
    input_key: Key | None = None
    target_key: Key | None = None
    _: KW_ONLY
    p: float | Schedule = 1.0
    per_sample: bool = False
    length: float | None = None
    bbox: tuple[int, ...] | None = None
    min_max: tuple[float, float] | None = None
    pairing: Pairing = "ring"
    until: Until | None = None
    spatial_dims: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._check_settings()
        if (self.length is not None) + (self.bbox is not None) + (self.min_max is not None) > 1:
            raise ValueError(
                f"at most one of length, bbox and min_max may be given, got length={self.length}, bbox={self.bbox} and "
                f"min_max={self.min_max}: leave the others out"
            )
        if self.bbox is not None and not _is_box(self.bbox):
            raise ValueError(f"bbox must be {BOX}, got {self.bbox!r}: {EXAMPLE}")
        if self.length is not None:
            check_length(self.length, "to mix nothing")
        if self.min_max is not None:
            check_min_max(self.min_max)
            if self.uniform_sampling:
                raise ValueError(
                    f"uniform_sampling must be False with min_max, whose boxes lie wholly inside the image, "
                    f"got min_max={self.min_max}: for sizes of one kind pass length"
                )

    def axes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return which axes are cut: ``spatial_dims``, else the last two of four; ``bbox`` must lie inside of them."""
        axes = picture_axes(shape, self.spatial_dims)
        if self.bbox is not None:
            _check_inside(self.bbox, tuple(shape[axis] for axis in axes))
        return axes

    def draw_regions(
        self, size: tuple[int, ...], count: int, generator: torch.Generator | None
    ) -> tuple[Boxes, Opacity]:
        """Draw ``count`` boxes by the rule of these settings; partners are opaque in all of them."""
        return self._draw_boxes(size, count, generator), OPAQUE if count == 1 else OPAQUE.expand(count)

    def _draw_boxes(self, size: tuple[int, ...], count: int, generator: torch.Generator | None) -> Boxes:
        if self.bbox is not None:
            edges = [int(edge) for edge in self.bbox]
            return boxes.fixed(edges[: len(size)], edges[len(size) :], count)
        if self.min_max is not None:
            return _draw_between(*self.min_max, size, count, generator)
        length = 0.0 if self.length is None and self._has_no_alpha else self.length
        if length is None:
            return self._draw_by_share(size, count, generator)
        extent, chances = boxes.extent(size), draw_chances(len(size), count, generator)
        sides = boxes.sides_for_length(length, extent, count)
        return boxes.place_for(self.uniform_sampling)(sides, chances, extent)

    def _draw_by_share(self, size: tuple[int, ...], count: int, generator: torch.Generator | None) -> Boxes:
        """Draw what share of the image each box covers, then where it is."""
        alpha, is_picture = cast("float", self.alpha), len(size) == boxes.PLANE
        if count == 1 and is_picture and not self.uniform_sampling and not torch.compiler.is_compiling():
            kept, chances = draw_beta_and_chances(alpha, len(size), generator)
            return boxes.one_of_the_paper(1.0 - kept, chances, size)
        kept, chances = draw_betas_and_chances(alpha, count, len(size), generator)
        extent = boxes.extent(size)
        if self.uniform_sampling:
            return boxes.for_equal_pixels(boxes.sides_for_shares(1.0 - kept, extent), chances, extent)
        return boxes.of_the_paper(1.0 - kept, chances, extent)


def _draw_between(
    low: float, high: float, size: tuple[int, ...], count: int, generator: torch.Generator | None
) -> Boxes:
    """Draw boxes wholly inside, with sides between these two fractions of the image's."""
    extent, chances = boxes.extent(size), draw_chances(2 * len(size), count, generator)
    sides = boxes.sides_between(low, high, extent, chances[: len(size)])
    return boxes.wholly_inside(sides, chances[len(size) :], extent)


def _is_box(bbox: object) -> bool:
    """Tell whether these are whole numbers, as many starts as stops, which come after them."""
    if not boxes.are_whole(bbox):
        return False
    edges = cast("Sequence[int]", bbox)
    axes = len(edges) // 2
    starts, stops = edges[:axes], edges[axes:]
    return 0 < axes == len(stops) and all(0 <= start <= stop for start, stop in zip(starts, stops, strict=True))


def _check_inside(bbox: Sequence[int], size: tuple[int, ...]) -> None:
    if len(bbox) != 2 * len(size) or any(stop > side for stop, side in zip(bbox[len(size) :], size, strict=True)):
        raise ValueError(f"bbox must be {BOX}, inside the image of size {size}, got {bbox}: {EXAMPLE}")
