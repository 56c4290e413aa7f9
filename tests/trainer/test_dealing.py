"""Batches are dealt out to ranks in rounds: all samples once, in the order of one process, something for each rank."""

from itertools import chain
from operator import mul

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutmix.trainer.batches.dealing import Piece, Share, cut, dealt, repeated

SIZES = st.sampled_from([1, 2, 3, 4, 8])
LISTS = st.lists(st.lists(st.integers(), min_size=1, max_size=9), max_size=12)


def numbered(batches):
    numbers = iter(range(1000))
    return [[next(numbers) for _ in batch] for batch in batches]


@given(LISTS, SIZES)
def test_every_sample_comes_once_and_counts_once_in_the_order_of_one_process(batches, size):
    batches = numbered(batches)
    pieces = [piece for pieces in dealt(batches, size, cut, len) for piece in pieces]

    assert [sample for piece in pieces if piece.samples for sample in piece.entry] == list(chain(*batches))
    assert all(piece.entry[0] == piece.first for piece in pieces)
    assert all(piece.samples in (0, len(piece.entry)) for piece in pieces)


@given(LISTS, SIZES)
def test_each_round_has_something_for_every_rank_and_only_the_last_is_cut(batches, size):
    rounds = list(dealt(numbered(batches), size, cut, len))

    assert all(len(pieces) == size and all(piece.entry for piece in pieces) for pieces in rounds)
    assert [piece.entry for pieces in rounds[:-1] for piece in pieces] == numbered(batches)[: size * (len(rounds) - 1)]


@given(LISTS, SIZES)
def test_a_rank_goes_without_samples_only_where_cutting_would_leave_one_alone(batches, size):
    for pieces in dealt(numbered(batches), size, cut, len):
        if any(piece.samples == 0 for piece in pieces):
            assert all(piece.samples < 4 for piece in pieces)


@given(LISTS, SIZES)
def test_no_sample_is_left_alone_by_a_cut(batches, size):
    alone = sum(len(batch) == 1 for batch in batches)
    pieces = [piece for pieces in dealt(numbered(batches), size, cut, len) for piece in pieces]

    assert sum(piece.samples == 1 for piece in pieces) == alone


def test_the_parts_of_a_batch_are_as_even_as_can_be():
    assert [piece.samples for piece in cut([Piece(range(11), 0, 11)], 4)] == [2, 3, 3, 3]
    assert [piece.samples for piece in cut([Piece(range(8), 0, 8), Piece(range(4), 8, 4)], 4)] == [2, 3, 3, 4]


def test_indices_of_any_kind_are_cut_into_lists():
    assert [piece.entry for piece in cut([Piece(range(4), 0, 4)], 2)] == [[0, 1], [2, 3]]


def test_for_measuring_no_batch_is_cut():
    pieces = [Piece("a", 4, 5), Piece("b", 9, 5)]

    assert repeated(pieces, 4) == [*pieces, Piece("a", 4, 0), Piece("a", 4, 0)]


def test_losses_are_weighed_so_that_the_mean_over_ranks_is_the_mean_over_samples():
    counts = [[3, 2], [4], [1]]
    samples = [sum(own) for own in counts]
    weights = [Share.of(rank, samples).weights(own, 3, parts=2) for rank, own in enumerate(counts)]

    assert weights == [[0.9, 0.6], [1.2, 0.0], [0.3, 0.0]]
    mean_of_ranks = sum(map(mul, chain(*weights), [1.0, 2.0, 4.0, 0.0, 8.0, 0.0])) / 3
    assert mean_of_ranks == pytest.approx((3 * 1 + 2 * 2 + 4 * 4 + 1 * 8) / 10)


def test_even_batches_weigh_one_exactly():
    assert Share.of(1, [7, 7, 7]).weights([7], 3, parts=1) == [1.0]


def test_a_rank_that_only_keeps_step_weighs_nothing():
    assert Share.of(1, [3, 0]).weights([3], 2, parts=1) == [0.0]


def test_a_batch_of_other_samples_than_the_order_tells_is_refused():
    with pytest.raises(ValueError, match="a sample for each index where several processes train, got 8 for 4; let"):
        Share.of(0, [4, 4]).weights([8], 2, parts=1)
