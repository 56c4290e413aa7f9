"""Crop and flip, a batch at a time: what small images are augmented with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional as F

from cutmix.core.algorithm import Algorithm
from cutmix.core.event import Event
from cutmix.keys import generator_for

if TYPE_CHECKING:
    from cutmix.core.logger import Logger
    from cutmix.core.state import State

Images: TypeAlias = Shaped[Tensor, "batch channels height width"]


@final
@dataclass(frozen=True, slots=True)
class Augment(Algorithm):
    """Move each image by up to an eighth of its side, and mirror every other one; give it before what mixes."""

    crop: bool = True
    flip: bool = True

    events = (Event.AFTER_DATALOADER,)

    def apply(self, event: Event, state: "State", logger: "Logger") -> None:  # noqa: ARG002 - the interface
        images = state.batch_get_item(state.input_key)
        generator = generator_for(state.seed, state.timestamp.batch, state.rank, "augment")
        if self.crop:
            images = cropped(images, generator)
        if self.flip:
            images = flipped(images, generator)
        state.batch_set_item(state.input_key, images)


def cropped(images: Images, generator: torch.Generator) -> Images:
    """Return each image moved by up to an eighth of its side along both axes; what comes in is zero.

    On standardised images zero is the mean colour, as in He et al. 2016. In new memory.
    """
    batch, _, height, width = images.shape
    down, right = height // 8, width // 8
    tops = torch.randint(2 * down + 1, (batch,), generator=generator).to(images.device)
    lefts = torch.randint(2 * right + 1, (batch,), generator=generator).to(images.device)
    padded = F.pad(images, (right, right, down, down))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(batch, device=images.device), :, tops, lefts]


def flipped(images: Images, generator: torch.Generator) -> Images:
    """Return the images, each mirrored left to right with probability one half. In new memory."""
    mirrored = torch.randint(2, (len(images), 1, 1, 1), generator=generator).bool().to(images.device)
    return torch.where(mirrored, images.flip(-1), images)
