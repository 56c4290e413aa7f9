"""A checkpoint is there as a whole or not at all, and proves what it holds."""

import errno
import hashlib
import json
import os
import random
import resource
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cutmix.core.time import Timestamp
from cutmix.trainer import checkpoint
from cutmix.trainer.checkpoint import Content, checkpoints, name_for, newest, read, remove, sweep, verify, write
from cutmix.trainer.manifest import CheckpointError, NewerFormatError
from cutmix.trainer.tensorfile import DTYPES, bytes_of, name_of


def content(number=1.0):
    tensors = {"weights": {"layer": torch.full((2, 3), number)}, "training": {"momentum": torch.zeros(2)}}
    return Content(tensors, {"number": number})


def number_in(folder):
    found = read(folder)

    assert torch.equal(found.tensors["weights"]["layer"], torch.full((2, 3), found.values["number"]))
    return found.values["number"]


def stored(tensors, tmp_path):
    """What comes back of ``tensors``."""
    write(tmp_path / "ep0-ba1", Content({"weights": tensors}, {}))
    return read(tmp_path / "ep0-ba1").tensors["weights"]


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and bytes_of(one) == bytes_of(other)


@pytest.fixture
def two(tmp_path):
    """A folder with two checkpoints, of the numbers 1 and 2."""
    write(tmp_path / "ep0-ba1", content(1.0))
    write(tmp_path / "ep0-ba2", content(2.0))
    return tmp_path


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "runs" / "ep0-ba3", content(2.5))

    assert number_in(tmp_path / "runs" / "ep0-ba3") == 2.5
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "ep0-ba3",
        "manifest.json",
        "runs",
        "state.json",
        "training.safetensors",
        "weights.safetensors",
    ]


def test_the_newest_is_the_one_with_most_batches_then_epochs(tmp_path):
    for time in [Timestamp(1, 10), Timestamp(0, 9), Timestamp(0, 10), Timestamp(0, 2)]:
        write(tmp_path / name_for(time), content())

    assert [path.name for path in checkpoints(tmp_path)] == ["ep0-ba2", "ep0-ba9", "ep0-ba10", "ep1-ba10"]
    assert newest(tmp_path) == tmp_path / "ep1-ba10"
    assert newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=name_of)
