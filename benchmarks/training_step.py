"""What CutMix adds to a training step of a small network on small pictures: ResNet-8, 32 of 3x32x32, in the Trainer.

Run ``python benchmarks/training_step.py``; it writes ``benchmarks/results/training_step.json``. With ``--quick`` a
few trials are run and nothing is written. Each trial trains as many steps with CutMix as without, by turns.
"""

from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from cutmix.algorithms import CutMix
from cutmix.models import resnet8
from cutmix.trainer import Trainer
from recording import spread
from timing import Arm, Pace, measure, report

STEPS, BATCH, CLASSES = 20, 32, 10


def training(algorithm: CutMix | None) -> Arm:
    """Return a call that trains for some steps."""
    samples = STEPS * BATCH
    dataset = TensorDataset(torch.randn(samples, 3, 32, 32), torch.randint(CLASSES, (samples,)))
    loader = DataLoader(dataset, BATCH, shuffle=True)
    trainer = Trainer(resnet8(CLASSES), loader, algorithms=algorithm, device="cpu", progress_bar=False)
    return partial(trainer.fit, duration=f"{STEPS}ba")


def measured(pace: Pace) -> dict[str, Any]:
    """Return what a step takes, and the share of it that is CutMix."""
    times = measure({"without": training(None), "with": training(CutMix())}, pace)
    pairs = list(zip(times["with"].seconds, times["without"].seconds, strict=True))
    return {
        "what": "milliseconds of a step of ResNet-8 on 32 of 3x32x32, and how much of it is CutMix",
        "threads": torch.get_num_threads(),
        "steps_per_trial": STEPS * times["with"].draws,
        **{arm: spread([1e3 * seconds / STEPS for seconds in taken.seconds]) for arm, taken in times.items()},
        "microseconds_of_cutmix": spread([1e6 * (mixed - plain) / STEPS for mixed, plain in pairs]),
        "percent_of_a_step": spread([100.0 * (mixed - plain) / mixed for mixed, plain in pairs]),
        "musts": [],
    }


if __name__ == "__main__":
    report("training_step", measured)
