import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from cutmix.core.time import Time
from cutmix.runs.config import steps_of
from cutmix.runs.folder import RunFolder, read_json
from cutmix.runs.settings import Settings, Task
from cutmix.runs.train import prepare, train
from cutmix.trainer.callbacks.finite import NonFiniteLossError


@pytest.fixture
def task(tmp_path):
    data = tmp_path / "pictures"
    for name, red in (("dark", 20), ("light", 200)):
        (data / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (red + 5 * number, 100, 10 * number)).save(data / name / f"{number}.png")
    return Task(data=str(data), batch_size=4, max_duration="6ba")


def trained(task, path, *algorithms, seed=0):
    train(Settings(task=task, algorithms=algorithms, seed=seed), path, progress_bar=False)
    return RunFolder(path)


def losses(folder):
    return [
        line["train/loss"] for line in map(json.loads, folder.metrics.read_text().splitlines()) if "train/loss" in line
    ]


def test_arms_of_one_seed_share_initial_weights_order_and_augmentation(task, tmp_path):
    baseline = losses(trained(task, tmp_path / "baseline"))
    never_mixed = losses(trained(task, tmp_path / "never mixed", "cutmix:p=0"))
    other_seed = losses(trained(task, tmp_path / "other seed", seed=1))

    # Sums in another order differ in their last bits, which batch norm on four images soon makes large.
    assert never_mixed[0] == baseline[0]
    assert never_mixed[:3] == pytest.approx(baseline[:3], rel=1e-4)
    assert other_seed[:3] != pytest.approx(baseline[:3], rel=1e-4)


def test_the_run_says_everything_it_was_made_from(task, tmp_path):
    config = read_json(trained(task, tmp_path / "run", "cutmix:alpha=0.5", seed=2).config)

    assert Settings(**{**config["settings"], "task": Task(**config["settings"]["task"])}).seed == 2
    assert config["settings"]["task"]["max_duration"] == "6ba"
    assert config["steps"] == 6
    assert (config["data"]["height"], config["data"]["width"]) == (8, 8)
    assert set(config["machine"]) == {"device", "threads"}


def test_a_folder_that_is_in_use_is_refused_before_anything_is_read(task, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch()

    with pytest.raises(ValueError, match="is not empty"):
        trained(Task(data="no such data"), tmp_path / "run")


@pytest.mark.parametrize(("duration", "steps"), [("3ep", 9), ("7ba", 7), ("10sp", 3), ("11sp", 4), ("20sp", 6)])
def test_steps_are_counted_in_batches_whatever_the_unit(duration, steps):
    assert steps_of(Task(data="", batch_size=4, max_duration=duration), images=10) == steps
    assert str(Time.parse(duration)) == duration


def test_steps_are_shared_out_among_processes():
    assert steps_of(Task(data="", batch_size=4, max_duration="3ep"), images=10, processes=2) == 6
    assert steps_of(Task(data="", batch_size=4, max_duration="15sp"), images=10, processes=2) == 3


@pytest.mark.parametrize("model", ["resnet8", "lazy:network"])
def test_initial_weights_follow_from_the_seed_and_leave_torchs_generator_alone(task, model, monkeypatch):
    lazy = SimpleNamespace(network=lambda classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(classes)))
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    before = torch.random.get_rng_state()

    jobs = [prepare(Settings(task=replace(task, model=model), seed=seed)) for seed in (1, 1, 2)]
    one, two, other = (next(iter(job.model.parameters())) for job in jobs)

    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_run_that_diverges_says_at_which_step_and_leaves_no_weights(task, tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"^the loss must stay finite, got nan at step \d \(rate .*e\+19; "):
        trained(replace(task, lr=1e20), tmp_path / "run")

    assert RunFolder(tmp_path / "run").metrics.exists()
    assert not RunFolder(tmp_path / "run").weights.exists()


def test_a_network_that_does_not_fit_is_refused_before_a_folder_is_made(task, tmp_path, monkeypatch):
    networks = SimpleNamespace(one_too_many=lambda classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(classes + 1)))
    monkeypatch.setitem(sys.modules, "networks", networks)

    with pytest.raises(ValueError, match=r"'networks:one_too_many' must turn images \(2, 3, 8, 8\) .*, got \(2, 3\);"):
        trained(replace(task, model="networks:one_too_many"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
