"""What the Trainer's own machinery costs a step, over a bare loop on a batch so small that only overhead shows.

Run ``python benchmarks/loop_overhead.py``; it writes ``benchmarks/results/loop_overhead.json``. Each trial runs every
arm once, in turn, so that what slows the machine slows all of them; an overhead is the median over the trials of the
difference between two arms of one trial. The Trainer with CutMix is held against a bare loop that calls the same
CutMix, for what the Trainer's machinery costs, and both against the bare loop without it.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from time import perf_counter

import torch
from torch import nn
from torch.nn import functional as F

from cutmix.algorithms import CutMix
from cutmix.keys import generator_for
from cutmix.losses import mixed
from cutmix.trainer import Trainer
from recording import record, spread

TRIALS, STEPS = 25, 400
OVERHEADS = (
    ("trainer", "bare", 100.0),
    ("trainer, bar and file", "bare", 100.0),
    ("trainer, CutMix", "bare, CutMix", 200.0),
    ("trainer, CutMix, bar and file", "bare, CutMix", 200.0),
    ("bare, CutMix", "bare", None),
    ("trainer, CutMix", "bare", None),
)
"""What is held against what, and the most microseconds a step that it may cost."""
BATCHES = [(torch.rand(2, 3, 8, 8), torch.tensor([0, 1])) for _ in range(STEPS)]


def network() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model with hardly any work in it, and its optimizer."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    return model, torch.optim.SGD(model.parameters(), lr=0.01)


def bare(algorithm: CutMix | None) -> Callable[[], None]:
    """Return the loop that everybody writes by hand, with the mixer called in it where there is one."""
    model, optimizer = network()
    loss_fn: Callable[..., torch.Tensor] = F.cross_entropy if algorithm is None else mixed(F.cross_entropy)

    def run() -> None:
        for step, (images, target) in enumerate(BATCHES):
            if algorithm is not None:
                images, target = algorithm(images, target, generator=generator_for(0, step))  # noqa: PLW2901
            optimizer.zero_grad(set_to_none=True)
            loss_fn(model(images), target).backward()
            optimizer.step()

    return run


def trained(folder: Path | None, algorithm: CutMix | None) -> Callable[[], None]:
    """Return as many steps by the Trainer; with a ``folder`` it shows its bar and writes its files."""
    model, optimizer = network()
    shown = folder is not None
    trainer = Trainer(
        model, BATCHES, algorithms=algorithm, optimizers=optimizer, device="cpu", progress_bar=shown, save_folder=folder
    )
    return lambda: trainer.fit(duration=f"{STEPS}ba")


def seconds(run: Callable[[], None]) -> float:
    """Return how long ``run`` takes."""
    start = perf_counter()
    run()
    return perf_counter() - start


def measure(folder: Path) -> dict[str, list[float]]:
    """Return microseconds a step, trial by trial, of each arm."""
    arms = {
        "bare": bare(None),
        "bare, CutMix": bare(CutMix()),
        "trainer": trained(None, None),
        "trainer, bar and file": trained(folder / "plain", None),
        "trainer, CutMix": trained(None, CutMix()),
        "trainer, CutMix, bar and file": trained(folder / "cutmix", CutMix()),
    }
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for trial in range(TRIALS + 2):
        for arm, run in arms.items():
            taken = seconds(run) / STEPS * 1e6
            if trial >= 2:  # noqa: PLR2004 - the first two warm up
                times[arm].append(taken)
    return times


def main() -> None:
    """Measure, print and write down."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        times = measure(Path(folder))
    overheads = [
        {
            "arm": arm,
            "over": base,
            **spread([own - other for own, other in zip(times[arm], times[base], strict=True)]),
            "must": must,
        }
        for arm, base, must in OVERHEADS
    ]
    record(
        "loop_overhead",
        {
            "what": "microseconds a step: linear model, batch 2 of 3x8x8, float32, one thread",
            "trials": TRIALS,
            "steps_per_trial": STEPS,
            "bare_step": spread(times["bare"]),
            "overheads": overheads,
        },
    )


if __name__ == "__main__":
    main()
