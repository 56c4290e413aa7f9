"""What CutMix and MixUp share: the settings of a draw, and its order."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral, Real
from typing import get_args

import torch

from cutmix import boxes
from cutmix.algorithms.mixer import Mixer
from cutmix.draws import SMALLEST_ALPHA, Pairing, check_generator, draw_coins, draw_partners
from cutmix.plans import OPAQUE, Plan
from cutmix.shapes import Boxes, Opacity

SHARE_OF_SIDE = "it is a share of the image side, for k pixels of n pass k / n"


class Recipe(Mixer):
    """A way to draw one plan: who is paired, whether anything is mixed, then where and how much."""

    __slots__ = ()

    alpha: float
    p: float
    per_sample: bool
    pairing: Pairing
    spatial_dims: tuple[int, ...] | None

    @abstractmethod
    def draw_regions(
        self, size: tuple[int, ...], count: int, generator: torch.Generator | None
    ) -> tuple[Boxes, Opacity]:
        """Draw ``count`` boxes, and the opacity of the partners in them."""

    def draw(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Plan:
        check_generator(generator)
        size = tuple(shape[axis] for axis in self.axes(shape))
        partners = draw_partners(shape[0], self.pairing, generator)
        if shape[0] == 1:
            return Plan(partners, boxes.empty(len(size)), OPAQUE, size)
        count = shape[0] if self.per_sample else 1
        coins = None if self.p == 1.0 else draw_coins(self.p, count, generator)
        drawn, opacity = self.draw_regions(size, count, generator)
        if coins is not None:
            drawn = torch.where(coins[:, None, None], drawn, 0)
        return Plan(partners, drawn, opacity, size)

    def _check_settings(self) -> None:
        check_number("alpha", self.alpha, 0.0, math.inf, "it is the parameter of Beta(alpha, alpha); 1 is standard")
        if 0.0 < self.alpha < SMALLEST_ALPHA or self.alpha == math.inf:
            raise ValueError(
                f"alpha must be 0 (mixes nothing) or finite and at least {SMALLEST_ALPHA}, got {self.alpha}: "
                "for fewer mixed batches use p"
            )
        for name in ("interpolate_loss", "uniform_sampling", "per_sample"):
            if not isinstance(getattr(self, name, False), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.spatial_dims is not None and not _are_whole(self.spatial_dims):
            raise TypeError(f"spatial_dims must be a tuple of axes, got {self.spatial_dims!r}: for example (2, 3)")
        check_number("p", self.p, 0.0, 1.0, "it is the share of batches, or of samples, that are mixed")
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


def check_length(length: float, nothing: str) -> None:
    """Check that a length is a share of a side, in (0, 1]; ``nothing`` says how to ask for less.

    Raises:
        TypeError: when it is no number.
        ValueError: when it lies outside, or is nan.
    """
    check_number("length", length, 0.0, 1.0, SHARE_OF_SIDE)
    if length == 0:
        raise ValueError(f"length must lie in (0, 1], got 0: {SHARE_OF_SIDE}, and {nothing} p=0")


def _are_whole(values: object) -> bool:
    return isinstance(values, Sequence) and all(isinstance(value, Integral) for value in values)
