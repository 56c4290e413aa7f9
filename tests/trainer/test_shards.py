"""What several processes have saved in shards is read by one, block by block, and refused as any other checkpoint is."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cutmix.trainer import Trainer, load_weights
from cutmix.trainer.checkpoints.checkpoint import newest, read, verify, write
from cutmix.trainer.checkpoints.manifest import CheckpointError
from test_pages import code_of

HERE = Path(__file__).parent
KEPT = HERE / "fixtures" / "sharded-format-1" / "ep1-ba12"
"""Of five rows and three columns, two ranks have three rows and two; of four columns two each; of one number one has it."""
SHARD = "weights-00002-of-00002.safetensors"
ROWS = torch.arange(15.0).reshape(5, 3) / 8


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(KEPT, tmp_path / KEPT.name)


def weights(folder=KEPT):
    return read(folder).tensors["weights"]


def model(**shapes):
    """Make a model of the names that are kept."""
    shapes = {"rows": (5, 3), "columns": (2, 4), "spectrum": (3, 1), "one": (1,), "whole": (2,), **shapes}
    dtypes = {"columns": torch.bfloat16, "spectrum": torch.complex64, "one": torch.int64, "whole": torch.bool}
    made = nn.Module()
    for name, shape in shapes.items():
        made.register_buffer(name, torch.zeros(shape, dtype=dtypes.get(name)))
    made.register_buffer("tied", made.rows)
    return made


def test_what_is_kept_is_read_and_put_together():
    found = weights()

    assert found["whole"].tolist() == [True, False]
    assert found["rows"].whole().equal(ROWS)
    assert found["tied"].whole().equal(ROWS)
    assert found["columns"].whole().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found["columns"].dtype is torch.bfloat16
    assert found["spectrum"].whole().tolist() == [[1 + 2j], [-3j], [4]]
    assert found["one"].whole().tolist() == [7]
    assert read(KEPT).tensors["training"]["momentum"].whole().tolist() == [0, 1, 2, 3]
    assert read(KEPT).values == {"seed": 17, "betas": (0.9, 0.999)}


@given(st.data())
def test_any_block_is_the_one_that_the_whole_has_there(data):
    top, bottom = sorted(data.draw(st.tuples(st.integers(0, 5), st.integers(0, 5))))
    left, right = sorted(data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3))))

    assert (
        weights()["rows"].read(torch.empty(bottom - top, right - left), (top, left)).equal(ROWS[top:bottom, left:right])
    )


def test_a_file_that_is_not_needed_is_not_opened(copy):
    rows = weights(copy)["rows"]
    (copy / SHARD).unlink()

    assert rows.read(torch.empty(3, 3), (0, 0)).equal(ROWS[:3])
    with pytest.raises((OSError, CheckpointError)):
        rows.read(torch.empty(4, 3), (0, 0))


def test_weights_go_into_a_model_of_one_process():
    loaded = model()
    load_weights(loaded, KEPT)

    assert loaded.rows.equal(ROWS)
    assert loaded.spectrum.tolist() == [[1 + 2j], [-3j], [4]]
    assert loaded.whole.tolist() == [True, False]


@pytest.mark.parametrize("shapes", [{"rows": (5, 4)}, {"more": (2,)}, {"columns": (4, 2), "one": (2,)}])
def test_what_does_not_fit_is_told_as_of_a_whole_checkpoint(shapes, copy, tmp_path):
    whole = tmp_path / "whole" / KEPT.name
    write(whole, read(KEPT))
    told = []
    for path in (copy, whole):
        with pytest.raises(ValueError, match="path must hold weights that fit the model") as raised:
            load_weights(loaded := model(**shapes), path)
        told.append(str(raised.value).replace(str(path), "PATH"))
        assert not loaded.rows.any()

    assert told[0] == told[1]


def test_what_is_read_sharded_is_written_whole(tmp_path):
    write(tmp_path / KEPT.name, read(KEPT))

    assert not list(tmp_path.rglob("*-of-*"))
    assert weights(tmp_path / KEPT.name)["rows"].equal(ROWS)


def test_each_byte_of_a_shard_with_one_bit_flipped_is_refused_by_its_file(copy):
    content = (copy / SHARD).read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        (copy / SHARD).write_bytes(changed)
        for act in (read, verify, lambda path: load_weights(model(), path)):
            with pytest.raises(CheckpointError, match=rf"ep1-ba12/{re.escape(SHARD)} must have the SHA-256"):
                act(copy)


@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_shard_file_cut_short_is_refused_by_name(left, copy):
    (copy / SHARD).write_bytes((copy / SHARD).read_bytes()[:left])

    with pytest.raises(CheckpointError, match=f"{re.escape(SHARD)} must have 432 bytes, got {left}"):
        read(copy)
    with pytest.warns(UserWarning, match="passed over"):
        assert newest(copy.parent) is None


def resealed(folder, change):
    """Let the manifest say something else, and be right about itself."""
    fields = json.loads((folder / "manifest.json").read_text())
    del fields["sha256"]
    change(fields)
    seal = hashlib.sha256(json.dumps(fields, indent=1).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**fields, "sha256": seal}, indent=1))


def test_shards_that_leave_a_gap_are_refused(copy):
    resealed(copy, lambda fields: fields["shards"]["weights.safetensors"]["files"].remove(SHARD))

    with pytest.raises(CheckpointError, match="ep1-ba12 must hold all of rows, got 6 numbers less"):
        weights(copy)["rows"].whole()


@pytest.mark.parametrize(
    "change",
    [
        lambda shards: shards["files"].append("weights-00003-of-00003.safetensors"),
        lambda shards: shards["tensors"]["rows"].update(dtype="complex7"),
        lambda shards: shards["tensors"]["rows"].update(shape=3),
        lambda shards: shards.pop("tensors"),
    ],
)
def test_a_manifest_that_tells_of_no_such_shards_is_refused(change, copy):
    resealed(copy, lambda fields: change(fields["shards"]["weights.safetensors"]))

    with pytest.raises(CheckpointError, match="ep1-ba12"):
        read(copy)


@pytest.mark.parametrize("data", [b"", b"cos\nmkdir\n(Vmarker\ntR.", b"PK\x03\x04", bytes(432)])
def test_a_shard_file_that_is_none_is_refused_even_where_its_digest_is_right(data, copy):
    (copy / SHARD).write_bytes(data)
    listed = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    resealed(copy, lambda fields: fields["files"].update({SHARD: listed}))

    with pytest.raises(CheckpointError, match=f"{re.escape(SHARD)} must hold what this library writes"):
        load_weights(loaded := model(), copy)
    assert not loaded.rows.any()


@pytest.mark.parametrize("settings", [{}, {"save_folder": "run", "save_interval": None}])
def test_to_save_shards_where_nothing_is_saved_is_refused(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        ValueError, match="save_sharded must come with a save_folder and a save_interval, got True alone: name the"
    ):
        Trainer(nn.Linear(2, 2), save_sharded=True, progress_bar=False, **settings)


def test_one_process_saves_as_ever(tmp_path):
    batches = [(torch.ones(2, 2), torch.tensor([0, 1]))]
    with Trainer(nn.Linear(2, 2), batches, save_folder=tmp_path, save_sharded=True, progress_bar=False) as trainer:
        trainer.fit()

    assert len(list((tmp_path / "checkpoints" / "ep1-ba1").iterdir())) == 4


def test_the_page_reads_shards_by_safetensors_and_json_alone():
    [reader] = [
        block for block in code_of(HERE.parents[1] / "docs" / "checkpoint-format.md") if "def tensors_in" in block
    ]
    names = {}
    exec(reader.partition("\nfolder = ")[0], names)
    manifest = json.loads((KEPT / "manifest.json").read_text())
    found, wanted = names["tensors_in"](KEPT, manifest, "weights.safetensors"), weights()

    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].equal(tensor if isinstance(tensor, torch.Tensor) else tensor.whole())
