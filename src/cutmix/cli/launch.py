"""``cutmix launch``: one script, many processes."""

import logging
import os
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, final

import torch
import tyro

FLAGS = ("-m", "--module", "-h", "--help")
"""The options that take no value."""
TIED = (
    "import ctypes, os, signal, sys; "
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""Becomes the program that its arguments name, which is told to end when its parent is gone, however that came."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """Where the machines of a job meet."""

    nodes: int | None = None
    """Machines, on each of which this command is given; else this one alone."""
    rdzv_endpoint: str | None = None
    """HOST:PORT of the machine where the others meet."""
    rdzv_id: str = "cutmix"
    """A name for the job, the same on every machine; another where two jobs share a port."""
    node_rank: int | None = None
    """Which machine this is: 0 is the one where the others meet. Else it is known by its host name."""

    def __post_init__(self) -> None:
        """Check that several machines know where to meet, and that whoever says where says of how many."""
        nodes, endpoint = 1 if self.nodes is None else self.nodes, self.rdzv_endpoint
        if nodes < 1:
            raise ValueError(f"nodes must be 1 or more, got {nodes}")
        if nodes > 1 and endpoint is None:
            raise ValueError(
                f"rdzv_endpoint must say where {nodes} nodes meet, got none; write --rdzv-endpoint=HOST:29400"
            )
        if self.nodes is None and endpoint is not None:
            raise ValueError(f"nodes must say how many meet at {endpoint}, got none; write --nodes=2")
        if self.node_rank is not None and not 0 <= self.node_rank < nodes:
            raise ValueError(f"node_rank must lie in [0, {nodes}), got {self.node_rank}; give --nodes too")

    @property
    def options(self) -> list[str]:
        """Return torchrun's options."""
        if self.nodes in (None, 1):
            return ["--nnodes=1", "--standalone", "--local-addr=localhost"]
        host = [] if self.node_rank is None else [f"--rdzv-conf=is_host={int(self.node_rank == 0)}"]
        place = [f"--rdzv-endpoint={self.rdzv_endpoint}", f"--rdzv-id={self.rdzv_id}"]
        return [f"--nnodes={self.nodes}", "--rdzv-backend=c10d", *place, *host]


def launch(
    command: tyro.conf.Positional[tuple[str, ...]],
    rendezvous: Annotated[Rendezvous, tyro.conf.arg(name="")],
    *,
    processes: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
    module: Annotated[bool, tyro.conf.arg(aliases=["-m"])] = False,
    max_restarts: int = 0,
    grace: int = 30,
) -> Callable[[], int]:
    """Run a script in several processes that train together, by torchrun; on several machines too.

    The exit code is the script's. SIGTERM and Ctrl-C reach every process, so that they can save and end.

    Args:
        command: A script, or cutmix train, with its arguments.
        rendezvous: Where the machines meet.
        processes: On this machine; else one a GPU, or one.
        module: The command is a module, as for python -m.
        max_restarts: How often all are started anew when one has failed.
        grace: Seconds to save and end after SIGTERM or Ctrl-C, before the processes are killed.
    """
    ranks = max(1, torch.cuda.device_count()) if processes is None else processes
    for name, value, least in (("processes", ranks, 1), ("max_restarts", max_restarts, 0), ("grace", grace, 1)):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, got {value}")
    options = [f"--nproc-per-node={ranks}", f"--max-restarts={max_restarts}", f"--shutdown-timeout={grace}"]
    program = [sys.executable, "-c", TIED, *program_for(command, module=module)]
    return partial(_torchrun, [*rendezvous.options, *options, "--no-python", *program], ranks)


def program_for(command: Sequence[str], *, module: bool) -> list[str]:
    """Return what one process runs."""
    if not command:
        raise ValueError("command must be a script and its arguments, got none; write: cutmix launch -n 2 train.py")
    is_module = module or command[0] == "cutmix"
    if not is_module and not Path(command[0]).is_file():
        raise ValueError(f"command must be a script, got {command[0]!r}, which is no file; for a module write -m")
    return [sys.executable, "-u", *(["-m"] if is_module else []), *command]


def set_apart(arguments: Sequence[str]) -> list[str]:
    """Put ``--`` before the command that is to be launched, whose options are its own."""
    place = 0
    while place < len(arguments) and arguments[place].startswith("-"):
        if arguments[place] == "--":
            return [*arguments]
        place += 1 if arguments[place] in FLAGS or _has_its_value(arguments[place]) else 2
    return [*arguments[:place], "--", *arguments[place:]]


def _has_its_value(option: str) -> bool:
    """Tell whether the value is written together with the option, as in ``-n2``."""
    return "=" in option or re.fullmatch(r"-n\d+", option) is not None


def _torchrun(arguments: list[str], processes: int) -> int:
    """Be torchrun, and return the exit code of the job."""
    # Else a restart after a killed process fails or hangs: all would meet again in the store of the round before.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    if "LOGLEVEL" not in os.environ:
        logging.disable(logging.WARNING)  # which process got which signal
    sys.argv = ["torchrun", *arguments]
    try:
        runpy.run_module("torch.distributed.run", run_name="__main__")
    except Exception as ended:
        code = exit_code(ended)
        if code is None:
            raise
        return code
    return 0


def exit_code(ended: Any) -> int | None:  # noqa: ANN401 - torchrun's own errors, told by what they carry
    """Return the code of the process that failed first, or of the signal that ended the job, as a shell has it."""
    if hasattr(ended, "sigval"):
        return 128 + ended.sigval
    if hasattr(ended, "get_first_failure"):
        _, failure = ended.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    return None
