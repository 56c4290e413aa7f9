"""What the data floor hands on: labelled images held in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from jaxtyping import Int64, UInt8
from torch import Tensor

Pixels: TypeAlias = UInt8[Tensor, "images 3 height width"]
ClassIds: TypeAlias = Int64[Tensor, " images"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images in memory, each with its class and with what it shows, for a caption: "fox face", else the class."""

    pixels: Pixels
    labels: ClassIds
    classes: tuple[str, ...]
    names: tuple[str, ...]
    attribution: str = ""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Return the images' height and width."""
        height, width = self.pixels.shape[-2:]
        return height, width

    def chosen(self, indices: Sequence[int]) -> "LabelledImages":
        """Return the images that ``indices`` name, in that order."""
        rows = list(indices)
        names = tuple(self.names[row] for row in rows)
        return LabelledImages(self.pixels[rows], self.labels[rows], self.classes, names, self.attribution)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """What to train on, what to test on, and what was found on the way, one sentence a note."""

    train: LabelledImages
    test: LabelledImages
    notes: tuple[str, ...]
