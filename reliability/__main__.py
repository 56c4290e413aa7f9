"""Try every check as often as it must hold, and write the table: ``make reliability``."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from recording import record
from reliability.checking import tried
from reliability.rows import CHECKS


def main() -> int:
    """Return 1 where any attempt failed."""
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="from which all moments, bytes and bits are drawn")
    parser.add_argument("--only", default="", help="the checks whose name holds this; nothing is recorded")
    parser.add_argument("--count", type=int, help="how often, in place of the full count; nothing is recorded")
    given = parser.parse_args()
    rows = []
    for check in CHECKS:
        if given.only in check.name:
            row = tried(check, given.count or check.count, given.seed)
            rows.append(row)
            print(f"{row.passed}/{row.count} {row.check} ({row.seconds:g} s)", *row.failures, sep="\n", flush=True)
    if not given.only and given.count is None:
        record(
            "reliability",
            {"what": "faults of real processes, and what came of them", "rows": [asdict(row) for row in rows]},
        )
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main())
