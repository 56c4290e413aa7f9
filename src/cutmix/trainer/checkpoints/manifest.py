"""What stands in a checkpoint: each file with its size and digest, under a seal of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, final

from safetensors import SafetensorError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
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
class Form(NamedTuple):
    """What a sharded tensor is as a whole."""

    dtype: str
    shape: Sequence[int]


@final
class Shards(NamedTuple):
    """The files that hold shards of the tensors that a file would have, and what these are as a whole, by name."""

    files: Sequence[str]
    tensors: Mapping[str, Form]


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a checkpoint, and how tensors in them are stored: by file and name."""

    files: Mapping[str, Listed]
    aliases: Mapping[str, Mapping[str, str]]
    views: Mapping[str, Mapping[str, str]]
    shards: Mapping[str, Shards]

    @property
    def whole(self) -> list[str]:
        """Return the files of tensors that hold no shards."""
        shards = {name for shards in self.shards.values() for name in shards.files}
        return [name for name in self.files if name != VALUES and name not in shards]

    @staticmethod
    def together(parts: Sequence[Manifest]) -> Manifest:
        """Return what stands in a checkpoint that several ranks have written, each a part of it."""
        shards = {
            name: Shards([file for part in parts for file in part.shards[name].files], first.tensors)
            for name, first in parts[0].shards.items()
        }
        return Manifest(
            files={name: listed for part in parts for name, listed in part.files.items()},
            aliases={name: aliases for part in parts for name, aliases in part.aliases.items()},
            views={name: views for part in parts for name, views in part.views.items()},
            shards=shards,
        )

    def text(self) -> bytes:
        """Return the manifest as it is written."""
        files = {name: listed._asdict() for name, listed in self.files.items()}
        fields = {"format": FORMAT, "files": files, "aliases": dict(self.aliases), "views": dict(self.views)}
        if self.shards:
            fields["shards"] = {name: _as_json(shards) for name, shards in self.shards.items()}
        return _sealed(fields)

    @staticmethod
    def of(folder: Path) -> Manifest:
        """Read the manifest of ``folder``, and refuse a folder that holds anything else than it says."""
        found = _plain_files(folder)
        fields = _unsealed(folder / MANIFEST)
        try:
            files = {name: Listed(listed["size"], listed["sha256"]) for name, listed in fields["files"].items()}
            shards = {name: _shards(held) for name, held in fields.get("shards", {}).items()}
            manifest = Manifest(files, dict(fields["aliases"]), dict(fields["views"]), shards)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise refusal(folder / MANIFEST, "list files, aliases, views and shards", f"other: {error!r}") from error
        _check_names(folder, files, found)
        return manifest

    @contextmanager
    def verified(self, folder: Path, name: str) -> Generator[BinaryIO]:
        """Lend a file of ``folder`` that is, to the bit, the one that was listed."""
        path = folder / name
        if name not in self.files:
            raise refusal(path, "be there", "no such file")
        listed = self.files[name]
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != listed.size:
                    raise refusal(path, f"have {listed.size} bytes", f"{size}")
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest != listed.sha256:
                    raise refusal(path, f"have the SHA-256 {listed.sha256}", digest)
                file.seek(0)
                yield file
        except OSError as error:
            raise refusal(path, "be readable", f"'{error.strerror}'") from error


def _as_json(shards: Shards) -> dict[str, Any]:
    tensors = {name: form._asdict() for name, form in shards.tensors.items()}
    return {"files": list(shards.files), "tensors": tensors}


def _shards(fields: Mapping[str, Any]) -> Shards:
    tensors = {name: Form(form["dtype"], tuple(form["shape"])) for name, form in fields["tensors"].items()}
    return Shards(tuple(fields["files"]), tensors)


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
        raise refusal(path, "be there and readable", f"'{error.strerror}'") from error
    try:
        fields = json.loads(data)
        written = {name: value for name, value in fields.items() if name != "sha256"}
    except (ValueError, AttributeError, RecursionError) as error:
        raise refusal(path, "be a JSON object", f"other: {error}") from error
    if data != _sealed(written):
        raise refusal(path, "have the SHA-256 that it ends with", "another")
    version = written.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise NewerFormatError(
            f"{path} must be of format {FORMAT} or older, got format {version}; it was written by a newer cutmix: "
            "upgrade with pip install -U cutmix"
        )
    if version != FORMAT:
        raise refusal(path, f"be of format {FORMAT}", f"format {version!r}")
    return written


def _plain_files(folder: Path) -> set[str]:
    """Return what is in ``folder``: files that are its own, no links, nothing that would be waited for."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except OSError as error:
        raise refusal(folder, "be a folder that can be read", f"'{error.strerror}'") from error
    if MANIFEST not in found:
        raise refusal(folder / MANIFEST, "be there", "no such file")
    for name in sorted(found):
        if not found[name]:
            raise refusal(folder / name, "be a plain file", "a link, a folder or a device")
    return set(found)


def _check_names(folder: Path, files: Mapping[str, Listed], found: set[str]) -> None:
    """Refuse a folder that holds more or less than what is listed, or a list of what lies elsewhere."""
    for name in files:
        if name != VALUES and not _FILE.fullmatch(name):
            raise refusal(folder / MANIFEST, f"list {VALUES} and .safetensors files beside it", repr(name))
    wanted = {VALUES, MANIFEST, *files}
    for name in sorted(wanted - found):
        raise refusal(folder / name, "be there", "no such file")
    for name in sorted(found - wanted):
        raise refusal(folder / name, f"not be there, as {MANIFEST} does not list it", "a file")


@contextmanager
def as_written(path: Path) -> Generator[None]:
    """Say which file it is that cannot be read."""
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError, LookupError, SafetensorError) as error:
        raise CheckpointError(f"{path} must hold what this library writes, got other: {error}") from error


def refusal(path: Path, rule: str, found: str) -> CheckpointError:
    """Return what is raised of a file that is not as it was written."""
    return CheckpointError(f"{path} must {rule}, got {found}; it is torn, altered or no checkpoint: take another one.")
