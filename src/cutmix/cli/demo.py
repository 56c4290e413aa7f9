"""``cutmix demo``: ``compare`` on the pictures that come built in."""

from collections.abc import Callable
from pathlib import Path

from cutmix.cli.compare import compare
from cutmix.runs.settings import Task

TASK = Task(data="openmoji", image_size=32, max_duration="700ba", augment=False)
SEEDS = 3


def demo(*, save_folder: Path = Path("runs/demo"), jobs: int = 2) -> Callable[[], int]:
    """Train with and without CutMix on drawn emoji: six short runs on two cores, a table at the end.

    Args:
        save_folder: Where the report and the run folders go; finished runs there are not done again.
        jobs: How many runs go on side by side.
    """
    return compare(TASK, arms=("baseline", "cutmix:alpha=1.0"), seeds=SEEDS, jobs=jobs, save_folder=save_folder)
