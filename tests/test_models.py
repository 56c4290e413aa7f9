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


def refuses(classes):
    raise RuntimeError("no weights today\nand a long story")


@pytest.mark.parametrize(
    ("function", "complaint"),
    [(refuses, r"RuntimeError: no weights today$"), (lambda: None, r"TypeError: .* takes 0 positional arguments .*$")],
)
def test_a_function_that_cannot_be_called_is_refused_with_its_error(function, complaint, monkeypatch):
    monkeypatch.setitem(sys.modules, "nets", SimpleNamespace(mine=function))

    with pytest.raises(
        ValueError, match=rf"^model 'nets:mine' must be a function .*, calling it with 5 gave {complaint}"
    ):
        models.build("nets:mine", 5)


def test_a_module_that_breaks_while_it_is_imported_is_refused(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ValueError, match=r"not to be had \(ZeroDivisionError: division by zero\)"):
        models.build("broken_module:net", 5)


class Pair(nn.Linear):
    def forward(self, images):
        return images, images


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 6)), r"got \(2, 6\); name another, or change"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 5)), r"got RuntimeError: mat1 and mat2 .*\(--image-size\)"),
        (Pair(1, 1), "got a tuple; name another"),
        (nn.Flatten(), "must have parameters that can be learnt, got none"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(network, complaint):
    with pytest.raises(ValueError, match=f"^model 'mine' .*{complaint}"):
        models.check_fit("mine", network, torch.zeros(2, 3, 8, 8), 5)


def test_trying_a_network_leaves_it_as_it_was():
    network = models.build("resnet8", 5)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    models.check_fit("resnet8", network, torch.randn(2, 3, 8, 8), 5)

    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
