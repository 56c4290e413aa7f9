"""The command line: each command checks and loads first, and only then does its work."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr
from functools import partial, wraps
from io import StringIO
from typing import TypeAlias

import tyro

from cutmix.cli.compare import compare
from cutmix.cli.demo import demo
from cutmix.cli.launch import launch, set_apart
from cutmix.cli.train import train
from cutmix.core.world import World
from cutmix.trainer.callbacks.finite import NonFiniteLossError
from cutmix.trainer.processes import join

Work: TypeAlias = Callable[[], int]
"""What is left to do once everything is checked; returns the exit code."""
Command: TypeAlias = Callable[..., Work]

COMMANDS: dict[str, Command] = {"train": train, "compare": compare, "demo": demo, "launch": launch}


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: bad input is one line, and 2; a run that diverged is one, and 70.

    Only what checks and loads is guarded: another error in the work itself is ours, and keeps its traceback. Under a
    launcher all ranks refuse together, and rank 0 says what any of them refuses.
    """
    world = World() if arguments[:1] == ["launch"] else join()
    work, refusal = None, None
    try:
        work = parsed(arguments)()
    except (ValueError, OSError) as error:
        refusal = one_line(error)
    refusals = dict.fromkeys(filter(None, world.gathered(refusal)))
    if work is None or refusals:
        return refused(refusals if world.rank == 0 else (), 2)
    try:
        return work()
    except NonFiniteLossError as error:
        return refused([one_line(error)], 70)


def one_line(error: Exception) -> str:
    """Return what ``error`` says, in one line."""
    return " ".join(str(error).split())


def refused(refusals: Iterable[str], code: int) -> int:
    """Say each of ``refusals``, and return ``code``."""
    for refusal in refusals:
        print("cutmix:", refusal, file=sys.stderr)
    return code


def parsed(arguments: Sequence[str]) -> Callable[[], Work]:
    """Return the command that ``arguments`` ask for, its settings checked; ``--help`` ends here.

    Raises:
        ValueError: naming what is wrong with the command line, in one line.
    """
    if arguments[:1] == ["launch"]:
        arguments = ["launch", *set_apart(arguments[1:])]
    said = StringIO()
    try:
        with redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                {name: put_off(command) for name, command in COMMANDS.items()},
                prog="cutmix",
                description="CutMix in every training loop.",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        command = " ".join(["cutmix", *(name for name in arguments[:1] if name in COMMANDS)])
        raise ValueError(f"{boxed(said.getvalue())}; see {command} --help") from None


def put_off(command: Command) -> Callable[..., Callable[[], Work]]:
    """Return what only takes down how ``command`` is called, so that nothing but the command line is read at first."""
    return wraps(command)(lambda *args, **kwargs: partial(command, *args, **kwargs))


def boxed(text: str) -> str:
    """Return what tyro says in a box between its title and its next rule, which help follows."""
    plain = re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯]", "", text)
    said = re.split("[─-]{4,}", plain)[1:2] or [plain]
    return " ".join(said[0].split()).removesuffix(".")
