import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.data.splitting import apportion, divide


@st.composite
def divisions(draw):
    leave = draw(st.integers(0, 1))
    counts = draw(st.lists(st.integers(1 + leave, 40), min_size=2, max_size=12))
    return counts, draw(st.integers(len(counts), sum(counts) - leave * len(counts))), leave


@given(divisions())
def test_shares_add_up_and_no_class_is_left_out_on_either_side(division):
    counts, size, leave = division

    shares = apportion(counts, size, leave)

    assert sum(shares) == size
    assert all(1 <= share <= count - leave for share, count in zip(shares, counts, strict=True))


def test_places_go_by_the_size_of_a_class():
    assert apportion([100, 200, 300], 60) == [10, 20, 30]


def test_a_fifth_of_even_classes_is_a_fifth_of_each():
    assert apportion([100] * 10, 200, leave=1) == [20] * 10


@given(divisions(), st.integers(0, 1000))
def test_a_division_puts_each_position_on_one_side_in_order(division, seed):
    counts, size, leave = division
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))[torch.randperm(sum(counts))]

    part, rest = divide(labels, size, torch.Generator().manual_seed(seed), leave)

    assert sorted(part + rest) == list(range(sum(counts)))
    assert part == sorted(part)
    assert rest == sorted(rest)
    assert torch.bincount(labels[part]).tolist() == apportion(counts, size, leave)


def test_the_generator_decides_who_is_chosen():
    labels = torch.arange(2).repeat(50)

    def chosen(seed):
        return divide(labels, 20, torch.Generator().manual_seed(seed))[0]

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
