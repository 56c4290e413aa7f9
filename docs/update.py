"""Write the README's tables from ``benchmarks/results``, and draw its picture: ``python docs/update.py``."""

import json
import re
from pathlib import Path

from cutmix.algorithms import CutMix
from cutmix.data.openmoji import openmoji
from cutmix.evidence.measures import Measures
from cutmix.evidence.report import Report, Result
from cutmix.keys import generator_for
from cutmix.pictures import steps_of_mixing

ROOT = Path(__file__).parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "benchmarks" / "results"
PICTURED = ("tiger", "watermelon", "penguin", "hamburger", "sun with face", "cherries")
PICTURED_SEED = 2
ROWS = {
    ("trainer", "bare"): "a step of the Trainer, over a bare loop",
    ("trainer, bar and file", "bare"): "the same, with progress bar and metrics file",
    ("trainer, CutMix", "bare, CutMix"): "a step of the Trainer with CutMix, over a bare loop that calls it",
    ("trainer, CutMix, bar and file", "bare, CutMix"): "the same, with progress bar and metrics file",
    ("bare, CutMix", "bare"): "CutMix in a bare loop: draw, mix, and the loss of two labels, forward and backward",
}


def draw_picture(path: Path) -> None:
    """Draw six emoji, their partners, and what CutMix makes of the two."""
    pictures, _ = openmoji(72)
    few = pictures.chosen([pictures.names.index(name) for name in PICTURED])
    plan = CutMix().draw(few.pixels.shape, generator=generator_for(PICTURED_SEED, 0))
    steps_of_mixing(few.pixels, few.names, plan, path, attribution=few.attribution)


def comparison(name: str) -> Report:
    """Read the report of a comparison."""
    saved = read(name)
    results = {
        arm: [Result(Measures(**{k: v for k, v in one.items() if k != "seconds"}), one["seconds"]) for one in seeds]
        for arm, seeds in saved["results"].items()
    }
    return Report(saved["scope"], saved["seeds"], results, saved["attribution"])


def table_with_verdict(report: Report) -> str:
    """Return the table of a comparison, and what may be said of it."""
    return "\n\n".join([report.table, *report.sentences])


def cost_table() -> str:
    """Return what the machinery costs."""
    loop, imported = read("loop_overhead"), read("import_time")
    overheads = {(row["arm"], row["over"]): row for row in loop["overheads"]}
    rows = [(what, overheads[arm], "µs") for arm, what in ROWS.items()]
    rows.append(("`import cutmix`, over `import torch`", imported["cutmix"], "ms"))
    lines = [
        f"| {what} | {figures['median']:.0f} {unit} | {figures['quartile_low']:.0f} to {figures['quartile_high']:.0f} |"
        for what, figures, unit in rows
    ]
    machine = f"{loop['machine']['processor']}, {loop['machine']['cores']} cores; torch {loop['versions']['torch']}"
    return "\n".join(["| what | median | quartiles |", "|---|---:|---:|", *lines, "", f"{machine}; {loop['what']}."])


def read(name: str) -> dict:
    """Read one result."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rewritten(page: str) -> str:
    """Return a page with what stands between its marks written anew."""
    tables = {
        "demo": comparison("demo").markdown().strip(),
        "cifar10": table_with_verdict(comparison("cifar10")),
        "cost": cost_table(),
    }
    for name, table in tables.items():
        between = rf"(<!-- {name} -->).*?(<!-- /{name} -->)"
        page = re.sub(between, lambda marks, table=table: f"{marks[1]}\n{table}\n{marks[2]}", page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    draw_picture(ROOT / "docs" / "images" / "mixed.png")
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
