"""What it costs two processes to save a sharded model and to go on from it: whole by rank 0, or each its shards.

Run ``python benchmarks/sharded.py``; it writes ``benchmarks/results/sharded.json``. With ``--quick`` a small model is
saved and nothing is written. Beside this library's two ways is that of ``torch.distributed.checkpoint`` with
safetensors, which writes no digests and verifies nothing. The ways take turns, each in processes of its own
(``sharded_arms.py``), since memory is told by how much a process grows; each process has one thread.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from recording import record, spread
from sharded_arms import WAYS

ARMS = Path(__file__).with_name("sharded_arms.py")
TRIALS, PARAMETERS = 5, 10**7
QUICK_TRIALS, QUICK_PARAMETERS = 2, 10**5


def main() -> None:
    """Measure, print, and write down."""
    quick = "--quick" in sys.argv
    trials, parameters = (QUICK_TRIALS, QUICK_PARAMETERS) if quick else (TRIALS, PARAMETERS)
    told: dict[str, list[Any]] = {way: [] for way in WAYS}
    for way in [*told] * trials:
        told[way].append(launched(way, parameters))
    result = {
        "what": "saving and loading a model and its AdamW, sharded over two processes of a thread each",
        "trials": trials,
        "parameters": parameters,
        "ways": {way: figures_of(ones) for way, ones in told.items()},
    }
    if quick:
        print("a small model, of which nothing is promised")
    else:
        record("sharded", result)


def figures_of(jobs: list[list[dict[str, dict[str, float]]]]) -> dict[str, Any]:
    """Return the seconds that all ranks take, and by how many megabytes the one that grows most does."""
    return {
        act: {figure: spread([max(rank[act][figure] for rank in job) for job in jobs]) for figure in jobs[0][0][act]}
        for act in jobs[0][0]
    }


def launched(way: str, parameters: int) -> list[dict[str, dict[str, float]]]:
    """Let two processes save and load in that way, and return what each has spent."""
    with tempfile.TemporaryDirectory() as folder:
        launch = [sys.executable, "-m", "cutmix", "launch", "-n", "2", str(ARMS)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*launch, way, str(parameters), folder], check=True, env=environment)  # noqa: S603
        return json.loads((Path(folder) / "told.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
