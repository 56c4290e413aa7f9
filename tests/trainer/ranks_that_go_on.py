"""What every rank runs: one run that goes through, and one that is resumed three times, each time in another way."""

import sys
import warnings
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from cutmix.algorithms import CutMix
from cutmix.core import Logger
from cutmix.trainer import EMA, Trainer
from cutmix.trainer.checkpoints.checkpoint import read, write
from cutmix.trainer.checkpoints.snapshot import capture, restore

torch.set_num_threads(1)
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
DATA = TensorDataset(
    torch.rand(24, 3, 6, 5, generator=torch.Generator().manual_seed(1)),
    torch.randint(8, (24,), generator=torch.Generator().manual_seed(2)),
)


class Rows(Logger):
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append(metrics)


def run(parallelism, rows=None, init=0):
    with torch.random.fork_rng():
        torch.manual_seed(init)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.1), nn.Flatten(), nn.Linear(72, 8), nn.Linear(8, 8)
        )
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    optimizers = [optim.NAdam(weights, lr=0.01), optim.SGD(others, lr=0.05, momentum=0.9)]
    return Trainer(
        model,
        DataLoader(DATA, batch_size=3, shuffle=True),
        None,
        "9ep",
        CutMix(p=0.5),
        optimizers=optimizers,
        schedulers=optim.lr_scheduler.MultiStepLR(optimizers[1], [2, 5]),
        step_schedulers_every_batch=True,
        callbacks=EMA(decay=0.9),
        metrics={"accuracy": MulticlassAccuracy(8)},
        loggers=[] if rows is None else rows,
        parallelism=parallelism,
        device="cpu",
        progress_bar=False,
        seed=7,
    )


def saved(trainer, steps, folder):
    """Train on, write what has come of it, and return its digest."""
    trainer.fit(f"{steps}ba")
    content = capture(trainer.state)
    if trainer.state.rank == 0:
        write(folder, content)
    trainer.state.world.barrier()
    return [sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.safetensors"))]


def main(folder):
    whole, again = Rows(), Rows()
    straight = saved(run("ddp", whole), 7, folder / "straight" / "ep1-ba7")
    saved(run("fsdp"), 1, folder / "ep0-ba1")
    for parallelism, start, steps, target in (
        ("ddp", "ep0-ba1", 2, "ep0-ba3"),
        ("fsdp", "ep0-ba3", 2, "ep1-ba5"),
        ("ddp", "ep1-ba5", 2, "ep1-ba7"),
    ):
        trainer = run(parallelism, again, init=1)
        restore(read(folder / start), trainer.state)
        resumed = saved(trainer, steps, folder / target)
    assert resumed == straight
    figures = [
        [row for row in rows.rows if "train/accuracy" in row and "train/loss" not in row] for rows in (whole, again)
    ]
    assert len(figures[0]) == (1 if trainer.state.rank == 0 else 0)
    assert figures[0] == figures[1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    print("the same")
