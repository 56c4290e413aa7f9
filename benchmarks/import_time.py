"""What ``import cutmix`` adds to ``import torch``, each trial in a fresh interpreter.

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
between = perf_counter()
import cutmix
print(1e3 * (between - start), 1e3 * (perf_counter() - between))
"""


def trial() -> tuple[float, float]:
    """Return how long torch and then cutmix take to import, in milliseconds."""
    done = subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True)  # noqa: S603
    torch_time, cutmix_time = map(float, done.stdout.split())
    return torch_time, cutmix_time


def main() -> None:
    """Measure, print and write down."""
    trial()  # fills the file cache, and writes the byte code
    torch_times, cutmix_times = zip(*(trial() for _ in range(TRIALS)), strict=True)
    record(
        "import_time",
        {
            "what": "milliseconds to import torch, and then cutmix, in a fresh interpreter",
            "trials": TRIALS,
            "torch": spread(torch_times),
            "cutmix": {**spread(cutmix_times), "must": MUST},
        },
    )


if __name__ == "__main__":
    main()
