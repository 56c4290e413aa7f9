"""What ``import cutmix``, and then CutMix itself, add to ``import torch``, each trial in a fresh interpreter.

Run ``python benchmarks/import_time.py``; it writes ``benchmarks/results/import_time.json``.
"""

import subprocess
import sys

from recording import record, spread

TRIALS = 21
MUST = 30.0
TIMED = """
from time import perf_counter
start = perf_counter()
import torch
after_torch = perf_counter()
import cutmix
after_door = perf_counter()
from cutmix import CutMix
times = (after_torch - start, after_door - after_torch, perf_counter() - after_door)
print(*(1e3 * seconds for seconds in times))
"""


def trial() -> list[float]:
    """Return how long torch, then cutmix, then CutMix and all that it needs take to import, in milliseconds."""
    done = subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True)  # noqa: S603
    return [float(milliseconds) for milliseconds in done.stdout.split()]


def main() -> None:
    """Measure, print and write down."""
    trial()  # fills the file cache, and writes the byte code
    torch_times, door_times, cutmix_times = zip(*(trial() for _ in range(TRIALS)), strict=True)
    record(
        "import_time",
        {
            "what": "milliseconds to import torch, then cutmix, then CutMix and all it needs, in a fresh interpreter",
            "trials": TRIALS,
            "torch": spread(torch_times),
            "cutmix": {**spread(door_times), "must": MUST},
            "CutMix": spread(cutmix_times),
        },
    )


if __name__ == "__main__":
    main()
