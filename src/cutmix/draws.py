"""Every random choice of this library: drawn on the host, from the generator that is handed in, else torch's own."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from cutmix.shapes import Chances, Choices, Classes, Coins, Drawn, Partners

Pairing: TypeAlias = Literal["ring", "shuffle", "same_class"]
"""Who gets whom: one random cycle through the batch, where nobody is its own partner; a plain permutation; one random
cycle inside each class."""
PAIRINGS = get_args(Pairing)


def draw_ring(batch: int, generator: torch.Generator | None = None) -> Partners:
    """Draw one random cycle through ``range(batch)``: nobody is its own partner, unless it is alone."""
    order = torch.randperm(batch, generator=generator).numpy()
    partners = np.empty_like(order)
    partners[order[:-1]], partners[order[-1:]] = order[1:], order[:1]
    return torch.from_numpy(partners)


def draw_shuffle(batch: int, generator: torch.Generator | None = None) -> Partners:
    """Draw a permutation of ``range(batch)``: on average one sample is its own partner."""
    return torch.randperm(batch, generator=generator)


def draw_ring_in_each_class(classes: Classes, generator: torch.Generator | None = None) -> Partners:
    """Draw one random cycle inside each class: nobody is its own partner, unless it is alone in its class."""
    shuffled = torch.randperm(len(classes), generator=generator)
    order = shuffled[classes[shuffled].argsort(stable=True)]
    grouped = classes[order]
    following = torch.arange(1, len(classes) + 1)
    is_last = following == torch.searchsorted(grouped, grouped, right=True)
    following = torch.where(is_last, torch.searchsorted(grouped, grouped), following)
    return torch.empty_like(order).scatter_(0, order, order[following])


def draw_from(source: int, batch: int, generator: torch.Generator | None = None) -> Partners:
    """Draw ``batch`` partners from ``range(source)``: nobody twice before everybody has been drawn once."""
    rounds = -(-batch // source)
    return torch.rand(rounds, source, dtype=torch.float64, generator=generator).argsort(1).flatten()[:batch]


def draw_betas(alpha: float | Tensor, count: int, generator: torch.Generator | None = None) -> Drawn:
    """Draw ``count`` numbers from Beta(alpha, alpha): of one uniform number each for ``alpha`` 1, else of two."""
    return draw_betas_and_chances(alpha, count, 0, generator)[0]


def draw_betas_and_chances(
    alpha: float | Tensor, count: int, axes: int, generator: torch.Generator | None = None
) -> tuple[Drawn, Chances]:
    """Draw ``count`` numbers from Beta(alpha, alpha), and for each of them ``axes`` uniform ones."""
    if is_number(alpha, 1.0):
        drawn = draw_chances(1 + axes, count, generator)
        return drawn[0], drawn[1:]
    drawn = draw_chances(2 + axes, count, generator)
    return _betas(alpha, drawn[0], drawn[1]), drawn[2:]


def draw_beta_and_chances(
    alpha: float, axes: int, generator: torch.Generator | None = None
) -> tuple[float, list[float]]:
    """Draw what ``draw_betas_and_chances`` draws for a count of one, as plain numbers."""
    if is_number(alpha, 1.0):
        first, *chances = torch.rand(1 + axes, dtype=torch.float64, generator=generator).tolist()
        return first, chances
    radius, angle, *chances = torch.rand(2 + axes, dtype=torch.float64, generator=generator).tolist()
    return _betas(alpha, np.array([radius]), np.array([angle])).item(), chances


def is_number(setting: object, number: float) -> bool:
    """Tell whether a setting is this number; of a tensor, as it may be in a graph, nobody knows."""
    return not isinstance(setting, Tensor) and bool(setting == number)  # numpy has a bool of its own


def _betas(alpha: float | Tensor, radii: Drawn, angles: Drawn) -> Drawn:
    """Turn pairs of uniform numbers into numbers from Beta(alpha, alpha), for any ``alpha`` above 0.

    Source: Devroye 1996, Random variate generation in one line of code: where U and V are uniform,
    ``W = (U**(-1 / alpha) - 1) * cos(2 * pi * V)**2`` and the sign is that of the cosine, it is
    ``(1 +- sqrt(W / (1 + W))) / 2``. Here by the two parts of 1, ``1 / (1 + W)`` and ``W / (1 + W)``, each times
    ``U**(1 / alpha)`` and so without an infinity, and neither taken from 1, which would cancel.
    """
    exponents = np.log1p(-radii) / alpha
    cosines = np.cos(2.0 * np.pi * angles)
    tails, middles = np.exp(exponents), -np.expm1(exponents) * cosines * cosines
    both = tails + middles
    smaller = tails / (2.0 * (both + np.sqrt(middles * both)))
    return np.where(cosines < 0.0, smaller, 1.0 - smaller)


def draw_chances(axes: int, count: int, generator: torch.Generator | None = None) -> Chances:
    """Draw ``axes`` numbers for each of ``count`` boxes from the uniform distribution over [0, 1)."""
    return torch.rand(axes, count, dtype=torch.float64, generator=generator).numpy()


def draw_coins(p: float, count: int, generator: torch.Generator | None = None) -> Coins:
    """Draw ``count`` times whether what happens with probability ``p`` does."""
    return torch.rand(count, dtype=torch.float64, generator=generator) < p


def draw_choice(weights: Sequence[float], generator: torch.Generator | None = None) -> int:
    """Draw a position in ``weights``, each as often as its share of their sum."""
    bounds = list(accumulate(weights))
    return bisect_right(bounds, bounds[-1] * draw_chances(1, 1, generator).item())


def draw_choices(weights: Sequence[float], count: int, generator: torch.Generator | None = None) -> Choices:
    """Draw ``count`` positions in ``weights``, each as often as its share of their sum."""
    bounds = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    chances = torch.rand(count, dtype=torch.float64, generator=generator)
    return torch.searchsorted(bounds, bounds[-1] * chances, right=True)


def check_generator(generator: object) -> None:
    """Check that one can draw on the host from ``generator``.

    Raises:
        TypeError: when it is no generator.
        ValueError: when it lives on another device, or a graph is being compiled.
    """
    if generator is None:
        return
    if torch.compiler.is_compiling():
        raise ValueError(
            f"generator must be left out inside torch.compile, whose graphs take none, got {generator!r}: draw "
            "outside, plan = recipe.draw(images.shape, generator=generator), and hand the plan in to cutmix.mix"
        )
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {generator!r}: pass one, or leave it out")
    if generator.device.type != "cpu":
        raise ValueError(
            f"generator must live on the CPU, where plans are drawn, got one on {generator.device}: "
            "pass torch.Generator().manual_seed(...)"
        )
