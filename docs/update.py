"""Write the pages' tables from ``benchmarks/results``, and draw their pictures: ``python docs/update.py``."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cutmix.algorithms import CutMix
from cutmix.data.openmoji import openmoji
from cutmix.evidence.measures import Measures
from cutmix.evidence.report import Report, Result
from cutmix.keys import generator_for
from cutmix.pictures import steps_of_mixing
from marks import between_marks

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("benchmarks", "reliability", "scale")))
RESULTS = ROOT / "benchmarks" / "results"
SMALL_CACHE = RESULTS / "small_cache"
"""What a second machine took for some of it."""
RECKONED = 10**9
PICTURED = ("tiger", "watermelon", "penguin", "hamburger", "sun with face", "cherries")
PICTURED_SEED = 2
WAYS_OF_MIXING = ("one box", "per sample")
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


def draw_growth(path: Path) -> None:
    """Draw how the time of mixing in place grows with the bytes that are replaced, beside copying as many."""
    import matplotlib.pyplot as plt

    series = read("op_growth")["series"]
    figure, panels = plt.subplots(1, len(series), figsize=(9, 3.4), sharey=True, layout="constrained")
    for panel, (name, points) in zip(panels, series.items(), strict=True):
        for arm in ("copy", *WAYS_OF_MIXING):
            figures = [point["arms"][arm] for point in points]
            megabytes, milliseconds = zip(
                *((one["bytes"] / 1e6, one["microseconds"]["median"] / 1e3) for one in figures), strict=True
            )
            panel.loglog(megabytes, milliseconds, ":" if arm == "copy" else "o-", label=arm, markersize=4)
        panel.set(title=name, xlabel="MB replaced, or copied")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("ms")
    panels[0].legend()
    figure.savefig(path, dpi=110)


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
    rows.append(("`from cutmix import CutMix`, over that", imported["CutMix"], "ms"))
    lines = [
        f"| {what} | {figures['median']:.0f} {unit} | {figures['quartile_low']:.0f} to {figures['quartile_high']:.0f} |"
        for what, figures, unit in rows
    ]
    return "\n".join(["| what | median | quartiles |", "|---|---:|---:|", *lines, "", f"{measured_on(loop)}."])


def speed_table() -> str:
    """Return what mixing a batch costs, ours and the peers'."""
    result = read("op_speed")
    works = {work["work"]: work["in_copies"] for work in result["works"]}
    arms = dict.fromkeys(arm for figures in works.values() for arm in figures if arm != "copy")
    rows = [
        [arm, *(figure(figures[arm]["median"]) if arm in figures else "" for figures in works.values())] for arm in arms
    ]
    return f"{table(['', *works], rows)}\n\n{'; '.join([measured_on(result), *peers_of(result)])}."


def musts_table(folder: Path | None = None) -> str:
    """Return what was promised of the op, and what was measured."""
    results = {name: read(name, folder) for name in ("op_speed", "plan", "loss", "op_growth", "op_threads")}
    rows = [
        [
            f"{must['work']}: {must['arm']}",
            must["over"],
            figure(must["median"]),
            f"{figure(must['quartile_low'])} to {figure(must['quartile_high'])}",
            f"{must['must']:g}{'' if must['holds'] else ', missed'}",
        ]
        for result in results.values()
        for must in result["musts"]
    ]
    machines = defaultdict(list)
    for name, result in results.items():
        machines[machine_of(result)].append(name)
    measured = "; ".join(f"{', '.join(names)}: {machine}" for machine, names in machines.items())
    return f"{table(['what', 'over', 'median', 'quartiles', 'at most'], rows)}\n\n{measured}."


def swing_sentence() -> str:
    """Return what the promises that were missed in another hour took in each."""
    hours = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((SMALL_CACHE / "other_hours").iterdir())]
    missed = [
        f"{musts[0]['work']}: {musts[0]['arm']} took {' and '.join(figure(must['median']) for must in musts)} times "
        f"what {musts[0]['over']} did, where {musts[0]['must']:g} is promised"
        for musts in zip(*(hour["musts"] for hour in hours), strict=True)
        if not all(must["holds"] for must in musts)
    ]
    return f"In other hours of the same day some were missed: {'; '.join(missed)}."


def loss_table() -> str:
    """Return what the loss of two labels costs, in time and, in brackets, in memory."""
    result = read("loss")
    shapes = {"x".join(map(str, one["logits"])): one["arms"] for one in result["losses"]}
    rows = [
        [arm, *(f"{figure(one['over_plain']['median'])} ({one['peak_memory_over_logits']:g})" for one in ones)]
        for arm, ones in ((arm, [arms[arm] for arms in shapes.values()]) for arm in next(iter(shapes.values())))
    ]
    return table(["", *shapes], rows)


