"""A keyed data set draws by the key of a sample's place, from all three generators, and puts them back."""

import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

from cutmix.core import Keyed
from cutmix.core.keyed import Place, Seeding, drawing_by
from cutmix.trainer.batches.order import batches_of
from cutmix.trainer.batches.sources import Use


class Noise(Dataset):
    """Tells what it draws, in one number after the other."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.tensor([index, torch.rand(()).item(), np.random.rand(), random.random()])  # noqa: NPY002


class NoiseByBatch(Noise):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


class NumpyNoise(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.tensor(np.random.rand())  # noqa: NPY002


def drawn(data, epoch=0, start=0, seed=0, **settings):
    """Return an epoch's samples, drawn from whatever the generators were at."""
    with torch.random.fork_rng():
        loader = DataLoader(data, **{"batch_size": 3, "shuffle": True, **settings})
        torch.manual_seed(random.randrange(2**32))
        return torch.cat([batch for batch, _ in batches_of(loader, "train_dataloader", Use(seed)).epoch(epoch, start)])


@pytest.mark.parametrize("settings", [{}, {"num_workers": 2}, {"num_workers": 1, "persistent_workers": True}])
@pytest.mark.parametrize("data", [Noise, NoiseByBatch])
def test_samples_are_the_same_from_any_batch_on_whatever_the_workers(data, settings):
    whole = drawn(Keyed(data()), epoch=2)

    assert drawn(Keyed(data()), epoch=2, **settings).equal(whole)
    assert drawn(Keyed(data()), epoch=2, start=2, **settings).equal(whole[6:])


def test_samples_are_the_same_in_batches_of_any_size_and_one_by_one():
    whole = drawn(Keyed(Noise()))

    assert drawn(Keyed(Noise()), batch_size=7).equal(whole)
    assert drawn(Keyed(Noise()), batch_size=None).view(10, 4).equal(whole)


def test_each_place_epoch_and_seed_draws_something_else():
    columns = torch.stack([drawn(Keyed(Noise()), **key)[:, 1:] for key in ({}, {"epoch": 1}, {"seed": 1})])

    assert columns.flatten().unique().numel() == 90


def test_a_sample_that_comes_twice_in_an_epoch_is_drawn_in_two_ways():
    sampler = WeightedRandomSampler(torch.ones(2), 8)
    samples = drawn(Keyed(Noise()), shuffle=None, sampler=sampler)

    assert samples[:, 0].unique().numel() == 2
    assert samples[:, 1].unique().numel() == 8


def test_the_generators_are_left_as_they_were_found():
    generators = [lambda: torch.rand(()).item(), np.random.rand, random.random]
    data = Keyed(Noise())
    with torch.random.fork_rng(), drawing_by(5):
        expected = [draw() for draw in generators]
    with torch.random.fork_rng(), drawing_by(5):
        data[Place(3, key=1, number=2)]

        assert [draw() for draw in generators] == expected


def test_read_by_a_plain_index_it_is_the_data_set_itself():
    assert Keyed(TensorDataset(torch.arange(5)))[3] == (torch.tensor(3),)
    assert len(Keyed(Subset(Noise(), [1, 2]))) == 2


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


def test_a_stream_is_refused():
    with pytest.raises(TypeError, match="dataset must be read by index, got a Stream; key what a stream draws where"):
        Keyed(Stream())


@pytest.mark.parametrize("workers", [0, 2])
def test_what_torch_draws_in_a_data_set_needs_no_key_to_be_the_same_from_any_batch_on(workers):
    class TorchNoise(NumpyNoise):
        def __getitem__(self, index):
            return torch.rand(())

    whole = drawn(TorchNoise())

    assert drawn(TorchNoise(), num_workers=workers).equal(whole)
    assert drawn(TorchNoise(), start=1, num_workers=workers).equal(whole[3:])


def test_in_workers_nothing_needs_a_key_to_be_the_same_from_any_batch_on():
    whole = drawn(NumpyNoise(), num_workers=1)

    assert drawn(NumpyNoise(), start=1, num_workers=2).equal(whole[3:])


class Named(NumpyNoise):
    name = "ours"

    def __getitem__(self, index):
        return self.name


def test_a_worker_sees_the_data_set_by_its_names_and_can_set_them():
    loader = DataLoader(Named(), batch_size=4, collate_fn=tuple, num_workers=1, worker_init_fn=rename)
    with torch.random.fork_rng():
        batches = [batch for batch, _ in batches_of(loader, "train_dataloader", Use(0)).epoch(0)]

    assert batches == [("ours, renamed",) * 4] * 2


def rename(_):
    data = torch.utils.data.get_worker_info().dataset
    data.name = data.name + ", renamed"


def test_a_data_set_is_sent_to_workers_that_are_spawned():
    data = pickle.loads(pickle.dumps(Seeding(TensorDataset(torch.arange(5)))))

    assert data[7, 3] == (torch.tensor(3),)
