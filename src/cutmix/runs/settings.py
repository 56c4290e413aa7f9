"""What a run is made from, checked when it is made."""

import math
from dataclasses import dataclass
from typing import final

from cutmix.algorithms.mixer import Mixer
from cutmix.core.algorithm import Algorithm
from cutmix.core.time import Time
from cutmix.runs.algorithms import parse


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is learnt, and how: all that the arms of a comparison share.

    The defaults are the recipe that the built-in comparison was tuned on: SGD with Nesterov momentum, the rate rising
    over the first tenth and then falling along a cosine, batch by batch.
    """

    data: str
    """A folder of class folders (or with train and val or test folders of those), parquet files, a hub name such as
    hf:uoft-cs/cifar10, or openmoji, which is built in."""
    eval_data: str | None = None
    """What to test on; else what the data set brings, else a fifth is held back."""
    model: str = "resnet8"
    """resnet8, resnet20, ...; timm:NAME; or package.module:function of yours, called with the number of classes."""
    max_duration: str = "20ep"
    """How long to train: 20ep (epochs), 500ba (batches) or 50000sp (samples)."""
    batch_size: int = 32
    """Images a step, of each process."""
    lr: float = 0.05
    """The highest learning rate."""
    momentum: float = 0.9
    """Nesterov momentum; 0 for none."""
    weight_decay: float = 5e-4
    """Pull of the weights towards zero, on all parameters."""
    image_size: int | None = None
    """Side in pixels to resize and crop to; else the pictures' own where all agree, else 64."""
    train_size: int | None = None
    """Train on this many images only, drawn class by class."""
    augment: bool = True
    """Random moves of up to an eighth of the side, and flips: --no-augment leaves out both."""
    flip: bool = True
    """The flips: --no-flip leaves out only them."""
    skip_bad: bool = False
    """Go on past damaged pictures, and count them."""

    def __post_init__(self) -> None:
        """Check every setting whose rule needs no data."""
        Time.parse(self.max_duration, "max_duration")
        for name in ("batch_size", "image_size", "train_size"):
            _check_count(name, getattr(self, name))
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be above 0 and finite, got {self.lr}; 0.05 suits the small networks")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be 0 or more and finite, got {self.weight_decay}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run: a task, learnt with some algorithms, from one seed."""

    task: Task
    algorithms: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the seed and the algorithms."""
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if sum(isinstance(recipe, Mixer) for recipe in self.recipes) > 1:
            raise ValueError(f"algorithms must hold one that mixes at most, got {self.arm}; keep one of them")

    @property
    def recipes(self) -> tuple[Algorithm, ...]:
        """Return the algorithms, made from their text; none for the baseline."""
        return tuple(filter(None, map(parse, self.algorithms)))

    @property
    def arm(self) -> str:
        """Return what to call this choice of algorithms."""
        return " ".join(self.algorithms) or "baseline"


def _check_count(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")
