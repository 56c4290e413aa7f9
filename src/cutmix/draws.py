"""Every random choice of this library: drawn on the host, from the generator that is handed in, else torch's own."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch

from cutmix.shapes import Partners

Pairing: TypeAlias = Literal["ring", "shuffle"]
"""Who gets whom: one random cycle through the batch, where nobody is its own partner, or a plain permutation."""

SMALLEST_ALPHA = 0.01
"""Below it float64 gamma draws underflow to 0 / 0, and what is left of them is a coin."""


def draw_ring(batch: int, generator: torch.Generator | None = None) -> Partners:
    """Draw one random cycle through ``range(batch)``: nobody is its own partner, unless it is alone."""
    order = torch.randperm(batch, generator=generator)
    return torch.empty_like(order).scatter_(0, order, order.roll(-1))


def draw_shuffle(batch: int, generator: torch.Generator | None = None) -> Partners:
    """Draw a permutation of ``range(batch)``: on average one sample is its own partner."""
    return torch.randperm(batch, generator=generator)


def draw_partners(batch: int, pairing: Pairing, generator: torch.Generator | None = None) -> Partners:
    """Draw who is pasted into whom."""
    return (draw_ring if pairing == "ring" else draw_shuffle)(batch, generator)


def draw_beta(alpha: float, generator: torch.Generator | None = None) -> float:
    """Draw from Beta(alpha, alpha): one uniform number for ``alpha`` 1, else two float64 gamma draws."""
    if alpha == 1.0:
        return draw_uniform(generator)
    one, other = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()  # noqa: SLF001 - torch.distributions takes no generator
    return one / (one + other)


def draw_uniform(generator: torch.Generator | None = None) -> float:
    """Draw from the uniform distribution over [0, 1)."""
    return torch.rand((), dtype=torch.float64, generator=generator).item()


def draw_whole(low: int, high: int, generator: torch.Generator | None = None) -> int:
    """Draw one of the whole numbers from ``low`` up to, not including, ``high``."""
    return int(torch.randint(low, high, (), generator=generator))


Place: TypeAlias = Callable[[int, int, torch.Generator | None], int]
"""Draws where a box of ``side`` pixels starts along an axis of ``size`` pixels; it may lie over the edge."""


def start_around_a_pixel(size: int, side: int, generator: torch.Generator | None = None) -> int:
    """Draw the start of a box whose centre is uniform over the image's pixels (the paper's rule)."""
    return draw_whole(0, size, generator) - side // 2


def start_for_equal_pixels(size: int, side: int, generator: torch.Generator | None = None) -> int:
    """Draw the start of a box so that each pixel is inside with the same chance: every place that shows a pixel."""
    return draw_whole(1 - max(side, 1), size, generator)
