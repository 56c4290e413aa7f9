import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.boxes import (
    clip,
    empty,
    even,
    side_for_length,
    side_for_share,
    start_around_a_pixel,
    start_for_equal_pixels,
    volume,
    whole,
)
from strategies import sides, sizes

shares = st.floats(0.0, 1.0)


@given(sizes, st.data())
def test_the_volume_of_a_box_is_the_number_of_its_pixels(size, data):
    starts = [data.draw(st.integers(-15, 15)) for _ in size]
    stops = [start + data.draw(st.integers(0, 15)) for start in starts]

    counted = torch.zeros(size)
    counted[tuple(slice(max(start, 0), max(stop, 0)) for start, stop in zip(starts, stops, strict=True))] = 1
    assert volume(clip(starts, stops, size).numpy()).item() == counted.sum()


def test_a_box_over_the_edge_weighs_by_what_shows():
    box = clip(starts=[-2, 0], stops=[2, 4], size=(4, 6))

    assert box.tolist() == [[[0, 0], [2, 4]]]
    assert volume(box.numpy()).item() == 8


@given(sizes)
def test_the_whole_image_is_covered_and_the_empty_box_covers_nothing(size):
    assert volume(whole(size).numpy()).item() == np.prod(size)
    assert volume(empty(len(size)).numpy()).item() == 0


@given(shares, sides, st.integers(1, 3))
def test_a_side_never_exceeds_the_image_and_covers_at_most_the_share(share, size, axes):
    side = side_for_share(share, size, axes)

    assert 0 <= side <= size
    assert (side / size) ** axes <= share + 1e-9


@given(shares, sides)
def test_in_the_plane_a_side_is_the_authors_to_the_bit(share, size):
    assert side_for_share(share, size, 2) == int(size * np.sqrt(share))


@given(st.integers(0, 40))
def test_an_odd_side_loses_a_pixel_and_an_even_one_stays(side):
    assert even(side) == 2 * (side // 2)


@given(st.integers(1, 512), st.data())
def test_k_pixels_of_n_are_the_length_k_of_n(size, data):
    pixels = data.draw(st.integers(1, size))

    assert side_for_length(pixels / size, size) == pixels


EVENLY = [(step + 0.5) / 720 for step in range(720)]


@given(sides, st.integers(1, 12))
def test_equal_pixels_are_covered_by_equally_many_places(size, side):
    places = [start_for_equal_pixels(size, side, chance) for chance in [*EVENLY, 0.0, 1 - 2**-53]]

    covering = [sum(start <= pixel < start + side for start in range(1 - side, size)) for pixel in range(size)]
    assert set(covering) == {side}
    assert set(places) == set(range(1 - side, size))


@given(sides, st.integers(0, 12))
def test_a_box_around_a_pixel_has_its_centre_in_the_image_evenly(size, side):
    centres = [start_around_a_pixel(size, side, chance) + side // 2 for chance in EVENLY]

    assert all(abs(centres.count(pixel) - 720 / size) <= 1 for pixel in range(size))


@given(sides, st.integers(0, 12))
def test_no_chance_leads_past_the_last_place(size, side):
    assert start_around_a_pixel(size, side, 1 - 2**-53) + side // 2 == size - 1
    assert start_for_equal_pixels(size, side, 1 - 2**-53) == size - 1
