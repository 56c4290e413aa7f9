"""Every random choice of this library: drawn on the host, from the generator that is handed in, else torch's own."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

import numpy as np
import torch

from cutmix.shapes import Partners

Pairing: TypeAlias = Literal["ring", "shuffle"]
"""Who gets whom: one random cycle through the batch, where nobody is its own partner, or a plain permutation."""

SMALLEST_ALPHA = 0.01
"""Below it float64 gamma draws underflow to 0 / 0, and what is left of them is a coin."""


def draw_ring(batch: int, generator: torch.Generator | None = None) -> Partners:
    """Draw one random cycle through ``range(batch)``: nobody is its own partner, unless it is alone."""
    order = torch.randperm(batch, generator=generator).numpy()
    partners = np.empty_like(order)
    partners[order[:-1]] = order[1:]
    partners[order[-1]] = order[0]
    return torch.from_numpy(partners)


def draw_shuffle(batch: int, generator: torch.Generator | None = None) -> Partners:
    """Draw a permutation of ``range(batch)``: on average one sample is its own partner."""
    return torch.randperm(batch, generator=generator)


def draw_partners(batch: int, pairing: Pairing, generator: torch.Generator | None = None) -> Partners:
    """Draw who is pasted into whom."""
    return (draw_ring if pairing == "ring" else draw_shuffle)(batch, generator)


def draw_beta(alpha: float, generator: torch.Generator | None = None) -> float:
    """Draw from Beta(alpha, alpha): one uniform number for ``alpha`` 1, else two float64 gamma draws."""
    return draw_beta_and_uniforms(alpha, 0, generator)[0]


def draw_beta_and_uniforms(
    alpha: float, count: int, generator: torch.Generator | None = None
) -> tuple[float, list[float]]:
    """Draw from Beta(alpha, alpha), and ``count`` numbers from the uniform distribution over [0, 1)."""
    if alpha == 1.0:
        first, *uniforms = draw_uniforms(1 + count, generator)
        return first, uniforms
    one, other = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()  # noqa: SLF001 - torch.distributions takes no generator
    return one / (one + other), draw_uniforms(count, generator)


def draw_uniform(generator: torch.Generator | None = None) -> float:
    """Draw from the uniform distribution over [0, 1)."""
    return draw_uniforms(1, generator)[0]


def draw_uniforms(count: int, generator: torch.Generator | None = None) -> list[float]:
    """Draw ``count`` numbers from the uniform distribution over [0, 1)."""
    return torch.rand(count, dtype=torch.float64, generator=generator).tolist()


def draw_choice(weights: Sequence[float], generator: torch.Generator | None = None) -> int:
    """Draw a position in ``weights``, each as often as its share of their sum."""
    bounds = list(accumulate(weights))
    return bisect_right(bounds, bounds[-1] * draw_uniform(generator))


def check_generator(generator: object) -> None:
    """Check that one can draw on the host from ``generator``.

    Raises:
        TypeError: when it is no generator.
        ValueError: when it lives on another device.
    """
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {generator!r}: pass one, or leave it out")
    if generator.device.type != "cpu":
        raise ValueError(
            f"generator must live on the CPU, where plans are drawn, got one on {generator.device}: "
            "pass torch.Generator().manual_seed(...)"
        )
