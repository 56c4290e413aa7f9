"""Checkpoints: folders that are there as a whole or not at all, and that prove what they hold."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, final

from cutmix.core.world import ALONE
from cutmix.trainer.checkpoints.codec import decode, encode
from cutmix.trainer.checkpoints.manifest import (
    MANIFEST,
    VALUES,
    CheckpointError,
    Listed,
    Manifest,
    NewerFormatError,
    Shards,
    as_written,
)
from cutmix.trainer.checkpoints.shards import file_of, form_of, held_in, name_of_shards, rest_of, sharded_in
from cutmix.trainer.checkpoints.tensorfile import TensorFile, read_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cutmix.core.time import Timestamp
    from cutmix.core.world import World
    from cutmix.trainer.checkpoints.shards import Saved

WEIGHTS = "weights.safetensors"
_NAME = re.compile(r"ep(\d+)-ba(\d+)")
_ASIDE = re.compile(rf"{_NAME.pattern}\.\d+")
_STRAY = re.compile(r"\.(ep\d+-ba\d+(?:\.\d+)?)\.(writing|replaced|removed)")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What a checkpoint holds: ``tensors`` by file and name, and ``values``, of the kinds that ``codec`` takes."""

    tensors: Mapping[str, Mapping[str, Saved]]
    values: Mapping[str, Any]


def name_for(time: Timestamp) -> str:
    """Return the name of the checkpoint of this moment: ``ep3-ba1200`` after 3 epochs and 1200 batches."""
    return f"ep{time.epoch}-ba{time.batch}"


def write(folder: Path, content: Content, world: World = ALONE) -> None:
    """Write ``content`` beside ``folder`` and bring it there in one move, in place of a checkpoint of that name.

    All ranks of ``world`` call it: each writes what it holds of tensors that are sharded, rank 0 everything else.
    Tensors may be of any strides, on any device. Different views of one memory are stored apart.

    Raises:
        ValueError: when a value or a tensor cannot be stored; nothing is touched.
        OSError: when there is no room, or no right to it; other checkpoints stay as they are.
    """
    if not _NAME.fullmatch(folder.name):
        raise ValueError(f"folder must be named as name_for names it, such as ep3-ba1200, got {folder.name!r}")
    own = world.agreed(lambda: _Own.of(content, world))
    needed = sum(world.gathered(own.size))
    try:
        _bring(folder, own, world)
    except OSError as error:
        told = world.broadcast(_refusal(folder, needed, error) if world.rank == 0 else "")
        raise OSError(error.errno, told) from error


def read(folder: Path, world: World = ALONE) -> Content:
    """Return what ``folder`` holds, all of it verified. Tensors that were one memory, seen alike, are one again.

    All ranks of ``world`` call it, and share the verifying of shards. What is sharded stays on the disk until it is
    asked for.

    Raises:
        CheckpointError: when anything in it is not as it was written.
    """
    return world.agreed(lambda: _read(folder, world))


def read_weights(folder: Path) -> Mapping[str, Saved]:
    """Return the tensors of the model alone, verified."""
    return _tensors_in(folder, Manifest.of(folder), WEIGHTS)


def verify(folder: Path, world: World = ALONE) -> None:
    """Refuse a checkpoint that is not, to the bit, as it was written; the ranks of ``world`` share the work.

    Raises:
        CheckpointError: it names the file and what is wrong with it.
    """
    world.agreed(lambda: _verify(folder, world))


def checkpoints(parent: Path) -> list[Path]:
    """Return the checkpoints in ``parent`` by their names, the oldest first; none is looked into."""
    if not is_folder(parent):
        return []
    return sorted((path for path in parent.iterdir() if _NAME.fullmatch(path.name)), key=_moment)


def is_folder(path: Path) -> bool:
    """Tell whether a folder is there; a path too long is none, where ``Path.is_dir`` raises."""
    return os.path.isdir(path)  # noqa: PTH112


def newest(parent: Path, world: World = ALONE) -> Path | None:
    """Return the newest checkpoint in ``parent`` that verifies; those passed over are named in warnings.

    Raises:
        NewerFormatError: when the newest is whole, but of a format that is not known here.
    """
    for name in world.broadcast([folder.name for folder in reversed(checkpoints(parent))]):
        folder = parent / name
        try:
            verify(folder, world)
        except NewerFormatError:
            raise
        except CheckpointError as error:
            warnings.warn(f"{error} It is passed over for the checkpoint before it.", stacklevel=2)
        else:
            return folder
    return None


def remove(folder: Path) -> None:
    """Remove a checkpoint, which is gone as a whole at once."""
    removed = _beside(folder, "removed")
    _discard(removed)
    folder.rename(removed)
    _discard(removed)


def set_aside_after(folder: Path) -> list[Path]:
    """Move checkpoints that are later than ``folder`` by its name, be it there or not; return where they are now.

    Nobody looks for one under a name such as ``ep1-ba8.1``.
    """
    moved = [_moved_aside(path) for path in checkpoints(folder.parent) if _moment(path) > _moment(folder)]
    if moved:
        _sync(folder.parent)
    return moved


def given_up(parent: Path) -> list[Path]:
    """Return the checkpoints in ``parent`` that were set aside."""
    aside = [path for path in parent.iterdir() if _ASIDE.fullmatch(path.name)]
    return sorted(aside, key=lambda path: (_moment(path), path.name))


def sweep(parent: Path) -> None:
    """Clear away what interrupted writes and removals have left in ``parent``; only one process may do so."""
    strays = [(found, path) for path in parent.glob(".*") if (found := _STRAY.fullmatch(path.name))]
    for found, path in strays:
        home = parent / found[1]
        # Killed between the two moves of a replacement: what was there before is whole, and goes back.
        if found[2] == "replaced" and not home.exists():
            path.rename(home)
        else:
            _discard(path)