def gpu_table() -> str:
    """Return what mixing takes on a GPU, ours and the peers', and of the host meanwhile."""
    result = read("triton_gpu")
    works = result["works"]
    arms = dict.fromkeys(arm for figures in works.values() for arm in figures if arm != "copy")
    rows = [
        [arm, *(figure(figures[arm]["over_copy"]["median"]) if arm in figures else "" for figures in works.values())]
        for arm in arms
    ]
    rows += [
        [
            f"µs of the host: {arm}",
            *(f"{figures[arm]['host_microseconds']:.0f}" if arm in figures else "" for figures in works.values()),
        ]
        for arm in ("triton, one box, in place", "cutmix_batch, in place", *result["peers"])
    ]
    copies = [f"{1e3 * figures['copy']['milliseconds']['median']:.1f}" for figures in works.values()]
    ours = [result["device"], f"torch {result['versions']['torch']}", f"triton {result['triton']}"]
    named = "; ".join([*ours, *peers_of(result)])
    return f"{table(['', *works], [['µs of a copy', *copies], *rows])}\n\n{named}."


def gpu_sentences() -> str:
    """Return what mixing takes on a GPU beside the peers, of a training step, and in one pass from bytes."""
    result = read("triton_gpu")
    share, stage = result["share_of_a_step"], result["input_stage"]
    least, most = (pick(must["median"] for must in result["musts"]) for pick in (min, max))
    ours, theirs = (
        sorted(round(figures[arm]["host_microseconds"]) for figures in result["works"].values() if arm in figures)
        for arm in ("cutmix_batch, in place", "Composer")
    )
    one_pass, steps = (figure(stage[backend]["over_copy"]["median"]) for backend in ("triton", "eager"))
    return (
        f"An {result['device']} is busy with `cutmix_batch` in place for {100 * least:.0f} to {100 * most:.0f} % of "
        f"the time that the peers' calls keep it busy; the host is longer at work for it, {ours[0]} to {ours[-1]} µs, "
        f"for Composer's {theirs[0]} to {theirs[-1]}. Of a step of a ResNet-50 in bfloat16 on 128 pictures of 224x224, "
        f"{share['step_milliseconds']['median']:.0f} ms, mixing is {share['median']:.3f} % "
        f"({share['quartile_low']:.3f} to {share['quartile_high']:.3f}; at most {share['must']:g} is promised"
        f"{'' if share['holds'] else ' and missed'}). From "
        f"bytes to mixed, normalized bfloat16 in channels_last takes {one_pass} times as long as torch's copy into "
        f"that layout alone; step by step {steps} times."
    )


def scaling_table() -> str:
    """Return what a step costs in loops, over a bare one, and whether what was promised of ours holds."""
    result = read("scaling")
    rows = [
        [
            f"{row['work']}: {row['arm']}",
            row["over"],
            f"{row['median']:.0f}",
            f"{row['quartile_low']:.0f} to {row['quartile_high']:.0f}",
            f"{row['at_work']['median']:.0f}",
            "" if row["must"] is None else f"{row['must']:g}{'' if row['holds'] else ', missed'}",
        ]
        for row in result["overheads"]
    ]
    head = ["what", "over", "µs", "quartiles", "of it at work", "at most"]
    return f"{table(head, rows)}\n\n{'; '.join([measured_on(result), *peers_of(result)])}."


def training_sentence() -> str:
    """Return what a second process brings."""
    result = read("scaling")
    training = result["training"]
    one, two, times = training["one process"], training["two processes"], training["times_as_fast"]
    return (
        f"ResNet-8 with CutMix, 32 pictures of 3x32x32 a process, one thread a process: {one['median']:.0f} pictures a "
        f"second in one process, {two['median']:.0f} in two, {figure(times['median'])} times as many "
        f"({figure(times['min'])} to {figure(times['max'])}; {machine_of(result)})."
    )


def order_table() -> str:
    """Return what a rank spends on the order of an epoch, and what it would on many more samples."""
    result = read("scale")
    rows = [
        [row["way"], f"{row['samples']:.0e}".replace("e+0", "e"), *map(figure, order_of(row, 1))]
        for row in result["order"]
    ]
    most = max(row["samples"] for row in result["order"])
    rows += [
        [row["way"], f"{RECKONED:.0e}, reckoned".replace("e+0", "e"), *map(figure, order_of(row, RECKONED / most))]
        for row in result["order"]
        if row["samples"] == most
    ]
    return f"{table(['way', 'samples', 's', 'MB at its peak', 'MB kept'], rows)}\n\n{measured_on(result)}."


def order_of(row: dict, times: float) -> list[float]:
    """Return the seconds and megabytes of an order, of so many ``times`` the samples."""
    return [times * row[name]["median"] for name in ("seconds", "peak_megabytes", "held_megabytes")]


