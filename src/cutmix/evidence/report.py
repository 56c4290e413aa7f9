"""A comparison's result: a table and a few sentences, for people and for programs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, NamedTuple, final

from cutmix.algorithms.cutmix import CutMix
from cutmix.evidence.measures import Measures
from cutmix.evidence.verdict import Paired, memory_sentence, paired, sentence
from cutmix.runs.algorithms import BASELINE, parse


class Column(NamedTuple):
    """How one measure is shown."""

    name: str
    title: str
    scale: float
    digits: int


COLUMNS = (
    Column("train_accuracy", "train %", 100, 1),
    Column("test_accuracy", "test %", 100, 1),
    Column("test_nll", "NLL", 1, 2),
    Column("test_calibration_error", "ECE", 1, 3),
    Column("hole_accuracy", "hole %", 100, 1),
    Column("seconds", "seconds", 1, 0),
)
LEGEND = (
    "Accuracy after the last step on the clean training images, on the test images, and on those with a hole in the "
    "middle (half the side, at the mean colour); negative log likelihood and expected calibration error (15 bins) on "
    "the test images; seconds of training."
)
SPAN = ("", ", smallest", ", largest")
"""What stands behind a difference: nothing for the mean."""


@final
@dataclass(frozen=True, slots=True)
class Result:
    """What one run came to."""

    measures: Measures
    seconds: float

    def value(self, name: str) -> float:
        """Return the figure that a column shows."""
        return self.seconds if name == "seconds" else getattr(self.measures, name)


@final
@dataclass(frozen=True, slots=True)
class Report:
    """Arms in the order asked for, the first of them the reference; each with one result a seed."""

    scope: str
    seeds: Sequence[int]
    results: Mapping[str, Sequence[Result]]
    attribution: str = ""

    @property
    def reference(self) -> str:
        """Return the arm that the others are held against."""
        return next(iter(self.results))

    @property
    def others(self) -> list[str]:
        """Return the arms that are held against the reference."""
        return list(self.results)[1:]

    def values(self, arm: str, name: str) -> list[float]:
        """Return one figure a seed."""
        return [result.value(name) for result in self.results[arm]]

    def paired(self, arm: str, name: str) -> Paired:
        """Return how ``arm`` differs from the reference, seed by seed."""
        return paired(self.values(arm, name), self.values(self.reference, name))

    @property
    def sentences(self) -> list[str]:
        """Return what may be said of it."""
        verdicts = [sentence(arm, self.reference, self.paired(arm, "test_accuracy"), self.scope) for arm in self.others]
        if not any(isinstance(parse(arm), CutMix) for arm in self.results):
            return verdicts
        plain = [arm for arm in self.results if arm in BASELINE]
        return [*verdicts, *(memory_sentence(arm, fmean(self.values(arm, "train_accuracy"))) for arm in plain)]

    @property
    def table(self) -> str:
        """Return the arms' means and the paired differences as a Markdown table that also reads as text."""
        count = len(self.seeds)
        head = [f"{count} {'seed' if count == 1 else 'seeds'}", *(column.title for column in COLUMNS)]
        means = [_row(arm, "", lambda name, arm=arm: fmean(self.values(arm, name))) for arm in self.results]
        differences = [
            _row(
                f"{arm} - {self.reference}{which}",
                "+",
                lambda name, arm=arm, slot=slot: self.paired(arm, name).span[slot],
            )
            for arm in self.others
            for slot, which in enumerate(SPAN[: 1 if count == 1 else None])
        ]
        return _aligned([head, *means, *differences])

    def markdown(self) -> str:
        """Return the table, what its columns are, and what may be said of it."""
        notes = [LEGEND, *self.sentences, *filter(None, [self.attribution])]
        return "\n\n".join([self.table, *notes]) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Return everything behind the table, for programs."""
        return {
            "scope": self.scope,
            "seeds": list(self.seeds),
            "results": {
                arm: [{**asdict(result.measures), "seconds": result.seconds} for result in results]
                for arm, results in self.results.items()
            },
            "differences": {
                arm: {column.name: list(self.paired(arm, column.name).differences) for column in COLUMNS}
                for arm in self.others
            },
            "verdicts": {arm: self.paired(arm, "test_accuracy").verdict for arm in self.others},
            "sentences": self.sentences,
            "attribution": self.attribution,
        }


def scope_of(config: Mapping[str, Any]) -> str:
    """Say in a few words what a run was made from, so that nothing more is claimed than was seen."""
    task, data = config["settings"]["task"], config["data"]
    own = ":" in task["model"] and not task["model"].startswith("timm:")  # may well be pretrained
    augmented = "no crop or flip" if not task["augment"] else "crop and flip" if task["flip"] else "crop, no flip"
    return ", ".join(
        [
            task["model"] if own else f"{task['model']} from scratch",
            f"{data['height']}x{data['width']}",
            f"{config['steps']} steps of {task['batch_size']}",
            f"{data['train_images']:,} training images",
            augmented,
        ]
    )


def _row(label: str, sign: str, figure: Callable[[str], float]) -> list[str]:
    return [label, *(_shown(column, figure(column.name), sign) for column in COLUMNS)]


def _shown(column: Column, value: float, sign: str) -> str:
    rounded = round(column.scale * value, column.digits) + 0.0  # which turns -0.0 into 0.0
    return f"{rounded:{sign}.{column.digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width if not slot else "-" * (width - 1) + ":" for slot, width in enumerate(widths)]
    pads = [str.rjust if slot else str.ljust for slot in range(len(widths))]
    lines = [
        [pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True)]
        for row in (rows[0], rule, *rows[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
