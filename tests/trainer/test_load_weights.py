"""Weights come from whoever wrote them, or are refused by name, and then the model is as it was."""

import datetime as dt
import random

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from cutmix.trainer import load_weights
from cutmix.trainer.checkpoints.checkpoint import Content, write
from cutmix.trainer.checkpoints.manifest import CheckpointError


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def copied(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(weights, others):
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def refused(model, path, said, error=ValueError, **settings):
    """Assert that ``path`` is refused, and that the model is as it was."""
    before = copied(model)

    with pytest.raises(error, match=said):
        load_weights(model, path, **settings)
    assert same(copied(model), before)


def composer_checkpoint(weights):
    """What Composer 0.32 writes: ``{'state': State.state_dict(), 'rng': [one of each rank]}``."""
    clock = {"epoch": 1, "batch": 9, "total_wct": dt.timedelta(seconds=3), "epoch_wct": dt.timedelta(0)}
    return {
        "state": {
            "model": weights,
            "optimizers": {"DecoupledSGDW": {"state": {}, "param_groups": [{"lr": 0.1}]}},
            "schedulers": {"LambdaLR": {"last_epoch": 9, "lr_lambdas": [None]}},
            "algorithms": [("CutMix", {})],
            "callbacks": {"CheckpointSaver": {"all_saved_checkpoints_to_timestamp": [("ep1.pt", clock)]}},
            "timestamp": {"iteration": 0, **clock},
            "rank_zero_seed": 17,
            "train_metrics": {"MulticlassAccuracy": {"state_dict": {"tp": torch.ones(2)}, "_computed": None}},
            "run_name": "1700000000-quiet-otter",
            "dataset_state": {"train": None, "eval": {}},
            "integrations": {},
            "metadata": {"torch_version": torch.__version__, "device": "cpu", "precision": "amp_bf16"},
        },
        "rng": [{"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}],  # noqa: NPY002 - Composer's
    }


def as_checkpoint(weights, folder):
    write(folder / "ep1-ba9", Content({"weights": weights, "training": {"momentum": torch.ones(3)}}, {"seed": 1}))
    return folder / "ep1-ba9"


def as_safetensors(weights, folder):
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    return folder / "model.safetensors"


def as_state_dict(weights, folder):
    torch.save(weights, folder / "model.pt")
    return folder / "model.pt"


def as_old_state_dict(weights, folder):
    torch.save(weights, folder / "model.pth", _use_new_zipfile_serialization=False)
    return folder / "model.pth"


def as_composer(weights, folder):
    torch.save(composer_checkpoint(weights), folder / "ep1-ba9-rank0.pt")
    return folder / "ep1-ba9-rank0.pt"


KINDS = [as_checkpoint, as_safetensors, as_state_dict, as_old_state_dict, as_composer]
each_kind = pytest.mark.parametrize("kept_as", KINDS, ids=lambda kind: kind.__name__)


@each_kind
def test_weights_come_back_from_each_kind_of_file(kept_as, tmp_path):
    saved, model = network(1), network(2)

    difference = load_weights(model, kept_as(saved.state_dict(), tmp_path))

    assert same(copied(model), copied(saved))
    assert difference == ((), ())


@each_kind
def test_a_path_may_be_text(kept_as, tmp_path):
    saved, model = network(1), network(2)

    load_weights(model, str(kept_as(saved.state_dict(), tmp_path)))

    assert same(copied(model), copied(saved))


@each_kind
def test_missing_and_extra_names_are_told_and_the_model_stays(kept_as, tmp_path):
    weights = dict(network(1).state_dict())
    del weights["0.bias"]
    weights["head.weight"] = torch.ones(2)

    refused(network(), kept_as(weights, tmp_path), r"it lacks 0\.bias; the model lacks head\.weight; .* strict=False")


@each_kind
def test_what_is_in_both_is_taken_where_that_is_asked_for(kept_as, tmp_path):
    saved, model = network(1), network(2)
    weights = dict(saved.state_dict())
    weights["head.weight"], before = weights.pop("0.bias"), copied(model)["0.bias"]

    difference = load_weights(model, kept_as(weights, tmp_path), strict=False)

    assert difference == (("0.bias",), ("head.weight",))
    assert torch.equal(model[0].bias, before)
    assert torch.equal(model[0].weight, saved[0].weight)


@each_kind
@pytest.mark.parametrize("strict", [True, False])
def test_another_shape_is_told_and_the_model_stays(kept_as, strict, tmp_path):
    weights = {**network(1).state_dict(), "3.weight": torch.ones(3, 16)}

    path = kept_as(weights, tmp_path)

    refused(network(), path, r"3\.weight is of shape \(3, 16\), in the model of \(2, 16\)", strict=strict)


def test_a_dtype_that_would_lose_its_meaning_is_told_and_the_model_stays(tmp_path):
    weights = {**network(1).state_dict(), "0.bias": torch.ones(4, dtype=torch.complex64)}

    refused(
        network(), as_state_dict(weights, tmp_path), r"0\.bias is of torch\.complex64, in the model of torch\.float32"
    )


def test_weights_of_another_width_take_the_models(tmp_path):
    saved, model = network(1).double(), network(2)

    load_weights(model, as_state_dict(saved.state_dict(), tmp_path))

    assert same(copied(model), copied(saved.float()))


def test_strides_and_memory_of_the_model_stay(tmp_path):
    saved, model = network(1), network(2).to(memory_format=torch.channels_last)
    before = [(parameter.data_ptr(), parameter.stride()) for parameter in model.parameters()]

    load_weights(model, as_checkpoint(saved.state_dict(), tmp_path))

    assert [(parameter.data_ptr(), parameter.stride()) for parameter in model.parameters()] == before
    assert same(copied(model), copied(saved))


@pytest.mark.parametrize("saved_under", ["", "module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("loaded_under", ["", "module.", "_orig_mod."])
def test_wrappers_of_either_side_do_not_matter(saved_under, loaded_under, tmp_path):
    saved, model = network(1), network(2)
    wrapped = nn.ModuleDict({loaded_under[:-1]: model}) if loaded_under else model
    weights = {saved_under + name: tensor for name, tensor in saved.state_dict().items()}

    load_weights(wrapped, as_state_dict(weights, tmp_path))

    assert same(copied(model), copied(saved))


def test_a_part_of_the_model_called_module_is_no_wrapper(tmp_path):
    def made(seed):
        torch.manual_seed(seed)
        return nn.ModuleDict({"module": nn.Linear(2, 2), "_orig_mod": nn.Linear(2, 2)})

    saved, model = made(1), made(2)

    load_weights(model, as_state_dict(saved.state_dict(), tmp_path))

    assert same(copied(model), copied(saved))


class Tied(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


@each_kind
def test_of_a_tied_weight_one_name_is_enough(kept_as, tmp_path):
    saved, model = Tied(1), Tied(2)

    load_weights(model, kept_as({"embed.weight": saved.embed.weight.detach()}, tmp_path))

    assert torch.equal(model.head.weight, saved.head.weight)


def test_tied_weights_come_back_from_a_checkpoint(tmp_path):
    saved, model = Tied(1), Tied(2)

    load_weights(model, as_checkpoint(saved.state_dict(), tmp_path))

    assert same(copied(model), copied(saved))
    assert model.head.weight is model.embed.weight


def test_a_model_without_memory_is_refused(tmp_path):
    path = as_state_dict(network(1).state_dict(), tmp_path)

    with pytest.raises(ValueError, match=r"model must have memory, got 0\.weight on the meta device"):
        load_weights(network().to("meta"), path)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"state_dict": {"a": torch.ones(1)}, "epoch": 3}, "a dict under 'state_dict', a int under 'epoch'"),
        ({"0.weight": np.ones(3)}, "a _Unread under '0.weight'"),
        ({"0.weight": 1.0}, "a float under '0.weight'"),
        ({1: torch.ones(1)}, "a Tensor under 1"),
        ({"state": {"model": {"0.weight": [1.0]}}, "rng": []}, "a list under '0.weight'"),
        ({"state": {"optimizers": {}}, "rng": []}, "a dict under 'state'"),
        ({}, "nothing in it"),
        ([torch.ones(1)], "with a list"),
        (torch.ones(1), "with a Tensor"),
        (None, "with a NoneType"),
    ],
    ids=range(10),
)
def test_what_is_no_state_dict_is_refused_by_name(held, said, tmp_path):
    refused(network(), as_state_dict(held, tmp_path), f"path must hold a state dict.* got .*{said}")


@pytest.mark.parametrize("extra", [dt.date(2026, 1, 1), np.random.default_rng(0)], ids=["date", "generator"])
def test_what_composer_does_not_write_is_refused_by_name(extra, tmp_path):
    checkpoint = composer_checkpoint(network(1).state_dict())
    checkpoint["state"]["callbacks"]["Mine"] = extra
    torch.save(checkpoint, tmp_path / "ep1.pt")

    refused(
        network(),
        tmp_path / "ep1.pt",
        r"with a (datetime\.date|numpy\.random\._pickle\.\w+) in it; nothing of it was run",
    )


def test_nothing_stays_allowed_after_a_load(tmp_path):
    before = set(torch.serialization.get_safe_globals())

    load_weights(network(), as_composer(network(1).state_dict(), tmp_path))

    assert set(torch.serialization.get_safe_globals()) == before


def test_of_a_run_the_newest_checkpoint_is_taken(tmp_path):
    older, newer, model = network(1), network(2), network(3)
    for name, saved in {"ep1-ba8": older, "ep2-ba16": newer}.items():
        write(tmp_path / "checkpoints" / name, Content({"weights": saved.state_dict()}, {}))

    load_weights(model, tmp_path)
    assert same(copied(model), copied(newer))


def test_a_folder_that_is_no_checkpoint_is_refused_by_what_it_lacks(tmp_path):
    (tmp_path / "pictures").mkdir()

    refused(network(), tmp_path, "manifest.json must be there, got no such file", CheckpointError)


def test_a_torn_checkpoint_is_refused_by_its_file(tmp_path):
    folder = as_checkpoint(network(1).state_dict(), tmp_path)
    (folder / "weights.safetensors").write_bytes(b"torn")

    refused(network(), folder, r"ep1-ba9/weights\.safetensors must have \d+ bytes, got 4", CheckpointError)


def test_a_checkpoint_without_weights_is_refused_by_name(tmp_path):
    write(tmp_path / "ep1-ba9", Content({"training": {}}, {}))

    refused(network(), tmp_path / "ep1-ba9", r"weights\.safetensors must be there", CheckpointError)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_path_where_nothing_is_is_an_error_that_shows_it(name, tmp_path):
    refused(network(), tmp_path / name, name, FileNotFoundError)