def rest_table() -> str:
    """Return what plans, checkpoints and logs take, and what they would at a larger scale, with the reckoning."""
    result = read("scale")
    saved, sizes = result["checkpoint"], result["log"]["bytes_per_step"]
    write, go_on = (saved[f"{name}_nanoseconds_per_parameter"]["median"] for name in ("write", "read"))
    whole, line = saved["bytes_per_parameter"], sum(sizes.values())
    rows = [
        *([f"a plan, {place}", f"{plan['median']:.0f} µs", "the same"] for place, plan in result["plan"].items()),
        ["bytes of a checkpoint with AdamW", f"{whole:.1f} a parameter", f"10^9 parameters: {whole:.1f} GB"],
        ["writing it", f"{write:.0f} ns a parameter", f"10^9 parameters: {write:.0f} s"],
        ["reading, verifying and taking it over", f"{go_on:.0f} ns a parameter", f"10^9 parameters: {go_on:.0f} s"],
        ["log", f"{line:.0f} bytes a step", f"10^6 steps: {line:.0f} MB"],
    ]
    return table(["what", "measured", "reckoned"], rows)


def sharded_table() -> str:
    """Return what it takes two processes to save a sharded model, and to go on from it."""
    result = read("sharded")
    rows = [
        [way, *(figure(acts[act][name]["median"]) for act in ("save", "load") for name in ("seconds", "megabytes"))]
        for way, acts in result["ways"].items()
    ]
    head = ["saved and loaded", "s to save", "MB more in a rank", "s to load", "MB more in a rank"]
    exponent = round(math.log10(result["parameters"]))
    return f"{table(head, rows)}\n\n{measured_on(result)}; 10^{exponent} parameters."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of which the first column is words, the others figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def reliability_table() -> str:
    """Return what runs were put through, and how many came through."""
    if not (RESULTS / "reliability.json").exists():
        return "Not counted in full yet: `make reliability` does, and leads to this table."
    result = read("reliability")
    rows = [
        [f"{row['check']}: {row['must']}", *(f"{row[name]:.0f}" for name in ("count", "passed", "seconds", "seed"))]
        for row in result["rows"]
    ]
    head = ["fault, and what must come of it", "count", "passed", "seconds", "seed"]
    return f"{table(head, rows)}\n\n{measured_on(result)}."


def step_sentence() -> str:
    """Return what CutMix adds to a training step."""
    step = read("training_step")
    share, added = step["percent_of_a_step"], step["microseconds_of_cutmix"]
    return (
        f"A step of ResNet-8 on 32 pictures of 3x32x32 takes {step['without']['median']:.1f} ms without CutMix; "
        f"with it {added['median']:.0f} µs more, {share['median']:.1f} % of a step "
        f"({share['quartile_low']:.1f} to {share['quartile_high']:.1f})."
    )


def peers_of(result: dict) -> list[str]:
    """Return the peers' packages with their versions, each once, or why one is left out."""
    named = [
        f"{peer['package']} {peer['version']}" if "version" in peer else f"{name} is left out ({peer['left_out']})"
        for name, peer in result["peers"].items()
    ]
    return [*dict.fromkeys(named)]


def figure(value: float) -> str:
    """Return a number with as many digits as it deserves."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004


def measured_on(result: dict) -> str:
    """Return what was measured, and on which machine."""
    return f"{machine_of(result)}; torch {result['versions']['torch']}; {result['what']}"


def machine_of(result: dict) -> str:
    """Return the machine that was measured on, in words."""
    return f"{result['machine']['processor']}, {result['machine']['cores']} cores"


def read(name: str, folder: Path | None = None) -> dict:
    """Read one result."""
    return json.loads(((folder or RESULTS) / f"{name}.json").read_text(encoding="utf-8"))


def rewritten(page: str) -> str:
    """Return a page with what stands between its marks written anew."""
    tables = {
        "demo": lambda: comparison("demo").markdown().strip(),
        "cifar10": lambda: table_with_verdict(comparison("cifar10")),
        "cost": cost_table,
        "op_speed": speed_table,
        "op_musts": musts_table,
        "op_musts_small_cache": lambda: musts_table(SMALL_CACHE),
        "op_swing": swing_sentence,
        "loss": loss_table,
        "gpu": gpu_table,
        "gpu_step": gpu_sentences,
        "reliability": reliability_table,
        "step": step_sentence,
        "scaling": scaling_table,
        "scaling_training": training_sentence,
        "scale_order": order_table,
        "scale_rest": rest_table,
        "scale_sharded": sharded_table,
    }
    return between_marks(page, tables)


if __name__ == "__main__":
    draw_picture(ROOT / "docs" / "images" / "mixed.png")
    draw_growth(ROOT / "docs" / "images" / "growth.png")
    for page in PAGES:
        page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
