import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cutmix import pictures
from cutmix.algorithms.cutmix import CutMix
from cutmix.algorithms.mixup import MixUp
from cutmix.plans import Plan

NAMES = ("fox face", "rocket", "a name in so many words that no caption has room for it", "狐狸 $x_1$", "")


def batch(height=16, width=16):
    return torch.randint(256, (5, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def one_box(top, left, bottom, right, size=(16, 16), batch=5):
    box = torch.tensor([[[top, left], [bottom, right]]])
    return Plan(torch.arange(batch).roll(-1), box, torch.ones(1, dtype=torch.float64), size)


@pytest.mark.parametrize("draw", [pictures.mixed_images, pictures.steps_of_mixing])
@pytest.mark.parametrize("recipe", [CutMix(), MixUp(), CutMix(p=0.0)])
@pytest.mark.parametrize("size", [(16, 16), (12, 20), (20, 12)])
def test_a_png_is_written_for_any_plan_and_shape(tmp_path, draw, recipe, size):
    plan = recipe.draw((5, 3, *size), generator=torch.Generator().manual_seed(1))

    draw(batch(*size), NAMES, plan, tmp_path / "mixed.png", attribution="All by nobody. " * 20)

    with Image.open(tmp_path / "mixed.png") as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture).std() > 10


def test_a_caption_says_what_each_label_weighs():
    caption, *_ = pictures.captions_of(("fox face", "rocket"), one_box(0, 0, 7, 10, size=(10, 25), batch=2))

    assert caption == [("fox face\u00a072\u00a0%", pictures.OWN), ("rocket\u00a028\u00a0%", pictures.PARTNER)]


def test_what_weighs_nothing_is_not_named():
    captions = pictures.captions_of(NAMES[:2], one_box(4, 4, 4, 4, batch=2))

    assert captions == [[("fox face\u00a0100\u00a0%", pictures.OWN)], [("rocket\u00a0100\u00a0%", pictures.OWN)]]


def test_the_names_are_those_of_the_image_and_of_its_partner():
    captions = pictures.captions_of(("a", "b", "c"), one_box(0, 0, 8, 16, batch=3))

    assert [[line[0] for line, _ in caption] for caption in captions] == [["a", "b"], ["b", "c"], ["c", "a"]]


@pytest.mark.parametrize("name", [NAMES[2], "Supercalifragilisticexpialidocious" * 2, "two words"])
def test_a_long_name_is_cut_and_wrapped_but_its_weight_stays(name):
    lines = [text for text, _ in pictures.lines_of(name, 0.5, "black")]

    assert all(len(line) <= pictures.LETTERS for line in lines)
    assert len(lines) <= 3
    assert lines[-1].endswith("50\u00a0%")


def test_no_caption_reaches_the_picture_below_nor_the_one_beside(tmp_path):
    plan = one_box(0, 0, 8, 16)
    captions = pictures.captions_of(("NEGATIVE SQUARED LATIN CAPITAL LETTER",) * 5, plan)
    room = [pictures.deepest(captions[:4]), pictures.deepest(captions[4:])]
    figure, places = pictures.page(plan, 4, room, "by nobody")
    for index in range(5):
        pictures.show_mixed(places[index], torch.zeros(3, 16, 16), plan, index, captions[index])
    pictures.save(figure, tmp_path / "mixed.png")

    texts = [text.get_window_extent().padded(-2) for axes in places for text in axes.texts]
    frames = [axes.get_window_extent() for axes in places]
    footer = figure.texts[0].get_window_extent()
    assert not any(text.overlaps(frame) for text in texts for frame in frames)
    assert not any(text.overlaps(other) for text, other in itertools.combinations([*texts, footer], 2))
    assert footer.y0 >= 0


def test_the_mixed_pixels_and_the_outline_are_in_the_picture(tmp_path):
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    images[1, 2] = 255
    half = replace(one_box(4, 4, 12, 12, batch=2), opacity=torch.tensor([0.6], dtype=torch.float64))

    pictures.mixed_images(images, ("black", "blue"), half, tmp_path / "mixed.png")

    with Image.open(tmp_path / "mixed.png") as picture:
        seen = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    outline = tuple(int(pictures.PARTNER[place : place + 2], 16) for place in (1, 3, 5))
    assert {(0, 0, 0), (0, 0, 255), (0, 0, 153), (0, 0, 102), outline} <= seen


def test_pyplot_is_left_alone(tmp_path):
    import sys

    sys.modules.pop("matplotlib.pyplot", None)
    pictures.mixed_images(batch(), NAMES, one_box(0, 0, 8, 8), tmp_path / "mixed.png")

    assert "matplotlib.pyplot" not in sys.modules
