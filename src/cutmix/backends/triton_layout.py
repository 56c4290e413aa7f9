"""How the Triton kernel goes through a batch: where each place lies, what a program takes; pure numbers, no tensors.

A pixel's coordinates follow from its place. The axes are folded first (an axis that fills one step of another becomes
part of it), so that a picture has two or three whatever its layout. Where pixels that are only copied lie side by side,
a place is a word of them. The inner axes make up rows, whose places are the columns of a tile: what depends on the
column alone is computed once for all rows of a tile, what depends on the row once for all columns.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from cutmix.backends.triton_kernel import WORDS

Strides: TypeAlias = tuple[int, ...]
Constants: TypeAlias = dict[str, Any]
"""Arguments of the kernel that it is compiled for, by their names."""

FREE = -1
"""What cuts an axis that no plan cuts."""

LONG_ROW = 16
"""How many places make a row long enough; axes are put together to such rows where no edge cuts through a word."""

TILE, HELD_TILE, HELD_TILE_OF_BOXES = 1024, 4096, 2048
"""Places of a tile; of one that holds a whole batch; of one where moreover each sample has its own box."""

A_WARP, A_WARP_OF_BOXES = 1024, 512
"""Places of one warp, 32 or 16 a thread, whose values and addresses fit into its registers."""

FEWEST_WARPS, MOST_WARPS = 4, 32

FEWEST_ROWS = 4
"""How many rows a tile has at least, where there are as many: what depends on the column is computed once for them."""

WASTE = 1.2
"""How many places a tile may have for each that exists: rows are as long as they are, tiles powers of two."""

SECTOR = 32
"""The bytes that a GPU moves at least."""


class Layout(NamedTuple):
    """How three batches lie in memory, and what is done with them, as far as the kernel is compiled for it.

    Attributes:
        shape: (batch, ...), of all three.
        strides: of a sample's axes, in the images, in the source and in what is written.
        cut_by: which of the plan's axes cuts each; FREE for none, the number of them for the channels.
        itemsize: the bytes of a pixel.
        most_pixels: how many pixels a word may have.
        held: whether a program must read the whole batch before it writes.
        box_a_sample: whether each sample has its own box.
    """

    shape: tuple[int, ...]
    strides: tuple[Strides, ...]
    cut_by: tuple[int, ...]
    itemsize: int
    most_pixels: int
    held: bool
    box_a_sample: bool


class Launch(NamedTuple):
    """How many programs the kernel is launched as, and what it is compiled for."""

    programs: int
    constants: Constants


class Tile(NamedTuple):
    """What a program takes."""

    columns: int
    height: int
    warps: int


class Axis(NamedTuple):
    """An axis of a sample as the kernel knows it.

    Attributes:
        length: how many places it has.
        cut_by: which of the plan's axes; FREE for none, the number of them for the channels.
        unit: how many places make one step of the plan's axis; pixels, where edges of boxes cut through words.
        own: the stride in the images.
        partner: the stride in the source.
        out: the stride in what is written.
    """

    length: int
    cut_by: int
    unit: int
    own: int
    partner: int
    out: int

    @property
    def strides(self) -> Strides:
        """Return the three strides."""
        return self.own, self.partner, self.out

    def holds(self, inner: "Axis") -> bool:
        """Tell whether ``inner`` fills one step of this axis, in all three batches."""
        return inner.cut_by == FREE and self.strides == tuple(inner.length * stride for stride in inner.strides)

    def folded(self, inner: "Axis") -> "Axis":
        """Return the one axis that both are."""
        return Axis(self.length * inner.length, self.cut_by, self.unit * inner.length, *inner.strides)

    def between_words(self, word: int) -> "Axis":
        """Return an axis whose neighbours are whole words apart, with its strides in words."""
        return Axis(self.length, self.cut_by, self.unit, *(stride // word for stride in self.strides))


@lru_cache(maxsize=256)
def launch_for(layout: Layout) -> Launch:
    """Return how the kernel is launched for batches that lie so."""
    axes, words = _in_words(_folded(layout), layout)
    programs, tiles = _in_tiles(axes, layout, size=words["WORD"] * layout.itemsize, splits=words["SPLITS"])
    names = ("LENGTHS", "CUT_BY", "UNITS", "OWN_STRIDES", "PARTNER_STRIDES", "OUT_STRIDES")
    by_name = dict(zip(names, zip(*axes, strict=True), strict=True))
    return Launch(programs, {**by_name, **words, **tiles, "HELD": layout.held, "BOX_A_SAMPLE": layout.box_a_sample})


def _folded(layout: Layout) -> list[Axis]:
    """Return a sample's axes, innermost first, with neighbours made one wherever memory and plan let them be."""
    axes = [
        Axis(length, by, 1, *strides)
        for length, by, *strides in zip(layout.shape[1:], layout.cut_by, *layout.strides, strict=True)
    ]
    folded: list[Axis] = []
    for axis in sorted(axes, key=lambda axis: axis.out):
        outer = axis
        while folded and outer.holds(folded[-1]):
            outer = outer.folded(folded.pop())
        if outer.length > 1 or outer.cut_by != FREE:
            folded.append(outer)
    return folded


