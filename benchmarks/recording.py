"""What every result holds: the machine, the versions, the trials and their spread."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("RESULTS", Path(__file__).with_name("results")))
"""Where results are written to: ``make bench RESULTS=FOLDER`` names another place."""


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Return the median of some trials, their quartiles and their ends."""
    low, median, high = statistics.quantiles(values, n=4)
    figures = {"median": median, "quartile_low": low, "quartile_high": high, "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in figures.items()}


def record(name: str, result: dict[str, Any]) -> None:
    """Print a result, and write it into ``RESULTS/NAME.json`` with what it was measured on."""
    machine = {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()}
    packages = {package: version(package) for package in ("torch", "numba") if find_spec(package)}
    versions = {"python": platform.python_version(), **packages}
    text = json.dumps({**result, "machine": machine, "versions": versions}, indent=2)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def processor() -> str:
    """Return the processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
