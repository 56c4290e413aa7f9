"""``cutmix train``: one run."""

import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import tyro

from cutmix.runs.folder import RunFolder
from cutmix.runs.settings import Settings, Task
from cutmix.runs.train import Job, Saving, Way, prepare
from cutmix.trainer.processes import join

Inline = tyro.conf.arg(name="")


def train(  # noqa: PLR0913 - the options of a command line
    task: Annotated[Task, Inline],
    *,
    algorithms: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = (),
    seed: int = 0,
    save_folder: Path | None = None,
    save_interval: str = "1ep",
    autoresume: bool = False,
    parallelism: Way = "ddp",
    quiet: bool = False,
) -> Callable[[], int]:
    """Train a network on your images, with or without CutMix.

    Args:
        task: What is learnt, and how.
        algorithms: One of cutmix, cutmix:alpha=1.0,p=0.5, mixup, mixup:alpha=0.2, ...; or baseline, as when left out.
        seed: Initial weights, order, augmentation and mixing all follow from it.
        save_folder: Where metrics, configuration, weights and a picture go; else runs/TIME-NAME.
        save_interval: How often to write a checkpoint into it: 1ep, 500ba, 10min. The newest two are kept.
        autoresume: Go on with the run in save_folder, if there is one: it ends as if it had not been stopped.
        parallelism: Under a launcher: ddp, a whole network in each process, or fsdp, a share of its weights in each.
        quiet: Print nothing.
    """
    world = join()
    settings = Settings(task=task, algorithms=tuple(chain.from_iterable(algorithms)), seed=seed)
    folder = RunFolder(save_folder or dated(f"{task.model}-{settings.arm}"))
    saving = Saving(save_interval, autoresume)
    if world.rank == 0:
        saving.check(folder)
    job = prepare(settings)
    if world.rank == 0:
        job.check_same(folder)
    return partial(_quietly if quiet or world.rank else _aloud, job, folder, saving, parallelism)


def dated(name: str) -> Path:
    """Return a folder under ``runs`` that is called after the time and ``name``."""
    return Path("runs", f"{datetime.now():%Y%m%d-%H%M%S}-{re.sub('[^A-Za-z0-9.=_-]+', '-', name)}")  # noqa: DTZ005 - the user's own clock


def _quietly(job: Job, folder: RunFolder, saving: Saving, parallelism: Way) -> int:
    job.run(folder, saving, parallelism, progress_bar=False)
    return 0


def _aloud(job: Job, folder: RunFolder, saving: Saving, parallelism: Way) -> int:
    print(*job.splits.notes, sep="\n")
    try:
        job.run(folder, saving, parallelism, progress_bar=True)
    except (KeyboardInterrupt, SystemExit):
        print(f"stopped; go on with --save-folder {folder.path} --autoresume")
        raise
    last = folder.last_evaluation
    said = [
        f"test accuracy {100 * last['eval/accuracy']:.1f} %, test loss {last['eval/loss']:.3f}",
        f"everything is in {folder.path}",
        job.splits.train.attribution,
    ]
    print(*filter(None, said), sep="\n")
    return 0