def _moment(folder: Path) -> tuple[int, int]:
    """Return the batches and epochs that a checkpoint's name tells."""
    epochs, batches, *_ = re.findall(r"\d+", folder.name)
    return int(batches), int(epochs)


def _moved_aside(folder: Path) -> Path:
    named = (folder.with_name(f"{folder.name}.{number}") for number in count(1))
    aside = next(path for path in named if not path.exists())
    folder.rename(aside)
    return aside


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Own:
    """What one rank writes of a checkpoint."""

    text: bytes  # of the values, on rank 0
    files: Mapping[str, TensorFile]
    shards: Mapping[str, Shards]  # as far as this rank has any

    @staticmethod
    def of(content: Content, world: World) -> _Own:
        text = encode(dict(content.values)).encode() if world.rank == 0 else b""
        files, shards = dict[str, TensorFile](), dict[str, Shards]()
        for stem, tensors in content.tensors.items():
            name, held = f"{stem}.safetensors", held_in(tensors)
            if world.rank == 0:
                files[name] = rest_of(tensors, held)
            if held:
                own = {name_of_shards(stem, world): file} if (file := file_of(held)).stored else {}
                files |= own
                shards[name] = Shards([*own], {} if world.rank else {key: form_of(tensors[key]) for key in held})
        return _Own(text, files, shards)

    @property
    def size(self) -> int:
        return len(self.text) + sum(file.size for file in self.files.values())

    def write(self, working: Path) -> Manifest:
        """Write it into ``working``, and return what the manifest says of it."""
        if self.files and not working.is_dir():
            raise OSError(errno.ENOENT, "a machine that does not see the folder which rank 0 has made")
        listed = {VALUES: _write_file(working / VALUES, [self.text])} if self.text else {}
        listed |= {name: _write_file(working / name, file.chunks()) for name, file in self.files.items()}
        return Manifest(
            files=listed,
            aliases={name: file.aliases for name, file in self.files.items() if file.aliases},
            views={name: file.views for name, file in self.files.items() if file.views},
            shards=self.shards,
        )


def _bring(folder: Path, own: _Own, world: World) -> None:
    """Write a checkpoint beside ``folder``, the manifest last, and move it there; leave nothing else behind."""
    working = _beside(folder, "writing")

    def finish() -> None:
        _write_file(working / MANIFEST, [Manifest.together(parts).text()])
        _sync(working)
        _publish(working, folder)

    try:
        world.led(partial(_make, working))
        parts = world.collected(world.agreed(partial(own.write, working)))
        world.led(finish)
    finally:
        if world.rank == 0:
            _discard(working)


def _read(folder: Path, world: World) -> Content:
    manifest = Manifest.of(folder)
    with manifest.verified(folder, VALUES) as file, as_written(folder / VALUES):
        values = decode(file.read().decode("ascii"))
    tensors = {name.removesuffix(".safetensors"): _tensors_in(folder, manifest, name, world) for name in manifest.whole}
    return Content(tensors, values)


def _tensors_in(folder: Path, manifest: Manifest, name: str, world: World = ALONE) -> dict[str, Saved]:
    with manifest.verified(folder, name) as file, as_written(folder / name):
        tensors = read_tensors(file.read(), manifest.aliases.get(name, {}), manifest.views.get(name, {}))
    if name not in manifest.shards:
        return {**tensors}
    _verify_files(folder, manifest, manifest.shards[name].files, world)
    return {**tensors, **sharded_in(folder, manifest, name, world.rank)}


def _verify(folder: Path, world: World) -> None:
    manifest = Manifest.of(folder)
    _verify_files(folder, manifest, list(manifest.files), world)


def _verify_files(folder: Path, manifest: Manifest, names: Sequence[str], world: World) -> None:
    """Verify this rank's share of the files."""
    for name in names[world.rank :: world.size]:
        with manifest.verified(folder, name):
            pass


def _beside(folder: Path, purpose: str) -> Path:
    return folder.with_name(f".{folder.name}.{purpose}")


def _make(working: Path) -> None:
    """Make an empty folder, and those above it that are not there."""
    _discard(working)
    missing = [path for path in working.parents if not path.exists()]
    working.mkdir(parents=True)
    for path in missing:
        _sync(path.parent)


def _write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> Listed:
    """Write a new file down to the disk, and return what the manifest says of it."""
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return Listed(size, digest.hexdigest())


def _sync(folder: Path) -> None:
    """Bring the names in ``folder`` down to the disk."""
    if os.name == "nt":  # which has no such thing
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(working: Path, folder: Path) -> None:
    """Move ``working`` to where it belongs, the checkpoint that stands there out of its way."""
    replaced = _beside(folder, "replaced")
    _discard(replaced)
    if folder.is_dir():
        folder.rename(replaced)
    try:
        working.rename(folder)
    except OSError:
        if replaced.exists():
            replaced.rename(folder)
        raise
    _sync(folder.parent)
    _discard(replaced)


def _discard(path: Path) -> None:
    """Clear away what is at ``path``, as far as that can be done; a link goes, and not what it leads to."""
    with suppress(OSError):
        if path.is_symlink():
            path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _refusal(folder: Path, needed: int, error: OSError) -> str:
    there = next((path for path in folder.parents if os.path.exists(path)), folder.parent)  # noqa: PTH110 - a path too long is not there
    return (
        f"save_folder must take a checkpoint of {needed} bytes, got '{error.strerror}' for {folder} with "
        f"{shutil.disk_usage(there).free} bytes free; make room, or name another folder. Earlier checkpoints are intact"
    )
