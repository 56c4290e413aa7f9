"""Images for training: class folders, parquet files, the hub, and pictures drawn from a font."""

from cutmix.data.augment import Augment
from cutmix.data.feed import Standardise, loader
from cutmix.data.images import LabelledImages, Splits
from cutmix.data.loading import load

__all__ = ["Augment", "LabelledImages", "Splits", "Standardise", "load", "loader"]
