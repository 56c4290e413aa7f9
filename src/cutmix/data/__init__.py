"""Images for training: class folders, parquet files, the hub, and pictures drawn from a font."""

from cutmix.data.feed import InMemory, Standardise, loader
from cutmix.data.images import LabelledImages, Splits
from cutmix.data.loading import load

__all__ = ["InMemory", "LabelledImages", "Splits", "Standardise", "load", "loader"]
