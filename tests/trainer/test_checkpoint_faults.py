"""However a write ends, the checkpoints that were there are there, and what went wrong is said."""

import errno
import os
import resource
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cutmix.trainer.checkpoints import checkpoint
from cutmix.trainer.checkpoints.checkpoint import Content, checkpoints, newest, remove, sweep, write
from small_checkpoints import content, number_in, two_in


@pytest.fixture
def two(tmp_path):
    return two_in(tmp_path)


class Killed(BaseException):
    """Ends a write where a kill would: nothing is cleared away after it."""


@contextmanager
def killed_at(moment, monkeypatch):
    """Let ``moment`` acts on the disk happen, and none after them. Yields a list of the acts."""
    acts = []

    def dying(act):
        def run(*args, **named):
            acts.append(act)
            if len(acts) > moment:
                raise Killed
            return act(*args, **named)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", dying(os.fsync))
        patch.setattr(shutil, "rmtree", dying(shutil.rmtree))
        for name in ["mkdir", "open", "rename", "unlink"]:
            patch.setattr(Path, name, dying(getattr(Path, name)))
        yield acts


def moments(folder, monkeypatch):
    """How many acts on the disk writing ``folder`` takes."""
    with killed_at(1000, monkeypatch) as acts:
        write(folder, content())
    return len(acts)


def test_a_write_killed_at_any_moment_leaves_the_checkpoints_that_were_there(two, monkeypatch):
    count = moments(two / "ep0-ba3", monkeypatch)
    assert count > 10
    for moment in range(count):
        remove(two / "ep0-ba3")

        with pytest.raises(Killed), killed_at(moment, monkeypatch):
            write(two / "ep0-ba3", content(3.0))

        sweep(two)
        assert number_in(newest(two)) == (3.0 if (two / "ep0-ba3").exists() else 2.0)
        assert not list(two.glob(".*"))
        write(two / "ep0-ba3", content(3.0))
        assert number_in(newest(two)) == 3.0


def test_a_replacement_killed_at_any_moment_leaves_the_old_one_or_the_new_one(two, monkeypatch):
    count = moments(two / "ep0-ba2", monkeypatch)
    found = set()
    for moment in range(count):
        write(two / "ep0-ba2", content(2.0))

        with pytest.raises(Killed), killed_at(moment, monkeypatch):
            write(two / "ep0-ba2", content(3.0))

        sweep(two)
        found.add(number_in(two / "ep0-ba2"))
        assert not list(two.glob(".*"))
    assert found == {2.0, 3.0}


def test_a_removal_killed_at_any_moment_leaves_the_checkpoint_or_nothing(two, monkeypatch):
    for moment in range(3):
        write(two / "ep0-ba2", content(2.0))

        with pytest.raises(Killed), killed_at(moment, monkeypatch):
            remove(two / "ep0-ba2")

        sweep(two)
        assert not (two / "ep0-ba2").exists() or number_in(two / "ep0-ba2") == 2.0
        assert not list(two.glob(".*"))


