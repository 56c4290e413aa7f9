import io

import numpy as np
import pytest
from PIL import Image

from cutmix.data.reading import DamagedError, read, size_of


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, **({"format": "PNG"} | options))
    return {"bytes": file.getvalue(), "path": None}


def plain(mode, colour, size=(4, 2)):
    return Image.new(mode, size, colour)


def first_pixel(picture):
    return read(picture, 2, 4)[:, 0, 0].tolist()


def test_a_picture_becomes_channels_rows_columns():
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))

    assert np.array_equal(read(encoded(image), 2, 4), np.arange(24, dtype=np.uint8).reshape(2, 4, 3).transpose(2, 0, 1))


def sixteen_bit(value):
    return Image.fromarray(np.full((2, 4), value, dtype=np.uint16))


@pytest.mark.parametrize(
    ("picture", "rgb"),
    [
        (encoded(plain("L", 77)), [77, 77, 77]),
        (encoded(plain("1", 1)), [255, 255, 255]),
        (encoded(plain("RGBA", (200, 100, 0, 0))), [255, 255, 255]),
        (encoded(plain("RGBA", (200, 100, 0, 255))), [200, 100, 0]),
        (encoded(plain("LA", (0, 51))), [204, 204, 204]),
        (encoded(plain("RGB", (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE)), [9, 8, 7]),
        (encoded(plain("RGB", (9, 8, 7)), transparency=(9, 8, 7)), [255, 255, 255]),
        (encoded(sixteen_bit(0x8000)), [128, 128, 128]),
        (encoded(sixteen_bit(0xFFFF)), [255, 255, 255]),
        (encoded(plain("CMYK", (0, 255, 0, 0)), format="TIFF"), [255, 0, 255]),
        (encoded(plain("P", 0).convert("P"), format="GIF", transparency=0), [255, 255, 255]),
    ],
    ids=[
        "grey",
        "bits",
        "clear",
        "opaque",
        "grey alpha",
        "palette",
        "colour key",
        "16 bit",
        "16 bit full",
        "cmyk",
        "gif",
    ],
)
def test_every_kind_of_picture_becomes_rgb_on_white(picture, rgb):
    assert first_pixel(picture) == rgb


def test_a_photograph_in_cmyk_is_read_with_its_colours():
    assert first_pixel(encoded(plain("CMYK", (0, 255, 255, 0)), format="JPEG")) == pytest.approx([255, 0, 0], abs=3)


def test_a_picture_taken_sideways_is_shown_upright():
    rows = np.zeros((20, 40, 3), dtype=np.uint8)
    rows[:, :20] = 255  # its left half is white: turned clockwise, the upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = encoded(Image.fromarray(rows), format="JPEG", quality=95, exif=exif)

    assert size_of(sideways) == (40, 20)
    pixels = read(sideways, 40, 20)
    assert pixels[:, 5, [5, 15]].min() > 250
    assert pixels[:, 35, [5, 15]].max() < 5


def test_the_size_of_an_upright_picture_is_height_then_width():
    assert size_of(encoded(plain("RGB", "red", (7, 3)))) == (3, 7)


def test_a_wide_picture_is_resized_by_its_short_side_and_cropped_at_its_centre():
    rows = np.zeros((20, 80, 3), dtype=np.uint8)
    rows[:, 30:50] = (255, 0, 0)

    pixels = read(encoded(Image.fromarray(rows)), 10, 10)

    assert (pixels[0] > 200).all()
    assert (pixels[1:] < 30).all()


def test_a_picture_of_the_asked_size_keeps_its_pixels():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8))

    assert np.array_equal(read(encoded(image), 5, 9).transpose(1, 2, 0), np.asarray(image))


def test_a_large_photograph_keeps_what_detail_its_size_allows():
    stripes = np.tile(np.array([0, 255], np.uint8).repeat(4)[:, None, None], (16, 128, 3))
    large = Image.fromarray(stripes).resize((512, 512), Image.Resampling.NEAREST)

    pixels = read(encoded(large, format="JPEG", quality=95, subsampling=0), 128, 128)

    assert np.abs(pixels.transpose(1, 2, 0).astype(int) - stripes).mean() < 12


def cut_short(picture):
    return {"bytes": picture["bytes"][: len(picture["bytes"]) // 2], "path": None}


def with_flipped_bytes(picture):
    content = bytearray(picture["bytes"])
    content[60:90] = bytes(30)
    return {"bytes": bytes(content), "path": None}


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "picture",
    [
        {"bytes": b"", "path": None},
        {"bytes": b"this is text", "path": None},
        {"bytes": None, "path": None},
        {"bytes": None, "path": "no/such/file.png"},
        cut_short(encoded(NOISE)),
        cut_short(encoded(NOISE, format="JPEG")),
        cut_short(encoded(NOISE, format="WEBP")),
        cut_short(encoded(NOISE, format="TIFF")),
        with_flipped_bytes(encoded(NOISE)),
        encoded(Image.new("F", (4, 2), 0.5), format="TIFF"),
    ],
    ids=["empty", "text", "nothing", "no file", "png", "jpeg", "webp", "tiff", "corrupt", "floats"],
)
def test_whatever_is_wrong_with_a_picture_is_damage_and_one_line(picture):
    with pytest.raises(DamagedError) as caught:
        read(picture, 2, 4)

    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("limit", [3, 7])
def test_a_decompression_bomb_is_damage_where_pillow_warns_and_where_it_refuses(monkeypatch, limit):
    bomb = encoded(plain("RGB", "red"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)

    with pytest.raises(DamagedError, match="decompression bomb"):
        read(bomb, 2, 4)
