"""CutOut: fill boxes of each image with one value; the labels stay."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, cast, final

import torch

from cutmix import boxes
from cutmix.algorithms.schedule import Schedule, Until, check_schedule, check_until, is_scheduled, settled
from cutmix.algorithms.settings import check_flag, check_length, check_number, check_p, check_spatial_dims
from cutmix.axes import picture_axes
from cutmix.core.algorithm import Algorithm
from cutmix.core.batch import Key
from cutmix.core.event import Event
from cutmix.core.time import Moment, Time
from cutmix.draws import check_generator, draw_chances, draw_coins
from cutmix.erasing import check_erasing, erase
from cutmix.keys import generator_for
from cutmix.mixing import check_images
from cutmix.shapes import Holes, Images

if TYPE_CHECKING:
    from cutmix.core.logger import Logger
    from cutmix.core.state import State


@final
@dataclass(frozen=True, slots=True)
class CutOut(Algorithm):
    """Fill square holes of each image with one value (DeVries and Taylor 2017); the same holes for the whole batch.

    Call it in a plain loop, ``images = cutout(images)``, or hand it to ``Trainer(algorithms=[cutout, ...])``, before or
    after what mixes.

    Args:
        num_holes: how many; they may overlap.
        length: the side of a hole as a share of the image's shorter side, in (0, 1]. Rounds down.
        uniform_sampling: place holes so that every pixel is equally likely to be covered; else the centre is uniform
            over the image's pixels. Clipped at the edges.
        input_key: where the images are in a batch; else the Trainer's.
        p: the share of batches that get holes, in [0, 1]. It may follow the clock: ``linear(0.0, 0.5)``, or any
            function of the elapsed share of the run, see ``at``.
        fill: what the holes are filled with: 0 is the mean of standardised images.
        spatial_dims: the axes to cut, for what is not (batch, channels, height, width).
        until: no holes from then on: ``'270ep'`` since the start of the run, or a share of it, 0.9.

    Raises:
        TypeError: when a setting is of the wrong type.
        ValueError: when a setting is out of its range.
    """

    num_holes: int = 1
    length: float = 0.5
    uniform_sampling: bool = False
    input_key: Key | None = None
    _: KW_ONLY
    p: float | Schedule = 1.0
    fill: float = 0.0
    spatial_dims: tuple[int, ...] | None = None
    until: Until | None = None

    def __post_init__(self) -> None:
        if not boxes.are_whole((self.num_holes,)) or self.num_holes < 1:
            raise ValueError(f"num_holes must be a whole number, 1 or more, got {self.num_holes!r}: for none pass p=0")
        check_number("fill", self.fill, -math.inf, math.inf, "holes are filled with it")
        check_flag("uniform_sampling", self.uniform_sampling)
        check_spatial_dims(self.spatial_dims)
        check_length(self.length, "for no holes")
        check_schedule(self.p, check_p)
        check_until(self.until)

    def at(self, time: float | str | Moment, *, of: str | int | Time | None = None) -> "CutOut":
        """Return the settings of one moment, all of them numbers: these where none of them follows the clock.

        Args:
            time: what is over of the run: a share, from 0 to 1; or with ``of`` a time in the same unit.
            of: how long the run is: ``'300ep'``, ``'9000ba'``, or a whole number of epochs.

        Raises:
            ValueError: when the time lies outside the run, or too little is known for what follows it.
        """
        return settled(self, Moment.parse(time, of)) if is_scheduled(self) else self

    def draw(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Holes:
        """Draw the holes for one batch of this shape, on the host: none where the batch is left alone.

        Args:
            shape: of the whole batch, as ``images.shape``.
            generator: a CPU generator; else torch's default one. It is advanced, never seeded.

        Raises:
            TypeError: when the generator is none.
            ValueError: when the shape needs ``spatial_dims``, or the generator lives on another device.
        """
        if is_scheduled(self):
            raise ValueError(f"holes must come with a time to be drawn by, got {self}: at(epoch, of=epochs)(images)")
        check_generator(generator)
        size = tuple(shape[axis] for axis in picture_axes(shape, self.spatial_dims))
        count = self.num_holes if draw_coins(cast("float", self.p), 1, generator).item() else 0
        sides = boxes.sides_for_length(self.length, boxes.extent([min(size)] * len(size)), count)
        chances = draw_chances(len(size), count, generator)
        return boxes.place_for(self.uniform_sampling)(sides, chances, boxes.extent(size))

    def __call__(
        self, images: Images, *, out: Images | None = None, generator: torch.Generator | None = None
    ) -> Images:
        """Fill holes of a batch of images, out of place unless ``out`` says otherwise.

        Args:
            images: (batch, channels, height, width), any dtype and device.
            out: where the images go; ``out=images`` is in place. Else always new memory.
            generator: a CPU generator to draw from; else torch's default one.

        Raises:
            TypeError: when the images are no tensor, or cannot hold ``fill``.
            ValueError: when a shape or ``out`` does not fit.
        """
        check_images(images)
        check_erasing(images, self.fill, out)
        holes = self.draw(images.shape, generator=generator)
        return erase(images, holes, self.fill, out=out, axes=picture_axes(images.shape, self.spatial_dims))

    events = (Event.AFTER_DATALOADER,)

    def apply(self, event: Event, state: "State", logger: "Logger") -> None:  # noqa: ARG002 - the interface
        key = state.input_key if self.input_key is None else self.input_key
        images = state.batch_get_item(key)
        generator = generator_for(state.seed, state.timestamp.batch, state.plan_rank, "cutout")
        state.batch_set_item(key, self.at(state.moment)(images, out=state.writable(images), generator=generator))
