"""Runs to capture in the middle: a network with what is easily lost, a digest of all that was trained, the round trip."""

import hashlib

import torch
from torch import nn

from cutmix.trainer import Trainer
from cutmix.trainer.checkpoints.checkpoint import read, write
from cutmix.trainer.checkpoints.snapshot import capture, restore

STEPS = 6
IMAGES = torch.rand(STEPS, 4, 3, 6, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(8, (STEPS, 4), generator=torch.Generator().manual_seed(2))


class Net(nn.Module):
    """Has a convolution in channels_last, buffers, tied, frozen and unused parameters, and rows that seldom train."""

    def __init__(self, *, sparse=False):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.frozen = nn.Linear(6, 8).requires_grad_(False)
        self.first = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.first.weight
        self.rows = nn.Embedding(8, 8, sparse=sparse)
        self.scale = nn.Parameter(torch.rand(()))
        self.unused = nn.Parameter(torch.rand(3, 2))
        self.register_buffer("noise", torch.zeros(2), persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        features = self.norm(self.convolution(images)).relu().mean((2, 3))
        features = self.frozen(features) * self.scale
        rows = self.rows((images.float().sum((1, 2, 3)) * 10).long() % 8)
        return self.tied(self.first(features + rows).relu())


def net(init=0, dtype=torch.float32, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(init)
        return Net(**settings).to(dtype)


def batches(dtype=torch.float32):
    return list(zip(IMAGES.to(dtype), LABELS, strict=True))


def trainer(model, optimizers, schedulers=None, *, eval_dataloader=None, **settings):
    data = batches(next(model.parameters()).dtype)
    defaults = {"device": "cpu", "progress_bar": False, "seed": 7, "step_schedulers_every_batch": True}
    return Trainer(
        model, data, eval_dataloader, 1, optimizers=optimizers, schedulers=schedulers, **{**defaults, **settings}
    )


def digest(state):
    """Tell weights, optimizers and schedulers apart from any others, to the bit, strides and devices included."""
    parts = [state.model.state_dict(), *(part.state_dict() for part in (*state.optimizers, *state.schedulers))]
    return hashlib.sha256(b"\n".join(_lines(parts))).hexdigest()


def _lines(tree):
    match tree:
        case torch.Tensor():
            yield repr((tree.dtype, tree.shape, tree.stride(), str(tree.device))).encode()
            yield tree.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        case dict():
            for key, part in tree.items():
                yield repr(key).encode()
                yield from _lines(part)
        case list() | tuple():
            for part in tree:
                yield from _lines(part)
        case _:
            yield repr(tree).encode()


def resumed(make, at, folder):
    """Train with ``make(0)`` for ``at`` steps, save, and go on with what ``make(1)`` made afresh; return both ends."""
    whole, first, again = make(0), make(0), make(1)
    whole.fit(f"{STEPS}ba")
    first.fit(f"{at}ba")
    path = folder / f"ep0-ba{at}"
    write(path, capture(first.state))
    restore(read(path), again.state)
    again.fit(f"{STEPS - at}ba")
    return whole.state, again.state
