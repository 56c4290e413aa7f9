"""What grows with the samples, the ranks, the parameters and the steps: the order, the plans, the checkpoint, the log.

Run ``python benchmarks/scale.py``; it writes ``benchmarks/results/scale.json``. With ``--quick`` small sizes are run
once and nothing is written. Each order is drawn in a process of its own, as one of the ranks that it is drawn for
would, since memory is told by how much the process grows; the sizes take turns.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler

from cutmix.algorithms import CutMix
from cutmix.core.world import World
from cutmix.keys import generator_for
from cutmix.trainer import Trainer
from cutmix.trainer.batches.order import batches_of
from cutmix.trainer.batches.sources import Use
from cutmix.trainer.checkpoints.checkpoint import name_for, read, write
from cutmix.trainer.checkpoints.snapshot import capture, restore
from recording import record, spread
from timing import Pace, measure

SAMPLES, RANKS, BATCH = (10**5, 10**6, 10**7), 1000, 256
OTHER = "Trainer, 1,000 ranks, another sampler"
WAYS = {"Trainer, 1 rank": 1, "Trainer, 1,000 ranks": RANKS, OTHER: RANKS, "DistributedSampler, 1,000 ranks": RANKS}
TRIALS, PARAMETERS, STEPS = 3, 10**7, 200
QUICK_SAMPLES, QUICK_TRIALS, QUICK_PARAMETERS, QUICK_STEPS = (10**4,), 2, 10**5, 10


def main() -> None:
    """Measure, print, and write down."""
    if "--order" in sys.argv:
        print(json.dumps(drawn(sys.argv[-2], int(sys.argv[-1]))))
        return
    quick = "--quick" in sys.argv
    samples, trials, parameters, steps = (
        (QUICK_SAMPLES, QUICK_TRIALS, QUICK_PARAMETERS, QUICK_STEPS) if quick else (SAMPLES, TRIALS, PARAMETERS, STEPS)
    )
    result = {
        "what": f"what one rank spends, at {BATCH} samples a step and rank",
        "trials": trials,
        "order": orders(samples, trials),
        "plan": plans(trials),
        "checkpoint": checkpoint(parameters, trials),
        "log": log(steps),
    }
    if quick:
        print("small sizes, of which nothing is promised")
    else:
        record("scale", result)


def orders(sizes: tuple[int, ...], trials: int) -> list[dict[str, Any]]:
    """Return what it takes one rank to draw the order of an epoch, and to hold it."""
    told: dict[tuple[str, int], list[dict[str, float]]] = {(way, size): [] for way in WAYS for size in sizes}
    for (way, size), ones in [*told.items()] * trials:
        command = [sys.executable, __file__, "--order", way, str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        ones.append(json.loads(done.stdout))
    return [
        {"way": way, "samples": size, **{figure: spread([one[figure] for one in ones], 4) for figure in ones[0]}}
        for (way, size), ones in told.items()
    ]


class _Another(RandomSampler):
    """Of which nobody knows that it draws as torch's own does."""


def drawn(way: str, samples: int) -> dict[str, float]:
    """Draw the order of an epoch, and return seconds and the megabytes that the process grew by, and kept."""
    world, data = World(size=WAYS[way]), range(samples)
    if way.startswith("Trainer"):
        sampler = _Another(data) if way == OTHER else RandomSampler(data)
        loader = DataLoader(data, BATCH, sampler=sampler)  # ty: ignore[invalid-argument-type]
        draw = batches_of(loader, "train_dataloader", Use(seed=0, world=world)).epoch
    else:
        draw = partial(_listed, DistributedSampler(data, world.size, world.rank))  # ty: ignore[invalid-argument-type]
    before, start = resident(), perf_counter()
    held = draw(0)
    seconds, after = perf_counter() - start, resident()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    del held
    return {"seconds": seconds, "peak_megabytes": max(0.0, peak - before), "held_megabytes": max(0.0, after - before)}


def _listed(sampler: DistributedSampler[int], epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def resident() -> float:
    """Return the megabytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def plans(trials: int) -> dict[str, Any]:
    """Return the microseconds of a plan by its key, whatever the step and the rank."""
    at_once, mix, shape = 50, CutMix(), (BATCH, 3, 224, 224)

    def draw(step: int, rank: int) -> None:
        for number in range(at_once):
            mix.draw(shape, generator=generator_for(0, step + number, rank))

    arms = {"step 0, rank 0": partial(draw, 0, 0), "step 10^9, rank 999": partial(draw, 10**9, RANKS - 1)}
    times = measure(arms, Pace(trials=max(trials, 3), seconds_a_trial=0.05))
    return {arm: spread([1e6 * seconds / at_once for seconds in taken.seconds]) for arm, taken in times.items()}


def checkpoint(parameters: int, trials: int) -> dict[str, Any]:
    """Return the bytes of a checkpoint with AdamW, and the seconds to write it and to go on from it."""
    side = round(parameters**0.5)
    model = nn.Linear(side, side, bias=False)
    batch = torch.ones(1, side), torch.zeros(1, dtype=torch.long)
    trainer = Trainer(
        model, [batch], optimizers=torch.optim.AdamW(model.parameters()), progress_bar=False, device="cpu"
    )
    trainer.fit("1ba")
    times: dict[str, list[float]] = {"write": [], "read": []}
    for _ in range(trials):
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / name_for(trainer.state.timestamp)
            start = perf_counter()
            write(folder, capture(trainer.state))
            written = perf_counter()
            restore(read(folder), trainer.state)
            times["write"].append(written - start)
            times["read"].append(perf_counter() - written)
            size = sum(file.stat().st_size for file in folder.iterdir())
    return {
        "parameters": side**2,
        "bytes_per_parameter": round(size / side**2, 3),
        **{
            f"{name}_nanoseconds_per_parameter": spread([1e9 * taken / side**2 for taken in times[name]])
            for name in times
        },
    }


def log(steps: int) -> dict[str, Any]:
    """Return the bytes that a step leaves in the files of a run."""
    batches = [(torch.rand(8, 3, 8, 8), torch.arange(8)) for _ in range(steps)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8))
    with tempfile.TemporaryDirectory() as folder:
        with Trainer(
            model, batches, algorithms=CutMix(), save_folder=folder, progress_bar=False, device="cpu"
        ) as trainer:
            trainer.fit()
        sizes = {file.name: file.stat().st_size / steps for file in islice(Path(folder).glob("*.jsonl"), 2)}
    return {"steps": steps, "bytes_per_step": {name: round(size, 1) for name, size in sizes.items()}}


if __name__ == "__main__":
    main()
