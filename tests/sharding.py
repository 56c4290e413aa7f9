"""What two processes do in the tests of sharded checkpoints: each function returns what a rank has come to.

They share the folder that FOLDER names, and leave there what they have written.
"""

import hashlib
import os
import signal
from pathlib import Path

import torch
from torch import nn, optim
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, TensorDataset

from cutmix.algorithms import CutMix
from cutmix.core import Callback
from cutmix.trainer import EMA, Trainer
from cutmix.trainer.checkpoints import checkpoint
from cutmix.trainer.checkpoints.checkpoint import checkpoints, read
from cutmix.trainer.checkpoints.snapshot import capture
from cutmix.trainer.processes import full

torch.set_num_threads(1)
DATA = TensorDataset(
    torch.rand(24, 3, 6, 5, generator=torch.Generator().manual_seed(1)),
    torch.randint(6, (24,), generator=torch.Generator().manual_seed(2)),
)
STEPS = 6  # an epoch and a half


class Net(nn.Module):
    """Has tied and frozen parameters, buffers, and shards that are uneven, or empty on one rank of two."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.frozen = nn.Linear(5, 6).requires_grad_(False)
        self.first = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.first.weight
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, images):
        features = self.norm(self.convolution(images)).relu().mean((2, 3))
        return self.tied(self.first(self.frozen(features)).relu()) * self.gain


def net(init=0):
    with torch.random.fork_rng():
        torch.manual_seed(init)
        return Net()


class Stop(Callback):
    """Ends a run as a fault would, in the midst of it."""

    def __init__(self, step):
        self.step = step

    def batch_start(self, state, logger):
        if state.timestamp.batch == self.step:
            raise ConnectionAbortedError


def folder(name=""):
    return Path(os.environ["FOLDER"], name)


def run(name, parallelism="fsdp", stop=None, init=0, **settings):
    """Train, or go on with, the run in that folder; stop where a fault would."""
    model = net(init)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    optimizers = [optim.AdamW(matrices, lr=0.01), optim.SGD(others, lr=0.05, momentum=0.9)]
    defaults = {"save_interval": "1ba", "save_sharded": parallelism == "fsdp", "autoresume": True}
    trainer = Trainer(
        model,
        DataLoader(DATA, batch_size=3, shuffle=True),
        None,
        f"{STEPS}ba",
        CutMix(p=0.5),
        optimizers=optimizers,
        schedulers=optim.lr_scheduler.MultiStepLR(optimizers[1], [2, 5]),
        step_schedulers_every_batch=True,
        callbacks=[EMA(decay=0.9), *([] if stop is None else [Stop(stop)])],
        parallelism=parallelism,
        save_folder=folder(name),
        device="cpu",
        progress_bar=False,
        seed=7,
        **{**defaults, **settings},
    )
    try:
        trainer.fit()
    except ConnectionAbortedError:
        assert trainer.state.timestamp.batch == stop
    trainer.close()
    return trainer


def digest(trainer, name):
    """What a run comes to: weights, optimizers, the average, what else a checkpoint has, and the log."""
    content, sha = capture(trainer.state), hashlib.sha256((folder(name) / "metrics.jsonl").read_bytes())
    if trainer.state.rank:
        return None
    for tensors in content.tensors.values():
        for key, tensor in sorted(tensors.items()):
            sha.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    content.values["parts"].pop("Timings/0", None)
    sha.update(repr(content.values).encode())
    return sha.hexdigest()


def straight(rank):
    return digest(run("straight"), "straight")


def replicated(rank):
    return digest(run("replicated", "ddp"), "replicated")


def resumed(rank):
    for stop in (2, 5):
        run("resumed", stop=stop)
    return digest(run("resumed", init=1), "resumed")


def from_shards_to_ddp(rank):
    run("to ddp", stop=3)
    return digest(run("to ddp", "ddp", init=1), "to ddp")


def from_ddp_to_shards(rank):
    run("to shards", "ddp", stop=3)
    return digest(run("to shards", init=1), "to shards")


def from_whole_to_shards(rank):
    run("from whole", stop=3, save_sharded=False)
    return digest(run("from whole", init=1), "from whole")
