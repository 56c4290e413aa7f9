"""What CutMix and MixUp share: the settings of a draw, and its order."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import Tensor

from cutmix import boxes
from cutmix.algorithms.mixer import Mixer
from cutmix.algorithms.pairing import draw_pairs
from cutmix.algorithms.schedule import (
    Schedule,
    Until,
    check_schedule,
    check_until,
    is_scheduled,
    settled,
    without_mixing,
)
from cutmix.algorithms.settings import check_alpha, check_flag, check_p, check_spatial_dims
from cutmix.core.time import Moment
from cutmix.draws import PAIRINGS, Pairing, draw_coins, is_number
from cutmix.plans import OPAQUE, Plan, trusted_plan
from cutmix.shapes import Boxes, Labels, Opacity


class Recipe(Mixer):
    """A way to draw one plan: who is paired, whether anything is mixed, then where and how much."""

    __slots__ = ()

    alpha: float | Schedule
    p: float | Schedule
    per_sample: bool
    pairing: Pairing
    until: Until | None
    spatial_dims: tuple[int, ...] | None

    @abstractmethod
    def draw_regions(
        self, size: tuple[int, ...], count: int, generator: torch.Generator | None
    ) -> tuple[Boxes, Opacity]:
        """Draw ``count`` boxes, and the opacity of the partners in them."""

    def draw_plan(
        self, shape: Sequence[int], generator: torch.Generator | None, labels: Labels | None, source: int | None
    ) -> Plan:
        size = tuple(shape[axis] for axis in self.axes(shape))
        partners = draw_pairs(shape[0], self.pairing, labels, source, generator)
        if shape[0] == 1 and source is None:
            return trusted_plan(partners, boxes.empty(len(size)), OPAQUE, size)
        return trusted_plan(partners, *self.draw_some(size, shape[0] if self.per_sample else 1, generator), size)

    def draw_some(self, size: tuple[int, ...], count: int, generator: torch.Generator | None) -> tuple[Boxes, Opacity]:
        """Draw ``count`` regions, and which of them are empty: all but the share ``p``."""
        coins = None if is_number(self.p, 1.0) else draw_coins(cast("float", self.p), count, generator)
        drawn, opacity = self.draw_regions(size, count, generator)
        return drawn if coins is None else torch.where(coins[:, None, None], drawn, 0), opacity

    @property
    def needs_labels(self) -> bool:
        return self.pairing == "same_class"

    @property
    def is_scheduled(self) -> bool:
        return is_scheduled(self)

    def settled(self, moment: Moment) -> Self:
        return settled(self, moment)

    def without_mixing(self) -> Self:
        return without_mixing(self)

    @property
    def _has_no_alpha(self) -> bool:
        return is_number(self.alpha, 0.0)

    def _check_settings(self) -> None:
        self._take_numbers()
        check_schedule(self.alpha, check_alpha)
        check_schedule(self.p, check_p)
        check_until(self.until)
        for name in ("interpolate_loss", "uniform_sampling", "per_sample"):
            check_flag(name, getattr(self, name, False))
        check_spatial_dims(self.spatial_dims)
        if self.pairing not in PAIRINGS:
            raise ValueError(f"pairing must be one of {PAIRINGS}, got {self.pairing!r}")

    def _take_numbers(self) -> None:
        """Take a tensor without axes for its number, but in a graph, where it stands for any number."""
        for name in ("alpha", "p"):
            setting = getattr(self, name)
            if isinstance(setting, Tensor) and setting.ndim == 0 and not torch.compiler.is_compiling():
                object.__setattr__(self, name, setting.item())
