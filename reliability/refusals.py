"""What is refused: folders that cannot be written, and two trainers in one."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cutmix.trainer.checkpoints.checkpoint import checkpoints, verify
from reliability.job import INTERVAL, Job
from reliability.processes import started
from reliability.runs import SLACK, check_same, running, wait_for_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from reliability.checking import Attempt

FITS_TWO = 60_000
"""Bytes of a disk with room for a checkpoint or two."""
GROWS_TO = 2_000  # bytes of a file, less than a checkpoint's
NOBODY = 65534
NEW_MOUNTS, NEW_USERS = 0x00020000, 0x10000000


def unwritable(attempt: Attempt) -> None:
    """Train where nothing, or not much, can be written: a clear error, and what was written is whole."""
    spoil, named = attempt.one_of(UNWRITABLE)
    job = Job(attempt.folder)
    with started(job.folder / "said", _train_and_verify, job, spoil) as child:
        assert child.end() == 1, child.said()
        assert re.search(named, child.said(), re.DOTALL), child.said()


def _train_and_verify(job: Job, spoil: Callable[[Job], Job]) -> None:
    job = spoil(job)
    try:
        job.train()
    finally:
        there = checkpoints(job.checkpoints) if os.access(job.folder, os.R_OK) else []
        for one in there:
            verify(one)
        print(f"{len(there)} checkpoints are intact", file=sys.stderr)


def _full_disk(job: Job) -> Job:
    """Mount a small disk there, for this process alone; where that is not allowed, let no file grow."""
    run, libc, user, group = job.folder / "run", ctypes.CDLL(None), os.getuid(), os.getgid()
    run.mkdir()
    if libc.unshare(NEW_MOUNTS if user == 0 else NEW_MOUNTS | NEW_USERS) == 0:
        if user != 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        libc.mount(b"tmpfs", bytes(run), b"tmpfs", 0, f"size={FITS_TWO}".encode())
    if shutil.disk_usage(run).total > 2 * FITS_TWO:
        resource.setrlimit(resource.RLIMIT_FSIZE, (GROWS_TO, GROWS_TO))
    return job


def _read_only(job: Job) -> Job:
    """Take the right to write; from root, who has it everywhere, by being nobody."""
    (job.folder / "run").mkdir()
    for path in (job.folder, job.folder / "run"):
        path.chmod(0o555)
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    return job


def _path_too_long(job: Job) -> Job:
    return Job(job.folder / ("long" * 100))


def _file_in_place_of_the_folder(job: Job) -> Job:
    (job.folder / "run").touch()
    return job


def _file_in_place_of_the_checkpoints(job: Job) -> Job:
    (job.folder / "run").mkdir()
    job.checkpoints.touch()
    return job


BYTES = r"save_folder must take a checkpoint of \d+ bytes, got '{}' for .* with \d+ bytes free"
UNWRITABLE = (
    (
        _full_disk,
        f"[1-9] checkpoints are intact.*{BYTES.format('No space left on device')}|{BYTES.format('File too large')}",
    ),
    (_read_only, "save_folder must be a folder that can be written to, got .*: Permission denied"),
    (_path_too_long, "save_folder must be a folder.*File name too long"),
    (_file_in_place_of_the_folder, "save_folder must be a folder.*(Not a directory|File exists)"),
    (_file_in_place_of_the_checkpoints, "(Not a directory|File exists)"),
)


def two_trainers(attempt: Attempt) -> None:
    """Start a second trainer in the folder of one that runs: it is refused, the first is named, and ends as ever."""
    step = attempt.chance.randrange(INTERVAL, Job(attempt.folder).steps - SLACK)
    job = Job(attempt.folder, gate=step)
    with running(job) as first:
        wait_for_step(job, step)
        with started(job.folder / "second", Job(job.folder).train) as second:
            assert second.end() == 1, second.said()
        named = f"process {first.pid} on {socket.gethostname()} trains in it since "
        assert named in second.said(), second.said()
        job.open_file.touch()
        assert first.end() == 0, first.said()
    check_same(job)
