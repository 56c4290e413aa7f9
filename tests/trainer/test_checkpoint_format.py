"""What a version of the format has written is read for good, and written as it was."""

import json
import math
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from cutmix.core.time import Timestamp
from cutmix.trainer.checkpoints.checkpoint import checkpoints, newest, read, write
from cutmix.trainer.checkpoints.codec import _KINDS, encode
from cutmix.trainer.checkpoints.manifest import FORMAT
from cutmix.trainer.checkpoints.tensorfile import bytes_of

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
PAGE = HERE.parents[1] / "docs" / "checkpoint-format.md"


def script(name):
    spec = spec_from_file_location("script", FIXTURES / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def content_of(version):
    return script(f"write_format_{version}").content()


def kept(version):
    [folder] = checkpoints(FIXTURES / f"checkpoint-format-{version}")
    return folder


def test_the_page_speaks_of_the_format_that_is_written():
    assert PAGE.read_text(encoding="utf-8").startswith(f"# The checkpoint format, version {FORMAT}\n")


@pytest.mark.parametrize("tag", sorted(_KINDS))
def test_the_page_explains_each_tag(tag):
    assert f'`{{"${tag}": ' in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_a_checkpoint_of_each_format_is_kept_and_read(version):
    found, wanted = read(kept(version)), content_of(version)

    assert newest(kept(version).parent) == kept(version)
    assert encode(found.values) == encode(wanted.values)
    assert found.tensors.keys() == wanted.tensors.keys()
    for stem, tensors in wanted.tensors.items():
        assert found.tensors[stem].keys() == tensors.keys()
        for name, tensor in tensors.items():
            again = found.tensors[stem][name]
            assert (again.dtype, again.shape, bytes_of(again)) == (tensor.dtype, tensor.shape, bytes_of(tensor))


def test_some_of_what_format_1_holds_written_out():
    found = read(kept(1))

    assert found.values["far"] == 1180591620717411303424
    assert math.isnan(found.values["worst"])
    assert found.values["milestones"][30] == 2
    assert found.values["by parameter"][1, 2] == {}
    assert found.values["seen"] == {"eval", "train"}
    assert found.tensors["weights"]["embed.weight"].tolist()[3] == [1.125, 1.25, 1.375]
    assert found.tensors["weights"]["head.weight"] is found.tensors["weights"]["embed.weight"]
    assert found.tensors["weights"]["conv.weight"][0, 1].tolist() == [[9, 10, 11], [12, 13, 14], [15, 16, 17]]
    assert found.tensors["weights"]["spectrum"].tolist() == [[1 + 2j, -3j]]
    assert found.tensors["training"]["counts"].dtype is torch.uint32


def test_the_newest_format_is_written_byte_for_byte_as_it_was(tmp_path):
    write(tmp_path / kept(FORMAT).name, content_of(FORMAT))

    files = sorted(path.name for path in kept(FORMAT).iterdir())
    assert [path.name for path in sorted((tmp_path / kept(FORMAT).name).iterdir())] == files
    for name in files:
        assert (tmp_path / kept(FORMAT).name / name).read_bytes() == (kept(FORMAT) / name).read_bytes()


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_a_run_of_each_format_is_gone_on_with(version):
    runs = script(f"write_run_format_{version}")
    whole, resumed = runs.trainer(), runs.trainer(load_path=FIXTURES / f"run-format-{version}")
    [folder] = checkpoints(FIXTURES / f"run-format-{version}")
    saved = read(folder).tensors["weights"]

    assert resumed.state.timestamp == Timestamp(epoch=1, batch=6, sample=24, batch_in_epoch=2, sample_in_epoch=8)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in resumed.state.model.state_dict().items())
    resumed.fit()
    whole.fit()
    for name, tensor in whole.state.model.state_dict().items():
        torch.testing.assert_close(resumed.state.model.state_dict()[name], tensor)


def test_what_is_kept_is_read_by_safetensors_and_json_alone():
    import safetensors.torch

    manifest = json.loads((kept(1) / "manifest.json").read_text())
    weights = safetensors.torch.load_file(kept(1) / "weights.safetensors")

    assert manifest["format"] == 1
    assert manifest["aliases"] == {"weights.safetensors": {"head.weight": "embed.weight"}}
    assert weights["embed.weight"].shape == (4, 3)
    assert json.loads((kept(1) / "state.json").read_text())["betas"] == {"$tuple": [0.9, 0.999]}
