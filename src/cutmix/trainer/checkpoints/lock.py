"""One trainer a folder."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

NAME = "trainer.lock"
_held: set[str] = set()
"""Folders that this process holds: the kernel would lend it the same lock twice."""


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold ``folder`` alone.

    The lock is the kernel's, on a file that says who holds it: it ends with the process, however that ends, and the
    workers of a loader, which may outlive the process, do not inherit it. Windows has no such lock: nothing is held.

    Raises:
        ValueError: when another trainer holds the folder, which is named, or when it cannot be written to.
    """
    if sys.platform == "win32":
        yield
        return
    path = os.path.realpath(folder)
    if path in _held:
        # Not read from the file: closing it would give up the lock.
        raise ValueError(_refusal(folder, "another trainer of this process trains in it"))
    with _opened(folder) as file:
        _lock(file, folder)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)


def _opened(folder: Path) -> TextIO:
    try:
        return (folder / NAME).open("a+", encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"save_folder must be a folder that can be written to, got {folder}: {error.strerror}; name another folder"
        ) from error


def _lock(file: TextIO, folder: Path) -> None:
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        raise ValueError(_refusal(folder, _holder(file.read()))) from None
    file.truncate(0)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    json.dump({"host": socket.gethostname(), "process": os.getpid(), "since": since}, file)
    file.flush()


def _holder(signed: str) -> str:
    if not signed:
        return "another process has just begun to train in it"
    holder = json.loads(signed)
    return f"process {holder['process']} on {holder['host']} trains in it since {holder['since']}"


def _refusal(folder: Path, held: str) -> str:
    return f"save_folder must be this trainer's alone, got {folder}: {held}; name another folder, or end that one"
