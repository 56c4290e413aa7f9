import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cutmix import models


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_resnet8_has_the_120k_parameters_our_figures_are_measured_with():
    assert parameters(models.build("resnet8", 10)) == 119_994


@pytest.mark.parametrize(
    ("name", "published"), [("resnet20", 0.27e6), ("resnet32", 0.46e6), ("resnet44", 0.66e6), ("resnet56", 0.85e6)]
)
def test_the_others_have_the_size_that_their_authors_published(name, published):
    assert parameters(models.build(name, 10)) == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize("depth", [8, *models.DEPTHS])
def test_a_resnet_has_as_many_layers_as_its_name_says(depth):
    network = models.build(f"resnet{depth}", 10)

    on_the_way = [layer for name, layer in network.named_modules() if "shortcut" not in name]
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in on_the_way) == depth


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (28, 40), (5, 9)])
def test_a_resnet_takes_images_of_any_size(size):
    network = models.build("resnet14", 7).eval()

    assert network(torch.randn(2, 3, *size)).shape == (2, 7)


def test_the_default_generator_decides_the_weights():
    def drawn(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.cat([parameter.flatten() for parameter in models.build("resnet8", 3).parameters()])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_the_weights_are_contiguous_so_that_they_can_be_saved():
    network = models.build("resnet8", 3)

    network(torch.randn(2, 3, 16, 16)).sum().backward()

    assert all(tensor.is_contiguous() for tensor in network.state_dict().values())


@pytest.mark.parametrize("name", ["resnet9", "resnet21", "", "vit"])
def test_an_unknown_name_is_refused_with_the_choices(name):
    with pytest.raises(ValueError, match=r"resnet8, resnet14, .*timm:NAME or package\.module:function"):
        models.build(name, 10)


def test_a_function_of_ones_own_is_called_with_the_number_of_classes(monkeypatch):
    monkeypatch.setitem(sys.modules, "nets", SimpleNamespace(tiny=lambda classes: nn.Linear(2, classes), number=int))

    assert models.build("nets:tiny", 5).out_features == 5
    with pytest.raises(ValueError, match=r"must return a torch\.nn\.Module, got int"):
        models.build("nets:number", 5)


@pytest.mark.parametrize("name", ["no.such.module:net", "json:net", ":net"])
def test_a_function_that_is_not_there_is_refused_with_the_remedy(name):
    with pytest.raises(ValueError, match=r"not to be had .*PYTHONPATH"):
        models.build(name, 10)


def test_timm_is_asked_for_by_name_and_missed_with_the_remedy(monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda _: None)

    with pytest.raises(ValueError, match="pip install timm"):
        models.build("timm:resnet18", 10)


def test_timm_builds_what_it_knows_and_the_rest_is_refused(monkeypatch):
    timm = SimpleNamespace(
        __version__="1.0",
        is_model=lambda name: name == "resnet18",
        list_models=lambda pattern: ["resnet18"] if "resnet" in pattern else [],
        create_model=lambda name, num_classes: nn.Linear(1, num_classes),
    )
    monkeypatch.setattr(models, "find_spec", lambda _: timm)
    monkeypatch.setattr(models, "import_module", lambda _: timm)

    assert models.build("timm:resnet18", 4).out_features == 4
    with pytest.raises(ValueError, match=r"it has .*resnet18"):
        models.build("timm:resnet_18", 4)