def test_tensors_of_each_dtype_come_back_to_the_bit(dtype, tmp_path):
    numbers = torch.arange(6 * dtype.itemsize, dtype=torch.uint8) % 251
    tensors = {
        "rows": numbers.view(dtype).reshape(2, 3),
        "one": numbers.view(dtype)[3],
        "none": numbers.view(dtype)[:0],
    }

    found = stored(tensors, tmp_path)

    assert all(same(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "seen",
    [
        lambda t: t.to(memory_format=torch.channels_last),
        lambda t: t.transpose(0, 3),
        lambda t: t[:, 1:, ::2],
        lambda t: t[0, 0, 0, 0].expand(5, 2),
        lambda t: t.as_strided((3, 3), (1, 1)),
        lambda t: torch.complex(t, t + 1).conj(),
        lambda t: torch.complex(t, t + 1).conj().imag,
        torch._neg_view,
        lambda t: t.clone().requires_grad_(),
        torch.nn.Parameter,
    ],
    ids=[
        "channels_last",
        "transposed",
        "sliced",
        "expanded",
        "overlapping",
        "conjugated",
        "negated and strided",
        "negated",
        "grad",
        "parameter",
    ],
)
def test_a_tensor_of_any_strides_comes_back_with_its_numbers(seen, tmp_path):
    tensor = seen(torch.arange(120.0).reshape(2, 3, 4, 5))

    assert same(stored({"it": tensor}, tmp_path)["it"], tensor)


def test_one_memory_seen_alike_is_stored_once_and_comes_back_as_one(tmp_path):
    tied = torch.rand(100, 100)

    found = stored({"embed": tied, "head": tied.view(100, 100), "other": tied.clone()}, tmp_path)

    assert found["embed"] is found["head"]
    assert found["other"] is not found["embed"]
    assert (tmp_path / "ep0-ba1" / "weights.safetensors").stat().st_size < 2.1 * tied.nbytes


def test_different_views_of_one_memory_come_back_apart(tmp_path):
    flat = torch.arange(9.0)
    rows = flat.view(3, 3)
    views = {"flat": flat, "rows": rows, "columns": rows.T, "part": flat[3:7], "minus": torch._neg_view(rows)}
    views |= {"bits": rows.view(torch.int32), "first": rows[0], "diagonal": rows.diagonal()}

    found = stored(views, tmp_path)

    assert all(same(found[name], tensor) for name, tensor in views.items())
    found["flat"].zero_()
    assert same(found["rows"], rows)


def test_tensors_without_numbers_are_not_taken_for_one(tmp_path):
    found = stored({"a": torch.empty(0, 2), "b": torch.empty(0, 2)}, tmp_path)

    assert found["a"] is not found["b"]


@pytest.mark.parametrize(
    ("tensors", "values", "said"),
    [
        ({"sparse": torch.eye(2).to_sparse()}, {}, "sparse must be a plain, dense tensor"),
        ({"meta": torch.empty(2, device="meta")}, {}, "meta must be a plain, dense tensor"),
        ({"__metadata__": torch.ones(2)}, {}, "__metadata__ must be"),
        ({}, {"callbacks": [object()]}, r"value\['callbacks'\]\[0\] must be"),
    ],
    ids=["sparse", "meta", "reserved", "value"],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(tensors, values, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        write(tmp_path / "runs" / "ep0-ba1", Content({"weights": tensors}, values))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["latest", "ep1", "ep1-ba2-old", "ep-1-ba2", ".ep1-ba2.writing"])
def test_a_checkpoint_of_another_name_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"folder must be named .* such as ep3-ba1200, got"):
        write(tmp_path / name, content())


def test_writing_again_replaces_what_was_there(two):
    (two / "ep0-ba2" / "weights.safetensors").write_bytes(b"torn")

    write(two / "ep0-ba2", content(3.0))

    assert number_in(two / "ep0-ba2") == 3.0
    assert sorted(path.name for path in two.iterdir()) == ["ep0-ba1", "ep0-ba2"]


def test_a_checkpoint_is_removed_as_a_whole(two):
    remove(two / "ep0-ba1")

    assert [path.name for path in two.iterdir()] == ["ep0-ba2"]


# Torn and altered files.

FILES = ["manifest.json", "state.json", "training.safetensors", "weights.safetensors"]


def refused(folder, name):
    """Assert that ``folder`` is refused for the file ``name``, and that the one before it is found."""
    with pytest.raises(CheckpointError, match=f"ep0-ba2/{name} must"):
        read(folder / "ep0-ba2")
    with pytest.raises(CheckpointError, match=f"ep0-ba2/{name} must"):
        verify(folder / "ep0-ba2")
    with pytest.warns(UserWarning, match=f"ep0-ba2/{name} must .*passed over"):
        assert newest(folder) == folder / "ep0-ba1"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "keep", [lambda size: 0, lambda size: 1, lambda size: size // 2, lambda size: size - 1], ids=range(4)
)
def test_a_file_cut_short_is_refused_by_name_and_the_checkpoint_before_is_found(name, keep, two):
    path = two / "ep0-ba2" / name
    path.write_bytes(path.read_bytes()[: keep(path.stat().st_size)])

    refused(two, name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_longer_is_refused_by_name(name, two):
    with (two / "ep0-ba2" / name).open("ab") as file:
        file.write(b" ")

    refused(two, name)


@pytest.mark.parametrize("name", FILES)
def test_each_byte_with_one_bit_flipped_is_refused_by_name(name, two):
    path = two / "ep0-ba2" / name
    whole = path.read_bytes()
    chance = random.Random(5)
    for index in range(len(whole)):
        flipped = bytearray(whole)
        flipped[index] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)

        with pytest.raises(CheckpointError, match=f"ep0-ba2/{name} must"):
            verify(two / "ep0-ba2")
    refused(two, name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_is_refused_by_name(name, two):
    (two / "ep0-ba2" / name).unlink()

    refused(two, name)


def test_a_file_too_many_is_refused_by_name(two):
    (two / "ep0-ba2" / "more.safetensors").touch()

    refused(two, "more.safetensors")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("put", ["link", "folder", "pipe"])
def test_what_is_no_plain_file_is_refused_by_name(name, put, two):
    path = two / "ep0-ba2" / name
    path.rename(two / name)
    match put:
        case "link":
            path.symlink_to(two / name)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)

    refused(two, name)


def test_all_torn_is_none_at_all(two):
    for folder in checkpoints(two):
        (folder / "state.json").write_bytes(b"")

    with pytest.warns(UserWarning, match="passed over") as warned:
        assert newest(two) is None
    assert len(warned) == 2


def rewritten(folder, change):
    """Change what the manifest says, under a seal that holds."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    del fields["sha256"]
    change(fields)
    seal = hashlib.sha256(json.dumps(fields, indent=1).encode()).hexdigest()
    path.write_text(json.dumps({**fields, "sha256": seal}, indent=1))


def put(path, value):
    def change(fields):
        *way, last = path
        for step in way:
            fields = fields[step]
        fields[last] = value

    return change


def test_a_manifest_is_sealed_as_the_docs_say(two):
    before = (two / "ep0-ba2" / "manifest.json").read_bytes()

    rewritten(two / "ep0-ba2", lambda fields: None)

    assert (two / "ep0-ba2" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        put(["files", "../ep0-ba1/weights.safetensors"], {"size": 1, "sha256": ""}),
        put(["files", "/etc/passwd"], {"size": 1, "sha256": ""}),
        put(["files", "/tmp/x.safetensors"], {"size": 1, "sha256": ""}),
        put(["files", "a/b.safetensors"], {"size": 1, "sha256": ""}),
        put(["files", "..safetensors"], {"size": 1, "sha256": ""}),
        put(["files", "x.pt"], {"size": 1, "sha256": ""}),
        put(["files", ""], {"size": 1, "sha256": ""}),
        put(["files"], []),
        put(["files", "weights.safetensors"], 3),
        put(["files", "weights.safetensors"], {}),
        put(["aliases"], 3),
        put(["views"], [1]),
        put(["format"], 0),
        put(["format"], None),
        put(["format"], "1"),
        lambda fields: fields.pop("files"),
        lambda fields: fields.pop("format"),
    ],
    ids=range(17),
)
def test_a_manifest_that_nobody_wrote_is_refused_by_name(change, two):
    rewritten(two / "ep0-ba2", change)

    refused(two, "manifest.json")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (put(["aliases"], {"weights.safetensors": {"head": "nowhere"}}), "weights.safetensors"),
        (put(["aliases"], {"weights.safetensors": ["layer"]}), "weights.safetensors"),
        (put(["views"], {"weights.safetensors": {"layer": "load"}}), "weights.safetensors"),
        (put(["views"], {"weights.safetensors": {"nowhere": "float32"}}), "weights.safetensors"),
        (put(["views"], {"training.safetensors": {"momentum": ["float32"]}}), "training.safetensors"),
    ],
    ids=range(5),
)
def test_a_manifest_that_names_what_is_not_there_is_refused_with_the_file(change, name, two):
    rewritten(two / "ep0-ba2", change)

    with pytest.raises(CheckpointError, match=f"ep0-ba2/{name} must"):
        read(two / "ep0-ba2")


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 20, b"\x10" + bytes(15), (1 << 62).to_bytes(8, "little") + b"{}"], ids=range(4)
)
def test_a_file_that_holds_no_tensors_is_refused_by_name_whatever_its_digest(data, two):
    (two / "ep0-ba2" / "weights.safetensors").write_bytes(data)
    listed = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewritten(two / "ep0-ba2", put(["files", "weights.safetensors"], listed))

    with pytest.raises(CheckpointError, match=r"weights\.safetensors must hold"):
        read(two / "ep0-ba2")


@pytest.mark.parametrize("data", [b"", b"\xff", b"{", b'{"$run": 1}'], ids=range(4))
def test_a_file_that_holds_no_values_is_refused_by_name_whatever_its_digest(data, two):
    (two / "ep0-ba2" / "state.json").write_bytes(data)
    listed = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewritten(two / "ep0-ba2", put(["files", "state.json"], listed))

    with pytest.raises(CheckpointError, match=r"state\.json must hold"):
        read(two / "ep0-ba2")


def test_a_newer_format_is_refused_with_the_remedy_and_never_passed_over(two):
    rewritten(two / "ep0-ba2", put(["format"], 2))

    for attempt in [lambda: read(two / "ep0-ba2"), lambda: newest(two)]:
        with pytest.raises(NewerFormatError, match=r"format 1 or older, got format 2; .* pip install -U cutmix"):
            attempt()


# Faults while writing.


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
