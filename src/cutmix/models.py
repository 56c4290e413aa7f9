"""Networks by name: small ResNets of our own, timm's, or anybody's function."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

Maps: TypeAlias = Float[Tensor, "batch channels height width"]
Scores: TypeAlias = Float[Tensor, "batch classes"]


@final
class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes (He's option B)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *normed(nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)),
            nn.ReLU(inplace=True),
            *normed(nn.Conv2d(width, width, 3, padding=1, bias=False)),
        )
        unchanged = width_in == width and stride == 1
        self.shortcut = (
            nn.Identity() if unchanged else nn.Sequential(*normed(nn.Conv2d(width_in, width, 1, stride, bias=False)))
        )

    def forward(self, maps: Maps) -> Maps:
        return torch.relu(self.body(maps) + self.shortcut(maps))


@final
class ResNet(nn.Module):
    """A residual network for small images of three channels: any side, since it ends in the mean over all places."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], blocks: int, num_classes: int) -> None:
        super().__init__()
        stem = 16
        layers: list[nn.Module] = [*normed(nn.Conv2d(3, stem, 3, padding=1, bias=False)), nn.ReLU(inplace=True)]
        for width_in, width, stride in zip((stem, *widths), widths, strides, strict=False):
            layers += [Block(width_in, width, stride), *(Block(width, width, 1) for _ in range(blocks - 1))]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Maps) -> Scores:
        # Channels last through the whole network: 1.25 times as fast on a CPU; the weights stay as they are.
        maps = self.features(images.contiguous(memory_format=torch.channels_last))
        return self.head(maps.mean((-2, -1)))


def normed(convolution: nn.Conv2d) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return ``convolution``, drawn by He's rule, and the batch norm behind it."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution, nn.BatchNorm2d(convolution.out_channels)


def resnet8(num_classes: int) -> ResNet:
    """Return the network our own figures are measured with: 120k parameters, about 20 s for 700 steps on one core.

    A stem of 16 and three stages of one block, 32, 48 and 64 wide, each of which halves the side.
    """
    return ResNet((32, 48, 64), (2, 2, 2), 1, num_classes)


def resnet_for_cifar(depth: int, num_classes: int) -> ResNet:
    """Return the network of ``depth`` = 6n + 2 layers of He et al. 2016, section 4.2, but for its shortcuts.

    A stem of 16 and three stages of n blocks, 16, 32 and 64 wide; the second and the third halve the side. Where the
    shape changes, the authors' shortcut has no weights (option A); ours is a 1x1 convolution (1 % more parameters).
    """
    return ResNet((16, 32, 64), (1, 2, 2), (depth - 2) // 6, num_classes)


DEPTHS = (14, 20, 32, 44, 56)
CHOICES = f"{', '.join(f'resnet{depth}' for depth in (8, *DEPTHS))}, timm:NAME or package.module:function"


def build(name: str, num_classes: int) -> nn.Module:
    """Build the network called ``name``; its weights are drawn from torch's default generator.

    ``resnet8`` is ours; ``resnet14`` to ``resnet56`` follow He et al. 2016; ``timm:NAME`` is timm's;
    ``package.module:function`` is called with the number of classes.

    Raises:
        ValueError: when there is no such network, or when the package that has it is missing.
    """
    if name == "resnet8":
        return resnet8(num_classes)
    if name in {f"resnet{depth}" for depth in DEPTHS}:
        return resnet_for_cifar(int(name.removeprefix("resnet")), num_classes)
    place, colon, called = name.partition(":")
    if not colon:
        raise ValueError(f"model must be one of {CHOICES}, got {name!r}")
    return from_timm(called, num_classes) if place == "timm" else from_function(name, num_classes)


def from_timm(name: str, num_classes: int) -> nn.Module:
    """Build timm's network called ``name``, without pretrained weights."""
    if find_spec("timm") is None:
        raise ValueError(f"model 'timm:{name}' needs the package timm, which is not installed: pip install timm")
    timm = import_module("timm")
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.partition('_')[0]}*")[:5]
        raise ValueError(
            f"model 'timm:{name}' is unknown to timm {timm.__version__}; it has {near or 'no such family'}"
        )
    return timm.create_model(name, num_classes=num_classes)


def from_function(name: str, num_classes: int) -> nn.Module:
    """Call the function that ``name`` says (``package.module:function``) with the number of classes."""
    place, _, called = name.partition(":")
    try:
        function = getattr(import_module(place), called)
    except Exception as error:  # a module may fail in any way while it is imported
        raise ValueError(
            f"model {name!r} is not to be had ({in_a_line(error)}); name a function that can be imported, as "
            "package.module:function, and put its folder on PYTHONPATH"
        ) from error
    try:
        network = function(num_classes)
    except Exception as error:
        raise ValueError(
            f"model {name!r} must be a function of the number of classes, calling it with {num_classes} gave "
            f"{in_a_line(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(  # noqa: TRY004 - a setting is wrong, not a call
            f"model {name!r} must return a torch.nn.Module, got {type(network).__name__}"
        )
    return network


@torch.no_grad()
def check_fit(name: str, network: nn.Module, images: Maps, num_classes: int) -> None:
    """Refuse a network that learns nothing, or that does not give each image a score a class (tried without training).

    Raises:
        ValueError: naming the model, what came and what was expected, in one line.
    """
    rule = f"model {name!r} must turn images {tuple(images.shape)} into scores {len(images), num_classes}"
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError(f"model {name!r} must have parameters that can be learnt, got none")
    training = network.training
    try:
        scores = network.eval()(images)
    except Exception as error:
        raise ValueError(
            f"{rule}, got {in_a_line(error)}; name another, or give the images a size that it takes (--image-size)"
        ) from error
    finally:
        network.train(training)
    got = tuple(scores.shape) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
    if got != (len(images), num_classes):
        raise ValueError(f"{rule}, got {got}; name another, or change its last layer")


def in_a_line(error: Exception) -> str:
    """Return what kind of error it is, and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
