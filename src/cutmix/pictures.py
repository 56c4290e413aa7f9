"""Plans drawn as pictures: what was mixed, where, and what the labels weigh."""

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from jaxtyping import Float, UInt8
from torch import Tensor

from cutmix.backends import mix_images
from cutmix.plans import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels: TypeAlias = UInt8[Tensor, "batch 3 height width"]
Picture: TypeAlias = Float[Tensor, "3 height width"]

Line: TypeAlias = tuple[str, str]
"""A line of a caption, and its colour."""

OWN, PARTNER, INK, QUIET, FRAME = "#1c7ed6", "#e8590c", "#343a40", "#868e96", "#ced4da"
SIDE, GAP, MARGIN, LINE = 1.4, 0.28, 0.32, 0.145
"""The width of a picture, the space between two and around all, and the height of a line of text, in inches."""
LETTERS, LONGEST = 21, 34
"""How many letters a line of a caption takes, and how long a name may be before it is cut."""


def mixed_images(pixels: Pixels, names: Sequence[str], plan: Plan, path: Path, *, attribution: str = "") -> None:
    """Draw the batch as ``plan`` mixes it, four in a row: the boxes outlined, the weights of the labels below.

    Args:
        pixels: the batch before it is mixed.
        names: what each image shows.
        plan: what was drawn for this batch.
        path: where the PNG goes.
        attribution: a line that stands below all.
    """
    mixed, columns = mix_images(pixels.float() / 255, plan), min(4, len(pixels))
    captions = captions_of(names, plan)
    room = [deepest(captions[start : start + columns]) for start in range(0, len(captions), columns)]
    figure, places = page(plan, columns, room, attribution)
    for index, axes in enumerate(places):
        axes.set_visible(index < len(mixed))
        if index < len(mixed):
            show_mixed(axes, mixed[index], plan, index, captions[index])
    save(figure, path)


def steps_of_mixing(pixels: Pixels, names: Sequence[str], plan: Plan, path: Path, *, attribution: str = "") -> None:
    """Draw each image of a batch above its partner and above what ``plan`` makes of the two, a column each.

    Takes what ``mixed_images`` takes.
    """
    images, columns = pixels.float() / 255, len(pixels)
    mixed, captions = mix_images(images, plan), captions_of(names, plan)
    figure, places = page(plan, columns, [0, 0, deepest(captions)], attribution)
    for index, partner in enumerate(plan.partners.tolist()):
        own_axes, partner_axes, mixed_axes = places[index::columns]
        show(own_axes, images[index])
        show(partner_axes, images[partner])
        outline(partner_axes, plan, index)
        show_mixed(mixed_axes, mixed[index], plan, index, captions[index])
    for axes, title, colour in zip(places[::columns], ("own", "partner", "mixed"), (OWN, PARTNER, INK), strict=True):
        axes.set_ylabel(title, color=colour, fontsize=9)
    save(figure, path)


def captions_of(names: Sequence[str], plan: Plan) -> list[list[Line]]:
    """Return for each mixed image its own name and its partner's, with the weights of their labels."""
    both = zip(names, (names[partner] for partner in plan.partners.tolist()), plan.kept.tolist(), strict=True)
    return [[*lines_of(own, kept, OWN), *lines_of(partner, 1 - kept, PARTNER)] for own, partner, kept in both]


def lines_of(name: str, weight: float, colour: str) -> list[Line]:
    """Return a name with its weight, in short lines; nothing where it weighs nothing."""
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1].rstrip()}…"
    percent = round(100 * weight)
    return [(line, colour) for line in textwrap.wrap(f"{short}\u00a0{percent}\u00a0%", LETTERS)] if percent else []


def deepest(captions: Sequence[Sequence[Line]]) -> int:
    """Return how many lines the longest of the captions has."""
    return max(map(len, captions))


def page(plan: Plan, columns: int, room: Sequence[int], attribution: str) -> tuple["Figure", list["Axes"]]:
    """Return a figure with axes row by row, each with ``room`` for lines of text below, and the attribution."""
    from matplotlib.figure import Figure

    width = 2 * MARGIN + columns * SIDE + (columns - 1) * GAP
    footer = textwrap.wrap(attribution, int(20 * (width - 2 * MARGIN)))
    tall = SIDE * plan.size[0] / plan.size[1]
    height = MARGIN + sum(tall + GAP + lines * LINE for lines in room) + len(footer) * LINE + MARGIN / 2
    figure = Figure((width, height), dpi=160, facecolor="white")
    places, bottom = [], height - MARGIN
    for lines in room:
        bottom -= tall
        lefts = (MARGIN + column * (SIDE + GAP) for column in range(columns))
        places += [figure.add_axes((left / width, bottom / height, SIDE / width, tall / height)) for left in lefts]
        bottom -= GAP + lines * LINE
    text = figure.text(MARGIN / width, bottom / height, "\n".join(footer), color=QUIET, fontsize=6.5, va="top")
    text.set(linespacing=1.4, parse_math=False)
    return figure, places


def show(axes: "Axes", picture: Picture) -> None:
    """Show one image, its pixels as squares."""
    axes.imshow(picture.permute(1, 2, 0).numpy(force=True), interpolation="nearest")
    axes.set(xticks=(), yticks=())
    axes.spines[:].set(color=FRAME, linewidth=0.8)


def show_mixed(axes: "Axes", picture: Picture, plan: Plan, index: int, caption: Sequence[Line]) -> None:
    """Show one mixed image with its box, and below it a bar of the two weights and what they are the weights of."""
    show(axes, picture)
    outline(axes, plan, index)
    bar(axes, float(plan.kept[index]))
    for row, (text, colour) in enumerate(caption):
        below = (0, -72 * (0.12 + (row + 1) * LINE))
        line = axes.annotate(text, (0, 0), below, xycoords="axes fraction", textcoords="offset points")
        line.set(color=colour, fontsize=8, parse_math=False)


def outline(axes: "Axes", plan: Plan, index: int) -> None:
    """Outline the box of one image, on a white line so that it shows on any."""
    from matplotlib.patches import Rectangle

    (top, left), (bottom, right) = plan.boxes[index % len(plan.boxes)].tolist()
    if right > left and bottom > top:
        for colour, thickness in ("white", 3.2), (PARTNER, 1.6):
            box = axes.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, zorder=3))
            box.set(edgecolor=colour, linewidth=thickness, clip_on=False)


def bar(axes: "Axes", kept: float) -> None:
    """Draw how much of the label is one's own, and how much the partner's, as a bar below the image."""
    from matplotlib.patches import Rectangle

    tall = axes.bbox.width / axes.bbox.height
    for start, length, colour in (0.0, kept, OWN), (kept, 1.0 - kept, PARTNER):
        share = Rectangle((start, -0.08 * tall), length, 0.04 * tall, transform=axes.transAxes, clip_on=False)
        share.set(color=colour, linewidth=0)
        axes.add_patch(share)


def save(figure: "Figure", path: Path) -> None:
    """Write the figure as PNG."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(path)
