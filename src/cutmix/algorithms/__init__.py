"""The algorithms: one object each, for the Trainer, for a plain loop and for a DataLoader."""

from cutmix.algorithms.cutmix import CutMix
from cutmix.algorithms.cutout import CutOut
from cutmix.algorithms.labelsmoothing import LabelSmoothing
from cutmix.algorithms.mixup import MixUp
from cutmix.algorithms.oneof import OneOf
from cutmix.algorithms.schedule import linear

__all__ = ["CutMix", "CutOut", "LabelSmoothing", "MixUp", "OneOf", "linear"]
