"""The command line: each command checks and loads first, and only then does its work."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

import tyro

from cutmix.cli.compare import compare
from cutmix.cli.demo import demo
from cutmix.cli.train import train

Work: TypeAlias = Callable[[], int]
"""What is left to do once everything is checked; returns the exit code."""

COMMANDS: dict[str, Callable[..., Work]] = {"train": train, "compare": compare, "demo": demo}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: bad input is one line, and 2.

    Only what checks and loads is guarded: an error in the work itself is ours, and keeps its traceback.
    """
    try:
        work = tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="cutmix",
            description="CutMix in every training loop.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except (ValueError, OSError) as error:
        print("cutmix:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    try:
        return work()
    except KeyboardInterrupt:
        return 130
