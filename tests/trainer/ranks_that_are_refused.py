"""What every rank runs: starts that something on rank 0 alone stands in the way of; prints how each rank was refused."""

import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from cutmix.core import Callback
from cutmix.trainer import Trainer
from cutmix.trainer.checkpoints.lock import locked

torch.set_num_threads(1)
BATCHES = [(torch.rand(4, 6, generator=torch.Generator().manual_seed(0)), torch.arange(4) % 3)] * 4


class Busy(Callback):
    """Measures and saves while it trains."""

    def __init__(self):
        self.trainer = None

    def epoch_end(self, state, logger):
        self.trainer.eval()
        self.trainer.save_checkpoint()


def trained(folder, **settings):
    torch.manual_seed(0)
    busy = Busy()
    quiet = {"device": "cpu", "progress_bar": False, "seed": 0, "save_folder": folder, "callbacks": busy}
    with Trainer(nn.Linear(6, 3), BATCHES, BATCHES, **quiet, **settings) as busy.trainer:
        busy.trainer.fit()
        return busy.trainer.state.world


def refusal(folder, world, **settings):
    """Return what a rank is told, when all have been told something."""
    try:
        trained(folder, **settings)
    except (ValueError, OSError) as error:
        return [type(error).__name__, str(error), world.gathered(world.rank)]


def written(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix == ".jsonl"}


def main(parent):
    run = parent / "run"
    world = trained(run)
    before = written(run)
    told = {"another run's file": refusal(run, world)}
    with locked(run) if world.rank == 0 else nullcontext():
        told["held"] = refusal(run, world, autoresume=True, max_duration="2ep")
    if world.rank == 0:
        assert written(run) == before
        (parent / "file").touch()
        shutil.copytree(run, parent / "cut")
        (parent / "cut" / "metrics.jsonl").write_text("")
    world.barrier()
    told["no folder"] = refusal(parent / "file" / "run", world)
    told["a log that is cut"] = refusal(parent / "cut", world, autoresume=True, max_duration="2ep")
    assert refusal(run, world, autoresume=True, max_duration="2ep") is None
    told["what no other rank knows"] = strange(world)
    return told


class StrangeError(ValueError):
    """It cannot be made again from its text."""

    def __init__(self, rank, why):
        super().__init__(f"{why} on {rank}")


def strange(world):
    """Return how each rank hears of an error of rank 1's that others could not read."""

    def act():
        if world.rank == 1:
            raise StrangeError(1, "a log of another kind")

    try:
        world.agreed(act)
    except (StrangeError, RuntimeError) as error:
        return [type(error).__name__, str(error), world.gathered(world.rank)]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
