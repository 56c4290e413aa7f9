"""One process of a job of ``scaling.py``: ``scaling_arms.py overhead|training TRIALS STEPS FILE``; rank 0 writes FILE.

All arms train the same model in the same way, with the same CutMix, each with the data as its users hand it in.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import count
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, TypeAlias

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from cutmix.algorithms import CutMix
from cutmix.core import Callback
from cutmix.keys import generator_for
from cutmix.losses import mixed
from cutmix.models import resnet8
from cutmix.trainer import Trainer
from cutmix.trainer.processes import join

RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
CLASSES, WARM_UP = 10, 2
Arm: TypeAlias = Callable[[], None]


class Counting(Callback):
    """A callback as people write them: it does something small at a few moments."""

    def __init__(self) -> None:
        self.steps = self.samples = self.epochs = 0

    def batch_start(self, state: Any, logger: Any) -> None:  # noqa: ANN401, ARG002
        self.samples = state.timestamp.sample

    def batch_end(self, state: Any, logger: Any) -> None:  # noqa: ANN401, ARG002
        self.steps += 1

    def epoch_end(self, state: Any, logger: Any) -> None:  # noqa: ANN401, ARG002
        self.epochs += 1


def pictures(steps: int, batch: int, side: int) -> TensorDataset:
    """Return as many as make ``steps`` batches on each rank."""
    samples = steps * batch * WORLD
    return TensorDataset(torch.randn(samples, 3, side, side), torch.randint(CLASSES, (samples,)))


def linear() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model with hardly any work in it, and its optimizer."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    return model, torch.optim.SGD(model.parameters(), lr=0.01)


def loop(
    model: Callable[..., Tensor],
    optimizer: torch.optim.Optimizer,
    loader: Iterable[list[Tensor]],
    backward: Callable[[Tensor], object],
) -> Arm:
    """Return an epoch of the loop that everybody writes by hand, which calls CutMix."""
    mix, loss_fn, steps = CutMix(), mixed(F.cross_entropy), count()

    def run() -> None:
        for images, labels in loader:
            blended, target = mix(images, labels, generator=generator_for(0, next(steps), RANK))
            optimizer.zero_grad(set_to_none=True)
            backward(loss_fn(model(blended), target))
            optimizer.step()

    return run


def bare(data: TensorDataset, batch: int) -> Arm:
    """Plain torch: DDP where there are several processes."""
    model, optimizer = linear()
    if WORLD == 1:
        return loop(model, optimizer, DataLoader(data, batch, shuffle=True), Tensor.backward)
    loader = DataLoader(data, batch, sampler=DistributedSampler(data))
    return loop(DistributedDataParallel(model), optimizer, loader, Tensor.backward)


def trainer(data: TensorDataset, batch: int) -> Arm:
    """Ours, with three callbacks."""
    model, optimizer = linear()
    callbacks = [Counting() for _ in range(3)]
    loader = DataLoader(data, batch, shuffle=True)
    made = Trainer(
        model, loader, algorithms=CutMix(), optimizers=optimizer, callbacks=callbacks, device="cpu", progress_bar=False
    )
    return lambda: made.fit(duration="1ep")


def fabric(data: TensorDataset, batch: int) -> Arm:
    """Lightning Fabric."""
    from lightning_fabric import Fabric

    made = Fabric(accelerator="cpu", devices=WORLD, strategy="ddp" if WORLD > 1 else "auto")
    made.launch()
    model, optimizer = made.setup(*linear())
    return loop(model, optimizer, made.setup_dataloaders(DataLoader(data, batch, shuffle=True)), made.backward)


def accelerate(data: TensorDataset, batch: int) -> Arm:
    """Accelerate, of Hugging Face."""
    from accelerate import Accelerator

    made = Accelerator(cpu=True)
    model, optimizer, loader = made.prepare(*linear(), DataLoader(data, batch, shuffle=True))
    return loop(model, optimizer, loader, made.backward)


PEERS = {"Fabric": ("lightning-fabric", fabric), "Accelerate": ("accelerate", accelerate)}


def overhead(trials: int, steps: int) -> dict[str, Any]:
    """Return microseconds a step, trial by trial, of each arm that can be run here: by the clock, and at work."""
    data = pictures(steps, batch=2, side=8)
    arms, peers = {"bare": bare(data, 2), "Trainer": trainer(data, 2)}, {}
    for name, (package, make) in PEERS.items():
        try:
            arms[name] = make(data, 2)
            peers[name] = {"package": package, "version": version(package)}
        except ImportError as error:
            peers[name] = {"package": package, "left_out": f"{type(error).__name__}: {error}"}
    times, works = ({arm: list[float]() for arm in arms} for _ in range(2))
    for trial in range(trials + WARM_UP):
        for arm, run in arms.items():
            begun = thread_time()
            taken = seconds(run)
            worked = thread_time() - begun
            if trial >= WARM_UP:
                times[arm].append(taken / steps * 1e6)
                works[arm].append(worked / steps * 1e6)
    return {"times": times, "works": works, "peers": peers}


def training(trials: int, steps: int) -> dict[str, Any]:
    """Return how many images a second all processes train on."""
    batch = 32
    loader = DataLoader(pictures(steps, batch, side=32), batch, shuffle=True)
    made = Trainer(resnet8(CLASSES), loader, algorithms=CutMix(), device="cpu", progress_bar=False)
    times = [seconds(lambda: made.fit(duration="1ep")) for _ in range(trials + 1)][1:]
    return {"images_per_second": [steps * batch * WORLD / taken for taken in times]}


def seconds(run: Arm) -> float:
    """Return how long ``run`` takes from when all ranks are there until all are done."""
    if WORLD > 1:
        distributed.barrier()
    start = perf_counter()
    run()
    if WORLD > 1:
        distributed.barrier()
    return perf_counter() - start


def main(what: str, trials: int, steps: int, told: Path) -> None:
    """Measure, and let rank 0 tell."""
    torch.manual_seed(0)
    join()  # which leaves in good order too, where gloo's threads would abort the process
    result = {"overhead": overhead, "training": training}[what](trials, steps)
    if RANK == 0:
        told.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
