"""Batches are mixed in place where nobody else can hold their memory, and nowhere else."""

import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data._utils.collate import default_collate_fn_map

from cutmix import CutMix
from cutmix.core import Algorithm, Event
from cutmix.trainer import Trainer
from cutmix.trainer.batches.sources import makes_new_memory

IMAGES, LABELS = torch.rand(8, 3, 6, 4), torch.arange(8) % 3


class Addresses(Algorithm):
    """Notes where the images lie, before they are mixed and when they are trained on."""

    def __init__(self):
        self.seen = []

    def match(self, event, state):
        return event in (Event.AFTER_DATALOADER, Event.BATCH_START)

    def apply(self, event, state, logger):
        self.seen.append(state.batch[0].data_ptr())


def addresses(batches):
    """Train on ``batches``, and return where each batch lay before and after it was mixed."""
    model, seen = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), Addresses()
    Trainer(model, batches, algorithms=[seen, CutMix()], device="cpu", progress_bar=False, seed=0).fit()
    return list(zip(seen.seen[::2], seen.seen[1::2], strict=True))


@pytest.mark.parametrize("settings", [{}, {"shuffle": True, "drop_last": True}, {"batch_sampler": [[0, 1], [2, 3]]}])
def test_what_a_loader_has_stacked_is_mixed_in_place(settings):
    dataset = TensorDataset(IMAGES.clone(), LABELS)
    loader = DataLoader(dataset, **(settings if "batch_sampler" in settings else {"batch_size": 4, **settings}))

    assert all(before == after for before, after in addresses(loader))
    assert torch.equal(dataset.tensors[0], IMAGES)


@pytest.mark.parametrize(
    "batches",
    [
        lambda images: [(images[:4], LABELS[:4]), (images[4:], LABELS[4:])],
        lambda images: DataLoader([(images[:4], LABELS[:4])], batch_size=None),
        lambda images: DataLoader(
            range(8), batch_size=4, collate_fn=lambda ids: (images[ids[0] : ids[-1] + 1], LABELS[ids])
        ),
    ],
    ids=["a list", "a loader of whole batches", "a collate_fn that slices"],
)
def test_a_data_set_in_memory_is_never_written_to(batches):
    images = IMAGES.clone()

    assert all(before != after for before, after in addresses(batches(images)))
    assert torch.equal(images, IMAGES)


def test_a_way_to_collate_of_the_users_own_may_keep_the_memory(monkeypatch):
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4)
    assert makes_new_memory(loader)

    monkeypatch.setitem(default_collate_fn_map, torch.nn.Parameter, lambda batch, **_: batch[0])
    assert not makes_new_memory(loader)


def test_a_part_lets_go_of_outputs_that_are_no_scores_of_classes_before_the_next_comes():
    images, masks = torch.rand(8, 3, 6, 4), torch.randint(2, (8, 6, 4))
    counts, held = [], []

    class Net(nn.Conv2d):
        def forward(self, batch):
            outputs = super().forward(batch)
            held.append(weakref.ref(outputs))
            counts.append(sum(output() is not None for output in held[:-1]))
            return outputs

    Trainer(
        Net(3, 2, 1),
        [(images, masks)],
        loss_fn=F.cross_entropy,
        device_train_microbatch_size=2,
        device="cpu",
        progress_bar=False,
    ).fit()

    assert counts == [0, 1, 1, 1]  # the last ones are state.outputs
