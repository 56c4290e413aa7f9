"""What stands in a checkpoint: each file with its size and digest, under a seal of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

FORMAT = 1
"""The version of the format that is written, and the newest that is read."""
MANIFEST = "manifest.json"
VALUES = "state.json"
_FILE = re.compile(r"[A-Za-z0-9_-]+\.safetensors")
_LARGEST = 1 << 26  # bytes of a manifest: it is read as a whole before anything vouches for it


class CheckpointError(ValueError):
    """A checkpoint that is torn, altered, or none at all; its text names the file."""


@final
class NewerFormatError(CheckpointError):
    """A whole checkpoint that a newer version of this library has written."""


@final
class Listed(NamedTuple):
    """What is said of a file."""

    size: int
    sha256: str


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a checkpoint, and how tensors in them are stored: by file and name."""

    files: Mapping[str, Listed]
    aliases: Mapping[str, Mapping[str, str]]
    views: Mapping[str, Mapping[str, str]]

    def text(self) -> bytes:
        """Return the manifest as it is written."""
        files = {name: listed._asdict() for name, listed in self.files.items()}
        return _sealed({"format": FORMAT, "files": files, "aliases": dict(self.aliases), "views": dict(self.views)})

    @staticmethod
    def of(folder: Path) -> Manifest:
        """Read the manifest of ``folder``, and refuse a folder that holds anything else than it says."""
        found = _plain_files(folder)
        fields = _unsealed(folder / MANIFEST)
        try:
            files = {name: Listed(listed["size"], listed["sha256"]) for name, listed in fields["files"].items()}
            manifest = Manifest(files, dict(fields["aliases"]), dict(fields["views"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _refusal(folder / MANIFEST, "list files, aliases and views", f"other: {error!r}") from error
        _check_names(folder, files, found)
        return manifest

    @contextmanager
    def verified(self, folder: Path, name: str) -> Generator[BinaryIO]:
        """Lend a file of ``folder`` that is, to the bit, the one that was listed."""
        path = folder / name
        if name not in self.files:
            raise _refusal(path, "be there", "no such file")
        listed = self.files[name]
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != listed.size:
                    raise _refusal(path, f"have {listed.size} bytes", f"{size}")
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest != listed.sha256:
                    raise _refusal(path, f"have the SHA-256 {listed.sha256}", digest)
                file.seek(0)
                yield file
        except OSError as error:
            raise _refusal(path, "be readable", f"'{error.strerror}'") from error


def _sealed(fields: Mapping[str, Any]) -> bytes:
    """Return ``fields`` as JSON, with the digest of that JSON as one more."""
    digest = hashlib.sha256(json.dumps(fields, indent=1).encode()).hexdigest()
    return json.dumps({**fields, "sha256": digest}, indent=1).encode()


def _unsealed(path: Path) -> dict[str, Any]:
    """Return what stands in a manifest whose seal holds, and whose format is known."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST)
    except OSError as error:
        raise _refusal(path, "be there and readable", f"'{error.strerror}'") from error
    try:
        fields = json.loads(data)
        written = {name: value for name, value in fields.items() if name != "sha256"}
    except (ValueError, AttributeError, RecursionError) as error:
        raise _refusal(path, "be a JSON object", f"other: {error}") from error
    if data != _sealed(written):
        raise _refusal(path, "have the SHA-256 that it ends with", "another")
    version = written.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise NewerFormatError(
            f"{path} must be of format {FORMAT} or older, got format {version}; it was written by a newer cutmix: "
            "upgrade with pip install -U cutmix"
        )
    if version != FORMAT:
        raise _refusal(path, f"be of format {FORMAT}", f"format {version!r}")
    return written


def _plain_files(folder: Path) -> set[str]:
    """Return what is in ``folder``: files that are its own, no links, nothing that would be waited for."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except OSError as error:
        raise _refusal(folder, "be a folder that can be read", f"'{error.strerror}'") from error
    if MANIFEST not in found:
        raise _refusal(folder / MANIFEST, "be there", "no such file")
    for name in sorted(found):
        if not found[name]:
            raise _refusal(folder / name, "be a plain file", "a link, a folder or a device")
    return set(found)


def _check_names(folder: Path, files: Mapping[str, Listed], found: set[str]) -> None:
    """Refuse a folder that holds more or less than what is listed, or a list of what lies elsewhere."""
    for name in files:
        if name != VALUES and not _FILE.fullmatch(name):
            raise _refusal(folder / MANIFEST, f"list {VALUES} and .safetensors files beside it", repr(name))
    wanted = {VALUES, MANIFEST, *files}
    for name in sorted(wanted - found):
        raise _refusal(folder / name, "be there", "no such file")
    for name in sorted(found - wanted):
        raise _refusal(folder / name, f"not be there, as {MANIFEST} does not list it", "a file")


def _refusal(path: Path, rule: str, found: str) -> CheckpointError:
    return CheckpointError(f"{path} must {rule}, got {found}; it is torn, altered or no checkpoint: take another one.")
