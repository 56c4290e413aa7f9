"""From an encoded picture to an image of three channels and a given size."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from PIL import Image

Array: TypeAlias = UInt8[np.ndarray, "3 height width"]


class Encoded(TypedDict):
    """A picture as ``datasets`` holds it undecoded: the bytes of a file, or where the file lies."""

    bytes: bytes | None
    path: str | None


class DamagedError(Exception):
    """A picture cannot be read; the message says why."""


def read(encoded: Encoded, height: int, width: int) -> Array:
    """Return the picture upright, in RGB, resized to cover ``height`` and ``width`` and cropped at its centre.

    Raises:
        DamagedError: when it cannot be read.
    """
    from PIL import ImageOps

    with opened(encoded) as image:
        # A JPEG much larger than needed is decoded at a half, a quarter or an eighth of its size.
        image.draft("RGB", (2 * width, 2 * height))
        upright = in_rgb(ImageOps.exif_transpose(image))
        return np.asarray(ImageOps.fit(upright, (width, height))).transpose(2, 0, 1)


def size_of(encoded: Encoded) -> tuple[int, int]:
    """Return the height and width of the picture as it is shown, without decoding it.

    Raises:
        DamagedError: when it cannot be read.
    """
    from PIL import ExifTags

    with opened(encoded) as image:
        on_its_side = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # noqa: PLR2004 - 5 to 8 in the standard
        width, height = reversed(image.size) if on_its_side else image.size
        return height, width


@contextmanager
def opened(encoded: Encoded) -> Generator["Image.Image"]:
    """Open the picture; whatever goes wrong while it is open is damage, and a decompression bomb is too."""
    from PIL import Image, UnidentifiedImageError

    file = encoded["path"] if encoded["bytes"] is None else BytesIO(encoded["bytes"])
    if file is None:
        raise DamagedError("there is neither a file's content nor its path")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file) as image:
                yield image
        except UnidentifiedImageError as error:
            raise DamagedError("it is no image of a known format") from error
        except Exception as error:
            # Decoders raise whatever they meet: OSError, SyntaxError, struct.error, zlib.error, IndexError ...
            raise DamagedError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def in_rgb(image: "Image.Image") -> "Image.Image":
    """Return ``image`` in RGB: on white where it is transparent, 16 bits of grey brought down to 8."""
    from PIL import Image

    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floats, whose range is unknown")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
