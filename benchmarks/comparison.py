"""Take the figures of a finished ``cutmix compare`` over, into ``benchmarks/results/NAME.json``.

Run ``python benchmarks/comparison.py NAME FOLDER``, on the machine that the runs were made on: for the README's tables

    cutmix demo
    cutmix compare --data TRAIN --eval-data TEST --train-size 5000 --no-augment --max-duration 20ep --seeds 2 --jobs 2

of which the second was on 20,000 training images and the test set of CIFAR-10.
"""

import json
import sys
from pathlib import Path

from recording import record


def main(name: str, folder: Path) -> None:
    """Read the report of the comparison in ``folder``, and write it down."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    configs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("config.json"))]
    record(name, {"what": "networks after their last step", "trials": len(configs), **report})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