def test_sweeping_leaves_alone_what_is_not_ours(two, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").touch()
    (two / ".git").mkdir()
    (two / ".ep0-ba7.writing").symlink_to(elsewhere)

    sweep(two)

    assert sorted(path.name for path in two.iterdir()) == [".git", "ep0-ba1", "ep0-ba2"]
    assert (elsewhere / "kept").exists()


def test_the_manifest_is_written_last_and_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    acts = []
    sync, rename, write_file = os.fsync, Path.rename, checkpoint._write_file
    monkeypatch.setattr(
        os, "fsync", lambda file: (acts.append(str(Path(f"/proc/self/fd/{file}").readlink())), sync(file))
    )
    monkeypatch.setattr(Path, "rename", lambda path, to: (acts.append(f"-> {to.name}"), rename(path, to)))
    monkeypatch.setattr(
        checkpoint, "_write_file", lambda path, chunks: (acts.append(path.name), write_file(path, chunks))[1]
    )

    write(tmp_path / "ep0-ba3", content())

    working = tmp_path / ".ep0-ba3.writing"
    names = ["state.json", "weights.safetensors", "training.safetensors", "manifest.json"]
    written = [act for name in names for act in (name, str(working / name))]
    assert acts == [*written, str(working), "-> ep0-ba3", str(tmp_path)]


@contextmanager
def files_of_at_most(size):
    """What a full disk or a quota is like."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def intact(folder):
    """Assert that ``folder`` holds the two checkpoints that were there, and nothing else."""
    assert sorted(path.name for path in folder.iterdir()) == ["ep0-ba1", "ep0-ba2"]
    assert [number_in(path) for path in checkpoints(folder)] == [1.0, 2.0]


@pytest.mark.parametrize("name", ["ep0-ba3", "ep0-ba2"])
def test_a_file_that_may_not_grow_is_an_error_with_the_bytes_needed_and_free(name, two):
    large = Content({"weights": {"layer": torch.zeros(25_000)}}, {})

    with (
        pytest.raises(
            OSError,
            match=r"save_folder must take a checkpoint of 100\d\d\d bytes, got 'File too large' for .* with \d+ bytes free; make room",
        ) as raised,
        files_of_at_most(50_000),
    ):
        write(two / name, large)

    assert raised.value.errno == errno.EFBIG
    intact(two)


@pytest.mark.parametrize("name", ["ep0-ba3", "ep0-ba2"])
@pytest.mark.parametrize("moment", range(6))
def test_a_full_disk_at_any_moment_leaves_what_was_there(name, moment, two, monkeypatch):
    sync, count = os.fsync, iter(range(100))

    def full(file):
        if next(count) == moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match=r"save_folder .* 'No space left on device' .* bytes free"):
        write(two / name, content(3.0))

    monkeypatch.undo()
    if moment < 5:  # at the last the new one has its name, and only the folder above it is not synced
        intact(two)


def test_what_is_free_is_told_without_what_was_begun(two, monkeypatch):
    free = shutil.disk_usage(two)._replace(free=12_345)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: (intact(two), free)[1])

    with pytest.raises(OSError, match="with 12345 bytes free"), files_of_at_most(50):
        write(two / "ep0-ba3", content())


def test_a_move_that_fails_puts_back_what_was_there(two, monkeypatch):
    rename = Path.rename

    def fail(path, to):
        if path.name == ".ep0-ba2.writing":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)

    with pytest.raises(OSError, match="Input/output error"):
        write(two / "ep0-ba2", content(3.0))
    intact(two)


def test_a_path_too_long_is_an_error_that_shows_it(two):
    for parent in [two / ("long" * 100), Path(*[two, *["long" * 50] * 30])]:
        with pytest.raises(OSError, match=r"save_folder .* got 'File name too long' for .*long.* bytes free"):
            write(parent / "ep0-ba3", content())
    intact(two)


@pytest.mark.parametrize("way", ["notes", "notes/deeper"])
def test_a_file_in_place_of_the_folder_is_an_error_that_shows_it(way, two):
    (two / "notes").write_text("mine")

    with pytest.raises(OSError, match=r"save_folder .* got '(Not a directory|File exists)' for .*notes.* bytes free"):
        write(two / way / "ep0-ba3", content())

    assert (two / "notes").read_text() == "mine"


def test_a_file_in_place_of_the_checkpoint_stays(two):
    (two / "ep0-ba3").write_text("mine")

    with pytest.raises(OSError, match=r"save_folder .* got 'Not a directory' for .*ep0-ba3"):
        write(two / "ep0-ba3", content())

    assert (two / "ep0-ba3").read_text() == "mine"
    assert not list(two.glob(".*"))


@contextmanager
def as_nobody():
    """Be a user to whom a read-only folder is one; root is none."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_read_only_folder_is_an_error_that_shows_it():
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write(place / "ep0-ba1", content())
        place.chmod(0o555)

        with (
            pytest.raises(PermissionError, match=r"save_folder .* got 'Permission denied' for .* bytes free"),
            as_nobody(),
        ):
            write(place / "ep0-ba2", content())

        assert [path.name for path in place.iterdir()] == ["ep0-ba1"]
        place.chmod(0o755)