def _pixels_in_a_word(axes: Sequence[Axis], most: int) -> int:
    """Return how many pixels, a power of two, divide every row and every step from row to row."""
    innermost, *others = axes
    if innermost.strides != (1, 1, 1):
        return 1
    return math.gcd(most, innermost.length, *chain.from_iterable(axis.strides for axis in others))


def _in_words(pixels: Sequence[Axis], layout: Layout) -> tuple[list[Axis], Constants]:
    """Return the axes with words for places, and what the words are.

    Where edges of boxes split words, the innermost axis's unit stays in pixels.
    """
    innermost, *others = pixels
    word = _pixels_in_a_word(pixels, layout.most_pixels)
    splits = innermost.cut_by != FREE and innermost.unit % word > 0
    unit = innermost.unit if splits else innermost.unit // word
    first = innermost._replace(length=innermost.length // word, unit=unit) if word > 1 else innermost
    return [first, *(axis.between_words(word) for axis in others)], {
        "WORD": word,
        "WORD_TYPE": WORDS[word * layout.itemsize] if word > 1 else None,
        "BITS": 8 * layout.itemsize,
        "SPLITS": splits,
        "WIDE": _reach(pixels) >= 2**31,
    }


def _in_tiles(axes: Sequence[Axis], layout: Layout, size: int, *, splits: bool) -> tuple[int, Constants]:
    """Return how many programs there are, and the tile of each, whose places have ``size`` bytes."""
    inner = _axes_in_a_row(axes, 1 if splits else LONG_ROW)
    columns, rows = (math.prod(axis.length for axis in part) for part in (axes[:inner], axes[inner:]))
    samples = layout.shape[0]
    tile = _held_tile(layout, columns, size) if layout.held else _tile(columns, rows)
    groups = rows if layout.held else samples * -(-rows // tile.height)
    return groups * -(-columns // tile.columns), {
        "INNER": inner,
        "COLUMNS": columns,
        "ROWS": rows,
        "WIDTH": tile.columns,
        "HEIGHT": tile.height,
        "RAGGED": (samples if layout.held else rows) % tile.height > 0,
        "num_warps": tile.warps,
    }


def _axes_in_a_row(axes: Sequence[Axis], least: int) -> int:
    """Return how many of the axes, innermost first, make up a row of ``least`` places, where there are as many."""
    lengths = [axis.length for axis in axes]
    return next((count for count in range(1, len(axes)) if math.prod(lengths[:count]) >= least), len(axes))


def _tile(columns: int, rows: int) -> Tile:
    """Return the tile for programs that overwrite nothing that others read: some rows high, if there are some."""
    most = TILE // min(FEWEST_ROWS, _power_of_two(rows))
    widths = [1 << power for power in range(most.bit_length())]
    width = max(width for width in widths if -(-columns // width) * width <= WASTE * columns)
    return Tile(width, min(TILE // width, _power_of_two(rows)), FEWEST_WARPS)


def _held_tile(layout: Layout, columns: int, size: int) -> Tile:
    """Return the tile for programs that hold the whole batch, with at least a sector of each; places have ``size``."""
    samples = _power_of_two(layout.shape[0])
    places, a_warp = (HELD_TILE_OF_BOXES, A_WARP_OF_BOXES) if layout.box_a_sample else (HELD_TILE, A_WARP)
    width = min(max(places // samples, SECTOR // size, 1), _power_of_two(columns))
    return Tile(width, samples, min(max(width * samples // a_warp, FEWEST_WARPS), MOST_WARPS))


def _reach(axes: Sequence[Axis]) -> int:
    """Return how far a sample reaches in memory at most, and no less than how many pixels it has."""
    farthest = sum((axis.length - 1) * max(axis.strides) for axis in axes)
    return max(farthest, math.prod(axis.length for axis in axes))


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()
