"""What CutMix and MixUp share: the settings of a draw, and its order."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral, Real
from typing import get_args

import torch

from cutmix import boxes
from cutmix.algorithms.mixer import Mixer
from cutmix.draws import SMALLEST_ALPHA, Pairing, check_generator, draw_partners, draw_uniform
from cutmix.plans import OPAQUE, Plan
from cutmix.shapes import Boxes


class Recipe(Mixer):
    """A way to draw one plan: who is paired, whether anything is mixed, then where and how much."""

    __slots__ = ()

    alpha: float
    p: float
    pairing: Pairing
    spatial_dims: tuple[int, ...] | None

    @abstractmethod
    def draw_region(self, size: tuple[int, ...], generator: torch.Generator | None) -> tuple[Boxes, float]:
        """Draw the box of one batch, and the opacity of the partners in it."""

    def draw(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Plan:
        check_generator(generator)
        size = tuple(shape[axis] for axis in self.axes(shape))
        partners = draw_partners(shape[0], self.pairing, generator)
        mixes = shape[0] > 1 and (self.p == 1.0 or draw_uniform(generator) < self.p)
        box, opacity = self.draw_region(size, generator) if mixes else (boxes.empty(len(size)), 1.0)
        return Plan(partners, box, OPAQUE if opacity == 1.0 else torch.tensor([opacity], dtype=torch.float64), size)

    def _check_settings(self) -> None:
        check_number("alpha", self.alpha, 0.0, math.inf, "it is the parameter of Beta(alpha, alpha); 1 is standard")
        if 0.0 < self.alpha < SMALLEST_ALPHA or self.alpha == math.inf:
            raise ValueError(
                f"alpha must be 0 (mixes nothing) or finite and at least {SMALLEST_ALPHA}, got {self.alpha}: "
                "for fewer mixed batches use p"
            )
        for name in ("interpolate_loss", "uniform_sampling"):
            if not isinstance(getattr(self, name, False), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.spatial_dims is not None and not _are_whole(self.spatial_dims):
            raise TypeError(f"spatial_dims must be a tuple of axes, got {self.spatial_dims!r}: for example (2, 3)")
        check_number("p", self.p, 0.0, 1.0, "it is the share of batches that are mixed")
        if self.pairing not in get_args(Pairing):
            raise ValueError(f"pairing must be one of {get_args(Pairing)}, got {self.pairing!r}")


def check_number(name: str, value: float, low: float, high: float, meaning: str) -> None:
    """Check that a setting is a number from ``low`` to ``high``.

    Raises:
        TypeError: when it is no number.
        ValueError: when it lies outside, or is nan.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}: {meaning}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value}: {meaning}")


def _are_whole(values: object) -> bool:
    return isinstance(values, Sequence) and all(isinstance(value, Integral) for value in values)
