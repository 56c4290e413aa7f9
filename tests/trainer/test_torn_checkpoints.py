"""A checkpoint that is not, to the bit, as it was written is refused by its file, and the one before it is found."""

import hashlib
import json
import os
import random

import pytest

from cutmix.trainer.checkpoints.checkpoint import checkpoints, newest, read, verify
from cutmix.trainer.checkpoints.manifest import CheckpointError, NewerFormatError
from small_checkpoints import two_in

FILES = ["manifest.json", "state.json", "training.safetensors", "weights.safetensors"]


@pytest.fixture
def two(tmp_path):
    return two_in(tmp_path)


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
