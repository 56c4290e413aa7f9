"""What torch's own samplers draw is drawn at once, the same to the bit, and dealt out as any other order is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from cutmix.core.world import World
from cutmix.trainer.batches.order import batches_of
from cutmix.trainer.batches.sources import Use
from cutmix.trainer.batches.steps import rounds_of

SIZES = st.integers(1, 5)
LIMITS = st.none() | st.integers(1, 12)


class Known(BatchSampler):
    """Torch's own by another name, of which nobody knows what it draws: it is asked for each batch."""


class Rank(World):
    """One of several that do the same, for which the others need not be there."""

    def gathered(self, value):
        return [value] * self.size

    def counts(self, *numbers):
        return [numbers] * self.size


@st.composite
def samplers(draw):
    """Return functions that make the same sampler, of torch's own class and of another."""
    length, batch, last = draw(st.integers(1, 70)), draw(st.integers(1, 9)), draw(st.booleans())
    seed, is_random = draw(st.none() | st.integers(0, 2**40)), draw(st.booleans())

    def make(kind):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        inner = RandomSampler(range(length), generator=generator) if is_random else SequentialSampler(range(length))
        return kind(inner, batch, last)

    return make


@given(samplers(), SIZES, LIMITS, st.integers(0, 2**40))
def test_batches_are_those_of_the_sampler_to_the_bit(make, size, limit, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rounds, rest = rounds_of(make(BatchSampler), size, limit)
        drawn = [*rounds.reshape(-1, rounds.shape[-1]).tolist(), *rest]
        torch.manual_seed(seed)
        usual = list(make(BatchSampler))[:limit]

    assert drawn == usual
    assert len(rounds) >= len(usual) // size - 1


@given(samplers(), SIZES, LIMITS, st.integers(0, 2**40), st.booleans())
def test_ranks_are_dealt_what_they_are_dealt_of_any_other_sampler(make, size, limit, seed, measures):
    def dealt(kind, rank):
        loader = DataLoader(range(70), batch_sampler=make(kind))
        batches = batches_of(loader, "data", Use(seed, limit, Rank(rank, size), measures=measures))
        batches.epoch(3)
        steps = batches._steps
        return [(steps.piece(number), steps.share(number)) for number in range(len(steps))]

    with torch.random.fork_rng(devices=[]):
        for rank in range(size):
            assert dealt(BatchSampler, rank) == dealt(Known, rank)


@pytest.mark.parametrize(
    "other", [{"length": 65}, {"length": 80}, {"shuffle": False}, {"batch_size": 8}, {"limit": 3}, {"seed": 1}]
)
def test_ranks_that_draw_another_order_are_found_out(other):
    told = []

    class Telling(World):
        def counts(self, *numbers):
            told.append(numbers)
            return [numbers]

    def draw(length=64, batch_size=4, limit=None, seed=0, *, shuffle=True):
        loader = DataLoader(range(length), batch_size, shuffle=shuffle)
        batches_of(loader, "data", Use(seed, limit, Telling(0, 2))).epoch(0)

    with torch.random.fork_rng(devices=[]):
        draw()
        draw()
        draw(**other)

    assert told[0] == told[1] != told[2]


def test_an_index_is_a_number_of_pythons():
    rounds, rest = rounds_of(BatchSampler(RandomSampler(range(7)), 2, drop_last=False), 2, None)
    loader = DataLoader(range(7), 2, shuffle=True)

    assert isinstance(rounds, np.ndarray)
    assert all(type(index) is int for batch in rest for index in batch)
    with torch.random.fork_rng(devices=[]):
        batches = batches_of(loader, "data", Use(0))
        batches.epoch(0)
        assert all(type(index) is int for number in range(4) for index in batches.samples(number)())

        find, samples = batches.samples(3), batches.samples(3)()
        batches.epoch(1)
        assert find() == samples


OTHERS = {
    "with replacement": RandomSampler(range(9), replacement=True),
    "of fewer": RandomSampler(range(9), num_samples=4),
    "of more": RandomSampler(range(9), num_samples=12),
    "a list": [4, 2, 0, 1],
}


@pytest.mark.parametrize("sampler", OTHERS.values(), ids=OTHERS)
def test_another_sampler_is_asked_for_each_batch(sampler):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        rounds, batches = rounds_of(BatchSampler(sampler, 2, drop_last=False), 1, None)
        drawn = list(batches)
        torch.manual_seed(1)

        assert len(rounds) == 0
        assert drawn == list(BatchSampler(sampler, 2, drop_last=False))


def test_batches_that_a_data_set_reads_as_one_count_once():
    whole = DataLoader(torch.arange(9), sampler=BatchSampler(SequentialSampler(range(9)), 4, False), batch_size=None)
    batches = batches_of(whole, "data", Use(0, world=Rank(1, 2)))

    with torch.random.fork_rng(devices=[]):
        assert [batch.tolist() for batch, _ in batches.epoch(0)] == [[4, 5, 6, 7], [8]]
    assert batches._steps.piece(0) == ([4, 5, 6, 7], 1, 1)
