"""Which batches come: in the order of the user's own sampler, keyed by seed and epoch, exact from any batch on."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from cutmix.core.world import World
from cutmix.trainer.batches.order import batches_of
from cutmix.trainer.batches.sources import Use, limit_for

NUMBERS = TensorDataset(torch.arange(23))


class Counting(Dataset):
    def __init__(self):
        self.fetched = Counter()

    def __len__(self):
        return 23

    def __getitem__(self, index):
        self.fetched[index] += 1
        return index


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(10))

    def __len__(self):
        return 3  # a guess, as such lengths are


def ordered(source, seed=0, limit=None):
    return batches_of(source, "train_dataloader", Use(seed, limit))


class Rank(World):
    """One of several that do the same, for which the others need not be there."""

    def gathered(self, value):
        return [value] * self.size


def over(size, make, epoch=0, start=0, **use):
    """List for each rank its batches, with how many samples count."""
    ranks = [batches_of(make(), "train_dataloader", Use(0, world=Rank(rank, size), **use)) for rank in range(size)]
    with torch.random.fork_rng():
        return [[(listed(batch), share.here) for batch, share in batches.epoch(epoch, start)] for batches in ranks]


def numbers(batches, epoch=0, start=0):
    """List an epoch's batches; the default generator is the Trainer's to seed, so it is put back here."""
    with torch.random.fork_rng():
        return [listed(batch) for batch, _ in batches.epoch(epoch, start)]


def listed(batch):
    return torch.as_tensor(batch[0] if isinstance(batch, list) else batch).tolist()


def weighted(**settings):
    return WeightedRandomSampler(torch.arange(1.0, 24), 23, **settings)


class Around(Sampler):
    def __init__(self, sampler):
        self.sampler = sampler

    def __len__(self):
        return len(self.sampler)

    def __iter__(self):
        return iter(self.sampler)


class Drawing(Sampler):
    """Draws its order from ``rng``, torch's or numpy's."""

    def __init__(self, rng=None):
        self.rng = torch.Generator() if rng is None else rng

    def __len__(self):
        return 23

    def __iter__(self):
        if isinstance(self.rng, torch.Generator):
            return iter(torch.randperm(23, generator=self.rng).tolist())
        return iter(self.rng.permutation(23).tolist())


LOADERS = {
    "shuffle": lambda **more: DataLoader(NUMBERS, batch_size=4, shuffle=True, **more),
    "drop last": lambda **more: DataLoader(NUMBERS, batch_size=4, shuffle=True, drop_last=True, **more),
    "own generator": lambda **more: DataLoader(
        NUMBERS, 4, shuffle=True, generator=torch.Generator().manual_seed(9), **more
    ),
    "weighted": lambda **more: DataLoader(NUMBERS, batch_size=4, sampler=weighted(), **more),
    "weighted by its own": lambda **more: DataLoader(NUMBERS, 4, sampler=weighted(generator=torch.Generator()), **more),
    "batch sampler": lambda **more: DataLoader(
        NUMBERS, batch_sampler=BatchSampler(RandomSampler(NUMBERS), 5, drop_last=False), **more
    ),
    "a sampler around another": lambda **more: DataLoader(
        NUMBERS,
        batch_sampler=BatchSampler(Around(RandomSampler(NUMBERS, generator=torch.Generator())), 4, False),
        **more,
    ),
    "a generator by another name": lambda **more: DataLoader(NUMBERS, 4, sampler=Drawing(), **more),
    "no batches": lambda **more: DataLoader(NUMBERS, batch_size=None, shuffle=True, **more),
    "distributed": lambda **more: DataLoader(
        NUMBERS, 4, sampler=DistributedSampler(NUMBERS, num_replicas=2, rank=1), **more
    ),
}
every_loader = pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)


@every_loader
def test_an_epoch_repeats_and_another_epoch_or_seed_is_another_order(make):
    batches = ordered(make())

    assert numbers(batches) == numbers(batches) == numbers(ordered(make()))
    assert numbers(batches, epoch=1) != numbers(batches)
    assert make is LOADERS["distributed"] or numbers(ordered(make(), seed=1)) != numbers(batches)


@every_loader
def test_an_epoch_is_exact_from_any_batch_on(make):
    batches = ordered(make())
    whole = numbers(batches, epoch=3)

    assert batches.per_epoch == len(whole)
    assert all(numbers(ordered(make()), 3, start) == whole[start:] for start in range(len(whole) + 1))


@every_loader
@pytest.mark.parametrize("workers", [1, 2])
def test_the_order_does_not_depend_on_the_workers(make, workers):
    assert numbers(ordered(make(num_workers=workers)), epoch=2) == numbers(ordered(make()), epoch=2)


def test_a_sampler_that_cannot_be_seeded_is_asked_once_for_an_epoch():
    batches = ordered(DataLoader(NUMBERS, 4, sampler=Drawing(np.random.default_rng(5))))
    whole = numbers(batches)

    assert all(numbers(batches, start=start) == whole[start:] for start in range(1, len(whole) + 1))
    assert numbers(batches, epoch=1) != whole


def test_persistent_workers_follow_the_order_of_each_epoch():
    batches = ordered(LOADERS["shuffle"](num_workers=1, persistent_workers=True))
    usual = ordered(LOADERS["shuffle"]())

    assert [numbers(batches, epoch, 2) for epoch in range(3)] == [numbers(usual, epoch, 2) for epoch in range(3)]


def test_persistent_workers_of_the_user_s_are_not_taken_over():
    loader = LOADERS["shuffle"](num_workers=1, persistent_workers=True)
    assert len(list(loader)) == 6

    assert numbers(ordered(loader)) == numbers(ordered(LOADERS["shuffle"]()))


def test_shuffled_batches_are_the_data_each_once():
    assert sorted(n for batch in numbers(ordered(LOADERS["shuffle"]())) for n in batch) == list(range(23))


def test_batches_passed_over_are_not_fetched():
    data = Counting()

    numbers(ordered(DataLoader(data, batch_size=4, shuffle=True)), start=5)

    assert data.fetched.total() == 3


def test_the_loader_and_its_generator_are_left_as_they_were():
    own = torch.Generator().manual_seed(4)
    loader = DataLoader(NUMBERS, batch_size=4, shuffle=True, generator=own)
    before, state = dict(vars(loader)), own.get_state()

    numbers(ordered(loader))

    assert vars(loader) == before
    assert own.get_state().equal(state)


def test_a_subset_is_the_beginning_of_the_order():
    loader = LOADERS["shuffle"]()

    assert numbers(ordered(loader, limit=2)) == numbers(ordered(loader))[:2]
    assert ordered(loader, limit=2).per_epoch == 2
    assert ordered(loader, limit=200).per_epoch == 6


def test_a_list_and_a_function_are_walked_in_their_own_order():
    for source in ([1, 2, 3, 4], lambda: iter([1, 2, 3, 4])):
        batches = ordered(source, limit=3)

        assert numbers(batches) == numbers(batches, epoch=1) == [1, 2, 3]
        assert numbers(batches, start=1) == [2, 3]


def test_an_iterator_goes_on_where_it_stopped():
    batches = ordered(iter([1, 2, 3, 4]), limit=3)

    assert next(batches.epoch(0, 0)) == (1, None)
    assert numbers(batches, start=1) == [2, 3]


def test_the_length_of_a_stream_is_not_relied_on():
    batches = ordered(DataLoader(Stream(), batch_size=4))

    assert batches.per_epoch is None
    assert numbers(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert numbers(batches, start=1) == [[4, 5, 6, 7], [8, 9]]


class DrawingStream(IterableDataset):
    def __iter__(self):
        return (torch.rand(()) for _ in range(24))


class Shuffling:
    def __iter__(self):
        return iter(torch.randperm(24).split(4))


def drawing():
    while True:
        yield torch.rand(4)


GIVEN = {
    "stream": lambda: DataLoader(DrawingStream(), batch_size=4),
    "stream of workers": lambda: DataLoader(DrawingStream(), batch_size=4, num_workers=2),
    "stream with a generator": lambda: DataLoader(DrawingStream(), 4, num_workers=1, generator=torch.Generator()),
    "shuffling iterable": Shuffling,
    "drawing function": lambda: drawing,
}


@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
def test_what_is_drawn_on_the_way_is_exact_from_any_batch_on_whatever_the_steps_draw(make):
    def stepping(start):
        with torch.random.fork_rng():
            for batch, _ in ordered(make(), limit=5).epoch(2, start):
                yield batch.tolist()
                torch.manual_seed(start)  # what the steps leave behind

    whole = list(stepping(0))

    assert [list(stepping(start)) for start in range(5)] == [whole[start:] for start in range(5)]
    assert numbers(ordered(make(), limit=5), epoch=3) != whole


def test_chance_in_a_data_set_of_this_process_is_exact_from_any_batch_on():
    class Noise(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.rand(())

    batches = ordered(DataLoader(Noise(), batch_size=2))

    assert numbers(batches, start=3) == numbers(batches)[3:]


@pytest.mark.parametrize("workers", [0, 2])
def test_chance_in_a_data_set_is_keyed_by_the_epoch(workers):
    class Noise(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.rand(())

    batches = ordered(DataLoader(Noise(), batch_size=4, num_workers=workers))

    assert numbers(batches) == numbers(batches)
    assert numbers(batches, epoch=1) != numbers(batches)


@pytest.mark.parametrize("source", [NUMBERS, 3, Counting()])
def test_what_gives_no_batches_is_refused(source):
    with pytest.raises(TypeError, match=r"train_dataloader must give batches, got a \w+; pass a DataLoader"):
        ordered(source)


@pytest.mark.parametrize("batches", [0, -2])
def test_a_subset_of_no_batches_is_refused(batches):
    with pytest.raises(ValueError, match=rf"train_subset_num_batches must be at least 1, got {batches}; -1 takes all"):
        limit_for("train_subset_num_batches", batches)


def test_a_sequential_sampler_keeps_its_order():
    loader = DataLoader(NUMBERS, batch_size=10, sampler=SequentialSampler(NUMBERS))

    assert numbers(ordered(loader), epoch=5) == [list(range(10)), list(range(10, 20)), [20, 21, 22]]


dealt_loaders = {name: make for name, make in LOADERS.items() if name not in ("distributed", "no batches")}


@pytest.mark.parametrize("size", [2, 4, 5])
@pytest.mark.parametrize("make", dealt_loaders.values(), ids=dealt_loaders)
def test_ranks_deal_out_the_samples_of_one_process_each_once(make, size):
    one = [n for batch in numbers(ordered(make()), epoch=2) for n in batch]
    ranks = over(size, make, epoch=2)

    assert [n for step in zip(*ranks, strict=True) for batch, here in step if here for n in batch] == one
    assert len(ranks[0]) == batches_of(make(), "train_dataloader", Use(0, world=Rank(0, size))).per_epoch


def test_a_last_round_that_is_short_is_cut_and_indices_that_are_batches_are_not():
    assert [rank[-1][1] for rank in over(4, LOADERS["shuffle"])] == [2, 2, 3, 0]
    assert [rank[-1][1] for rank in over(4, lambda: [torch.arange(4)] * 3, measures=True)] == [1, 1, 1, 0]


@pytest.mark.parametrize("make", [*dealt_loaders.values(), LOADERS["distributed"]])
def test_ranks_are_exact_from_any_batch_on(make):
    whole = over(2, make, epoch=1)

    for start in range(len(whole[0]) + 1):
        assert over(2, make, epoch=1, start=start) == [batches[start:] for batches in whole]


@pytest.mark.parametrize("make", dealt_loaders.values(), ids=dealt_loaders)
def test_to_evaluate_ranks_take_the_batches_of_one_process_as_they_are(make):
    one = numbers(ordered(make()))
    ranks = over(4, make, measures=True)

    assert [batch for step in zip(*ranks, strict=True) for batch, here in step if here] == one


def test_a_subset_to_evaluate_on_is_that_of_one_process_and_to_train_on_counts_steps():
    make = LOADERS["shuffle"]

    assert sum(here > 0 for rank in over(2, make, measures=True, limit=3) for _, here in rank) == 3
    assert [len(rank) for rank in over(2, make, limit=2)] == [2, 2]


def test_a_list_of_batches_is_dealt_out_too():
    ranks = over(2, lambda: [torch.tensor([number]) for number in range(5)], measures=True)

    assert ranks == [[([0], 1), ([2], 1), ([4], 1)], [([1], 1), ([3], 1), ([4], 0)]]


def test_what_a_sampler_has_dealt_out_is_not_dealt_out_again():
    make = LOADERS["distributed"]

    assert [batch for batch, _ in over(2, make)[1]] == numbers(ordered(make()))


def test_orders_that_differ_by_rank_are_refused():
    class Alone(Rank):
        def counts(self, *numbers):
            return [numbers, (0,)]

    batches = batches_of(LOADERS["shuffle"](), "train_dataloader", Use(0, world=Alone(0, 2)))

    with (
        torch.random.fork_rng(),
        pytest.raises(ValueError, match="train_dataloader must be drawn in the same order on ev"),
    ):
        batches.epoch(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_chance_in_a_data_set_is_that_of_one_process(workers):
    class Noise(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.rand(())

    def make():
        return DataLoader(Noise(), batch_size=2, num_workers=workers)

    one = numbers(ordered(make()))

    assert [[batch for batch, _ in rank] for rank in over(2, make)] == [one[::2], one[1::2]]
