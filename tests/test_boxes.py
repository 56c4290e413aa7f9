import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.boxes import (
    around_pixels,
    empty,
    extent,
    fixed,
    for_equal_pixels,
    of_the_paper,
    one_of_the_paper,
    sides_between,
    sides_for_length,
    sides_for_shares,
    volume,
    wholly_inside,
)
from strategies import boxes_in, sides, sizes

shares = st.floats(0.0, 1.0)
chance = st.floats(0.0, 1.0, exclude_max=True)
EVENLY = np.array([[(step + 0.5) / 720 for step in range(720)]])
LAST = np.array([[1 - 2**-53]])


def all_of(side, count):
    return np.full((1, count), float(side))


@given(st.data(), sizes)
def test_the_volume_of_a_box_is_the_number_of_its_pixels(data, size):
    box = data.draw(boxes_in(size))

    counted = torch.zeros(size)
    counted[tuple(map(slice, *box[0].tolist()))] = 1
    assert volume(box).item() == counted.sum()


def test_a_box_over_the_edge_weighs_by_what_shows():
    box = around_pixels(np.array([[4.0], [4.0]]), np.array([[0.0], [0.5]]), extent((4, 6)))

    assert box.tolist() == [[[0, 1], [2, 5]]]
    assert volume(box).item() == 8


@given(sizes, st.integers(1, 3))
def test_an_empty_box_covers_nothing_and_a_fixed_one_is_what_it_is(size, count):
    assert volume(empty(len(size), count)).tolist() == [0] * count
    assert volume(fixed([0] * len(size), size, count)).tolist() == [np.prod(size)] * count


@given(st.lists(shares, min_size=1, max_size=4), sizes)
def test_a_side_never_exceeds_the_image_and_covers_at_most_the_share(drawn, size):
    found = sides_for_shares(np.array(drawn), extent(size))

    assert found.shape == (len(size), len(drawn))
    assert ((found >= 0) & (found <= extent(size))).all()
    assert ((found / extent(size)).prod(0) <= np.array(drawn) + 1e-9).all()


@given(shares, st.tuples(sides, sides))
def test_in_the_plane_a_side_is_the_authors_to_the_bit(share, size):
    assert sides_for_shares(np.array([share]), extent(size)).tolist() == [[int(side * np.sqrt(share))] for side in size]


@given(shares, st.tuples(chance, chance), st.tuples(sides, sides))
def test_a_box_of_the_paper_is_the_authors_to_the_bit(share, chances, size):
    cut = [int(side * np.sqrt(share)) for side in size]
    centres = [int(side * chance) for side, chance in zip(size, chances, strict=True)]
    edges = [
        np.clip([centre - side // 2, centre + side // 2], 0, end).tolist()
        for centre, side, end in zip(centres, cut, size, strict=True)
    ]

    box = of_the_paper(np.array([share]), np.array(chances)[:, None], extent(size))
    assert box.tolist() == [list(map(list, zip(*edges, strict=True)))]


@given(shares, st.tuples(chance, chance), st.tuples(sides, sides))
def test_one_box_in_plain_numbers_is_the_one_of_arrays(share, chances, size):
    one = one_of_the_paper(share, chances, size)
    assert torch.equal(one, of_the_paper(np.array([share]), np.array(chances)[:, None], extent(size)))
    assert one.dtype == torch.int64


@given(st.integers(1, 512), st.data())
def test_k_pixels_of_n_are_the_length_k_of_n(size, data):
    pixels = data.draw(st.integers(1, size))

    assert sides_for_length(pixels / size, extent((size,)), 2).tolist() == [[pixels, pixels]]


@given(sides, st.integers(1, 12))
def test_equal_pixels_are_covered_equally_often(size, side):
    boxes = for_equal_pixels(all_of(side, 720), EVENLY, extent((size,)))[:, :, 0]

    covered = [((boxes[:, 0] <= pixel) & (pixel < boxes[:, 1])).sum().item() for pixel in range(size)]
    assert (boxes[:, 0] < boxes[:, 1]).all()
    assert max(covered) - min(covered) <= 2
    assert abs(np.mean(covered) - 720 * side / (size + side - 1)) <= 2


@given(sides, st.integers(0, 12))
def test_a_box_around_a_pixel_has_its_centre_in_the_image_evenly(size, side):
    boxes = around_pixels(all_of(side, 720), EVENLY, extent((size,)))[:, :, 0]

    before, behind = side // 2, side - side // 2
    centres = [pixel for pixel in range(size) for chance in EVENLY[0] if int(size * chance.item()) == pixel]
    assert boxes.tolist() == [[max(0, centre - before), min(size, centre + behind)] for centre in centres]
    assert max(centres.count(pixel) for pixel in range(size)) - 720 // size <= 1


@given(sides, st.integers(1, 12))
def test_no_chance_leads_past_the_last_place(size, side):
    assert for_equal_pixels(all_of(side, 1), LAST, extent((size,))).flatten().tolist() == [size - 1, size]
    assert around_pixels(all_of(2 * side, 1), LAST, extent((size,))).flatten().tolist() == [
        max(0, size - 1 - side),
        size,
    ]


fractions = st.tuples(st.floats(0, 1), st.floats(0.001, 1)).map(sorted)


@given(fractions, sizes, st.data())
def test_a_box_between_two_fractions_lies_inside_and_has_sides_between_them(fractions, size, data):
    low, high = fractions
    chances = np.array([data.draw(st.lists(chance, min_size=len(size), max_size=len(size))) for _ in range(2)])
    sides = sides_between(low, high, extent(size), chances[0, :, None])
    starts, stops = wholly_inside(sides, chances[1, :, None], extent(size))[0].numpy()

    smallest, largest = (sides_for_length(length, extent(size), 1) for length in (low, high))
    assert ((smallest <= sides) & (sides <= largest)).all()
    assert (stops - starts == sides[:, 0]).all()
    assert (starts >= 0).all()
    assert (stops <= size).all()


def test_two_fractions_that_are_one_cut_what_a_length_cuts():
    chances = np.linspace(0, 1, 22)[None, :-1]

    assert (sides_between(0.3, 0.3, extent((10,)), chances) == sides_for_length(0.3, extent((10,)), 21)).all()
