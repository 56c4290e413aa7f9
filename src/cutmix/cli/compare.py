"""``cutmix compare``: arms times seeds, and what may be said of them."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from cutmix.cli.display import watching
from cutmix.cli.train import Inline, dated
from cutmix.data.images import Splits
from cutmix.evidence.arms import Comparison, Run, report_of, run_all, unfinished
from cutmix.evidence.report import Report
from cutmix.runs.folder import write_json
from cutmix.runs.settings import Task
from cutmix.runs.train import prepare
from cutmix.trainer.processes import join


def compare(
    task: Annotated[Task, Inline],
    *,
    arms: tuple[str, ...] = ("baseline", "cutmix"),
    seeds: int = 3,
    jobs: int = 1,
    save_folder: Path | None = None,
) -> Callable[[], int]:
    """Train with and without CutMix, seed by seed, and say what came of it.

    The runs of one seed share initial weights, order and augmentation. A finished run in the folder is not done again.

    Args:
        task: What is learnt, and how.
        arms: Algorithms as in cutmix train; each is held against the first.
        seeds: How many, counted from 0.
        jobs: How many runs go on side by side.
        save_folder: Where the report and the run folders go; else runs/TIME-compare.
    """
    if (world := join()).size > 1:
        raise ValueError(
            f"compare starts processes of its own, got a launcher with {world.size}; give it --jobs instead"
        )
    comparison = Comparison(task, arms, seeds, save_folder or dated("compare"))
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more, got {jobs}")
    splits = prepare(comparison.runs[0].settings).splits
    waiting = unfinished(comparison, splits)
    return partial(_compare, comparison, splits, waiting, jobs)


def _compare(comparison: Comparison, splits: Splits, waiting: list[Run], jobs: int) -> int:
    print(*splits.notes, sep="\n")
    print(f"{len(comparison.runs)} runs in {comparison.folder}, {len(comparison.runs) - len(waiting)} finished before")
    with watching(waiting) as watch:
        failures = run_all(waiting, jobs, watch)
    report = report_of(comparison, splits.train.attribution)
    if report:
        _publish(report, comparison)
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return 1 if failures else 0


def _publish(report: Report, comparison: Comparison) -> None:
    write_json(comparison.folder / "report.json", report.as_json())
    text = report.markdown()
    (comparison.folder / "report.md").write_text(text, encoding="utf-8")
    pictures = [run.folder.picture for run in comparison.of_seed(0) if run.folder.picture.exists()]
    print(f"\n{text}")
    print(f"the report is in {comparison.folder / 'report.md'}, mixed images in", *pictures)
