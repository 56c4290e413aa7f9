"""CutMix in every training loop: exact, fast, and measured on your own data."""

from typing import TYPE_CHECKING

from cutmix.algorithms.cutmix import CutMix
from cutmix.algorithms.cutout import CutOut
from cutmix.algorithms.labelsmoothing import LabelSmoothing
from cutmix.algorithms.mixup import MixUp
from cutmix.algorithms.oneof import OneOf
from cutmix.mixing import mix
from cutmix.plans import Plan
from cutmix.targets import MixedTarget

if TYPE_CHECKING:
    from cutmix.trainer import Trainer

__version__ = "0.1.0"
__all__ = ["CutMix", "CutOut", "LabelSmoothing", "MixUp", "MixedTarget", "OneOf", "Plan", "Trainer", "mix"]


def __getattr__(name: str) -> object:
    """Import the Trainer when it is first asked for, so that ``import cutmix`` stays light."""
    if name != "Trainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cutmix.trainer import Trainer

    return Trainer
