"""What a run folder holds, and how it is read back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from time import time
from typing import Any, final


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    epoch: int
    seconds_left: float


@final
@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run: the only channel between a run and whoever watches it."""

    path: Path

    @property
    def config(self) -> Path:
        """Everything to repeat the run; the first thing that is written."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """One flat object a line; repeats to the byte."""
        return self.path / "metrics.jsonl"

    @property
    def timings(self) -> Path:
        """How long it took, one flat object a line."""
        return self.path / "timings.jsonl"

    @property
    def weights(self) -> Path:
        """The network's weights after the last step."""
        return self.path / "weights.safetensors"

    @property
    def picture(self) -> Path:
        """A few mixed training images; only there if the run mixes."""
        return self.path / "mixed.png"

    @property
    def measures(self) -> Path:
        """What a comparison measured after the last step; the last thing that is written."""
        return self.path / "measures.json"

    @property
    def error(self) -> Path:
        """Why a run of a comparison failed."""
        return self.path / "error.txt"

    @property
    def finished(self) -> bool:
        """Tell whether a comparison's run has come to its end."""
        return self.config.exists() and self.measures.exists()

    @property
    def seconds(self) -> float:
        """Return how long training took, its evaluations included."""
        return _lines(self.timings)[-1]["seconds"]

    @property
    def progress(self) -> "Progress | None":
        """Return how far the run is; nothing before its first figures are there."""
        figures = _lines(self.metrics) if self.metrics.exists() else []
        if not figures:
            return None
        written, last = self.metrics.stat().st_mtime, figures[-1]
        seconds_a_step = (written - self.config.stat().st_mtime) / last["step"]
        rest = (read_json(self.config)["steps"] - last["step"]) * seconds_a_step
        return Progress(last["epoch"], max(0.0, rest - (time() - written)))

    @property
    def last_evaluation(self) -> dict[str, float]:
        """Return the figures of the last evaluation."""
        return next(line for line in reversed(_lines(self.metrics)) if "eval/loss" in line)

    def check_free(self) -> None:
        """Refuse a folder that holds something, or that cannot be made.

        Raises:
            ValueError: naming the folder and the remedy.
        """
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ValueError(f"save folder {self.path} is not empty; name another, or remove it first")
        check_writable(self.path)

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the folder, with its ``config.json``."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config, config)

    def clear(self) -> None:
        """Remove what an unfinished run left; files that no run writes stay."""
        for file in (self.config, self.metrics, self.timings, self.weights, self.picture, self.measures, self.error):
            file.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Refuse a folder that is not there and cannot be made, or that cannot be written to.

    Raises:
        ValueError: naming the folder and what stands in the way.
    """
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise ValueError(
            f"save folder {folder} cannot be written ({error.strerror}: {nearest}); name another"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read what ``write_json`` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` under a name that only ever holds the whole of them."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one object a line; a last line that is still being written is left out."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]
