"""A data set in memory is read batch by batch where torch alone has a say in its batches, to the bytes that torch makes."""

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from cutmix.trainer.batches.order import batches_of
from cutmix.trainer.batches.sources import Use, rows_of

NUMBERS = TensorDataset(torch.arange(23))


class Subclass(TensorDataset):
    """One that may read its tensors in a way of its own."""


def in_memory():
    images = torch.rand(23, 3, 4, 5)
    return images, images.half().flatten(1), torch.arange(23, dtype=torch.int32), torch.arange(23.0) > 7


def epoch(loader, start=0):
    with torch.random.fork_rng():
        return [batch for batch, _ in batches_of(loader, "train_dataloader", Use(0)).epoch(2, start)]


@pytest.mark.parametrize(
    "settings", [{}, {"shuffle": True}, {"drop_last": True}, {"sampler": RandomSampler(range(23), replacement=True)}]
)
@pytest.mark.parametrize("start", [0, 3])
def test_tensors_in_memory_are_read_batch_by_batch_to_the_bytes_that_torch_puts_together(settings, start, monkeypatch):
    tensors = in_memory()
    expected = epoch(DataLoader(Subclass(*tensors), 4, **settings), start)
    monkeypatch.setattr(TensorDataset, "__getitem__", None)
    found = epoch(DataLoader(TensorDataset(*tensors), 4, **settings), start)

    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert type(one) is type(other) is list
        for ours, torchs in zip(one, other, strict=True):
            assert ours.dtype == torchs.dtype
            assert ours.stride() == torchs.stride()
            assert torch.equal(ours, torchs)


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset": Subclass(torch.arange(23))},
        {"collate_fn": lambda samples: torch.stack([sample[0] for sample in samples])},
        {"sampler": [-1, 3, 5]},
        {"batch_sampler": [[-1, 3], [5]]},
        {"batch_sampler": BatchSampler([-1, 3, 5], 2, drop_last=False)},
        {"num_workers": 1},
        {"pin_memory": True},
        {"dataset": TensorDataset(torch.nn.Parameter(torch.arange(23.0)))},
        {"dataset": TensorDataset(torch.arange(23).to(torch.uint16))},
        {"dataset": TensorDataset(torch.rand(23, 2, 4, 5, 3).movedim(-1, 2))},
    ],
)
def test_what_is_not_torchs_own_way_is_read_sample_by_sample(settings):
    assert rows_of(DataLoader(NUMBERS)) is not None
    assert rows_of(DataLoader(**{"dataset": NUMBERS, **settings})) is None


def test_a_loader_of_the_users_own_finds_its_data_set():
    class Own(DataLoader):
        def __iter__(self):
            assert self.dataset is NUMBERS
            return super().__iter__()

    assert epoch(Own(NUMBERS, 4))[0][0].tolist() == [0, 1, 2, 3]
