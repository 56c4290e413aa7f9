"""The CutMix of other libraries, each called as its users call it; ``peers.txt`` pins their versions.

All draw from Beta(1, 1) where they can. None needs a compiled operator of its own, so their Python parts are enough.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TypeAlias, final
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor
from torch.nn import functional as F

from timing import seed_everything

Call: TypeAlias = Callable[[], Tensor]
"""Mixes the batch that it was made for, with a new draw, and returns the images."""
Maker: TypeAlias = Callable[[Tensor, Tensor, int], Call]
"""``(images, ids, num_classes)`` -> a call."""


def composer(images: Tensor, ids: Tensor, _num_classes: int) -> Call:
    """``composer.functional.cutmix_batch``, from its own file: the rest of Composer refuses this torch.

    What that file imports from Composer serves the Trainer, and is a stand-in here.
    """
    path = _folder_of("composer") / "algorithms" / "cutmix" / "cutmix.py"
    spec = spec_from_file_location("composer_cutmix", path)
    module = module_from_spec(spec)
    imported = ("composer", "composer.core", "composer.loggers", "composer.loss", "composer.loss.utils")
    with patch.dict(sys.modules, {name: MagicMock(Algorithm=object) for name in imported}):
        spec.loader.exec_module(module)
    return lambda: module.cutmix_batch(images, ids, alpha=1.0)[0]


def torchvision(images: Tensor, ids: Tensor, num_classes: int) -> Call:
    """``torchvision.transforms.v2.CutMix``."""
    _import_torchvision()
    from torchvision.transforms.v2 import CutMix

    cutmix = CutMix(num_classes=num_classes, alpha=1.0)
    return lambda: cutmix(images, ids)[0]


def timm(images: Tensor, ids: Tensor, num_classes: int, mode: str = "batch") -> Call:
    """``timm.data.Mixup``, as CutMix alone."""
    _import_torchvision()
    from timm.data import Mixup

    cutmix = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, mode=mode, num_classes=num_classes)
    return lambda: cutmix(images, ids)[0]


def timm_by_element(images: Tensor, ids: Tensor, num_classes: int) -> Call:
    """``timm.data.Mixup`` with a box for each sample."""
    return timm(images, ids, num_classes, mode="elem")


def keras(images: Tensor, ids: Tensor, num_classes: int) -> Call:
    """``keras.layers.CutMix`` on torch."""
    os.environ["KERAS_BACKEND"] = "torch"
    from keras.layers import CutMix

    layer = CutMix(factor=(1.0, 1.0), seed=0, data_format="channels_first")
    batch = {"images": images, "labels": F.one_hot(ids, num_classes).float()}
    return lambda: layer(batch, training=True)["images"]


def kornia(images: Tensor, ids: Tensor, _num_classes: int) -> Call:
    """``kornia.augmentation.RandomCutMixV2``."""
    from kornia.augmentation import RandomCutMixV2

    cutmix = RandomCutMixV2(num_mix=1, p=1.0, data_keys=["input", "class"], use_correct_lambda=True)
    return lambda: cutmix(images, ids)[0]


@final
@dataclass(frozen=True, slots=True)
class Peer:
    """One way to call one library.

    Attributes:
        package: its name in the package index.
        make: imports it, and makes the call for a batch.
        per_sample: whether each sample has a box of its own.
        differs: in what it does not do the same work as ours.
    """

    package: str
    make: Maker
    per_sample: bool
    differs: str


PEERS = {
    "Composer": Peer(
        "mosaicml", composer, per_sample=False, differs="fresh memory; a permutation; alone its own file runs"
    ),
    "torchvision": Peer("torchvision", torchvision, per_sample=False, differs="fresh memory; partners are neighbours"),
    "timm": Peer("timm", timm, per_sample=False, differs="in place; partners from the batch turned round; dense rows"),
    "timm, elem": Peer(
        "timm", timm_by_element, per_sample=True, differs="in place; partners from the batch turned round; dense rows"
    ),
    "keras": Peer(
        "keras", keras, per_sample=True, differs="fresh memory; boxes wholly inside, so that more is replaced; rows"
    ),
    "kornia": Peer("kornia", kornia, per_sample=True, differs="fresh memory; boxes wholly inside"),
}
DRAWS = 100


def load() -> tuple[dict[str, Peer], dict[str, dict[str, object]]]:
    """Return the peers that can be used here, and of each peer its version, or why it is left out."""
    usable, described = {}, {}
    for name, peer in PEERS.items():
        described[name] = {"package": peer.package, "differs": peer.differs}
        try:
            described[name] |= {"replaced_share": replaced_share(peer.make), "version": version(peer.package)}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is named in the result
            described[name]["left_out"] = f"{type(error).__name__}: {error}"
        else:
            usable[name] = peer
    return usable, described


def replaced_share(make: Maker) -> float:
    """Return the mean share of an image that a library replaces, after a check that it pastes whole pixels.

    Raises:
        ValueError: when it never mixes, blends, or pastes from several partners into one sample.
    """
    batch = 64
    marked = torch.arange(batch, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 32, 32).contiguous()
    images = marked.clone()
    call = make(images, torch.arange(batch) % 10, 10)
    shares = []
    for seed in range(DRAWS):
        seed_everything(seed)
        images.copy_(marked)  # for those that work in place
        foreign = call() != marked
        shares.append(foreign.float().mean().item())
    images.copy_(marked)
    mixed = call()
    if not max(shares):
        raise ValueError(f"it mixed nothing in {DRAWS} draws")
    marks = set(range(batch))
    pasted = [{*sample.unique().tolist()} - {own} for own, sample in enumerate(mixed)]
    if not all(len(values) <= 1 and values <= marks for values in pasted):
        raise ValueError("its samples show more than their own pixels and one partner's")
    return round(sum(shares) / len(shares), 4)


def _import_torchvision() -> None:
    """Import torchvision, also where its compiled operators do not load beside this torch: CutMix uses none."""
    try:
        import torchvision
    except RuntimeError:
        for operator in ("nms", "qnms"):  # what its _meta_registrations takes for granted
            torch.library.define(f"torchvision::{operator}", "() -> ()")
        import torchvision  # noqa: F401


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}")
    return Path(spec.origin).parent
