"""The run under test: small, with everything in it that a resume may get wrong.

Under a launcher: ``cutmix launch -n 2 -m reliability.job FOLDER GATE``.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cutmix import CutMix
from cutmix.algorithms import linear
from cutmix.core import Callback
from cutmix.trainer import Trainer

if TYPE_CHECKING:
    from cutmix.core import Logger, State

EPOCHS, STEPS_AN_EPOCH, BATCH = 4, 12, 4
INTERVAL = 5
KEPT = 3
CLASSES = 3
STALL_SECONDS = 60.0


@final
@dataclass(frozen=True, slots=True)
class Job:
    """A run in ``folder``, which goes on where it stands."""

    folder: Path
    ranks: int = 1
    gate: int | None = None  # after so many steps it waits to be let on
    stalled_step: int | None = None  # which takes a minute
    bad_sample: int | None = None  # whose picture is not a number

    def train(self) -> None:
        """Train to the end, and write the digest of what came of it."""
        trainer = self.trainer(autoresume=True)
        trainer.fit()
        if trainer.state.world.rank == 0:
            self.digest_file.write_text(digest(trainer.state, self.metrics))

    def made(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return a network with its first weights, and its optimizer."""
        torch.set_num_threads(1)
        torch.manual_seed(0)
        model = network()
        return model, torch.optim.AdamW(model.parameters(), lr=0.01)

    def trainer(self, trained: tuple[nn.Module, torch.optim.Optimizer] | None = None, **settings: Any) -> Trainer:  # noqa: ANN401 - the Trainer's
        """Return the Trainer, with more ``settings``."""
        model, optimizer = trained or self.made()
        return Trainer(
            model,
            DataLoader(Pictures(self.bad_sample), BATCH, shuffle=True, num_workers=2, multiprocessing_context="fork"),
            DataLoader(Pictures(None), BATCH),
            EPOCHS,
            CutMix(alpha=linear(1.0, 0.5), p=linear(0.5, 1.0)),
            optimizers=optimizer,
            schedulers=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS),
            callbacks=Progress(self),
            device="cpu",
            seed=7,
            progress_bar=False,
            save_folder=self.folder / "run",
            save_interval=f"{INTERVAL}ba",
            save_num_checkpoints_to_keep=KEPT,
            **settings,
        )

    @property
    def steps(self) -> int:
        """Return how many steps the whole run takes."""
        return EPOCHS * STEPS_AN_EPOCH // self.ranks

    @property
    def metrics(self) -> Path:
        """The log of the run."""
        return self.folder / "run" / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.folder / "run" / "checkpoints"

    @property
    def digest_file(self) -> Path:
        """What came of the run; not there before its end."""
        return self.folder / "digest"

    @property
    def open_file(self) -> Path:
        """Whoever waits at the gate goes on when this is there."""
        return self.folder / "open"

    @property
    def steps_file(self) -> Path:
        """A byte for each step that was taken, also for those that were taken again."""
        return self.folder / "steps"

    def rank_file(self, rank: int) -> Path:
        """Return where a rank writes its process."""
        return self.folder / f"rank-{rank}"

    @property
    def steps_taken(self) -> int:
        """Return how many steps were taken, also those that were taken again."""
        return self.steps_file.stat().st_size if self.steps_file.exists() else 0


@final
class Pictures(Dataset[tuple[Tensor, int]]):
    """A few small pictures."""

    def __init__(self, bad_sample: int | None) -> None:
        self.pictures = torch.rand(BATCH * STEPS_AN_EPOCH, 3, 8, 6, generator=torch.Generator().manual_seed(1))
        if bad_sample is not None:
            self.pictures[bad_sample] = math.nan

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pictures[index], index % CLASSES


@final
class Progress(Callback):
    """Tells the harness, through files, which process trains and what it has done."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def fit_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._job.rank_file(state.world.rank).write_text(str(os.getpid()))

    def before_forward(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if state.timestamp.batch + 1 == self._job.stalled_step:
            (self._job.folder / "stalled").touch()
            time.sleep(STALL_SECONDS)

    def batch_end(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if state.world.rank == 0:
            with self._job.steps_file.open("ab") as file:
                file.write(b".")
            if state.timestamp.batch == self._job.gate:
                self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + STALL_SECONDS  # the harness itself may be gone
        while not self._job.open_file.exists() and time.monotonic() < end:
            time.sleep(0.001)


def network() -> nn.Module:
    """Return a network whose state is more than its parameters, and that draws."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(4 * 8 * 6, CLASSES),
    )


def digest(state: State, metrics: Path) -> str:
    """Return the SHA-256 of the weights, the optimizer and the log."""
    found = hashlib.sha256(metrics.read_bytes())
    optimizers = [tensor for one in state.optimizers for held in one.state.values() for tensor in held.values()]
    for tensor in [*state.model.state_dict().values(), *optimizers]:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    Job(Path(sys.argv[1]), gate=int(sys.argv[2])).train()
