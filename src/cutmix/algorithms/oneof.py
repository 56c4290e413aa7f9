"""OneOf: for each batch one of several ways to mix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from cutmix.algorithms.mixer import Mixer
from cutmix.core.batch import Key
from cutmix.draws import check_generator, draw_choice
from cutmix.plans import Plan


@final
@dataclass(frozen=True, slots=True)
class OneOf(Mixer):
    """For each batch, use one of several recipes, each with its weight.

    Recipes of vision transformers switch so between MixUp and CutMix: timm's
    ``Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)`` is ``OneOf([MixUp(0.8), CutMix(1.0)])``.

    Args:
        recipes: two or more; each draws by its own settings, ``p`` among them. Their keys are not looked at.
        weights: how often each is used, by its share of their sum; else all alike.
        interpolate_loss: in the Trainer, weigh two calls of the loss instead of calling it on blended label rows.
        input_key: where the images are in a batch; else the Trainer's, and 0 in a plain loop.
        target_key: where the targets are; else the Trainer's, and 1 in a plain loop.

    Raises:
        TypeError: when a recipe is none.
        ValueError: when there are fewer than two recipes, or the weights do not fit.
    """

    recipes: Sequence[Mixer]
    weights: Sequence[float] | None = None
    interpolate_loss: bool = False
    input_key: Key | None = None
    target_key: Key | None = None

    def __post_init__(self) -> None:
        recipes = tuple(self.recipes)
        weights = (1.0,) * len(recipes) if self.weights is None else tuple(self.weights)
        # A frozen value may be given lists; it keeps tuples, so that it can be hashed.
        object.__setattr__(self, "recipes", recipes)
        object.__setattr__(self, "weights", weights)
        for recipe in recipes:
            _check_mixer(recipe)
        if len(recipes) < 2:  # noqa: PLR2004 - one of one is no choice
            raise ValueError(f"recipes must be two or more, got {list(recipes)}: use a single one as it is")
        fit = len(weights) == len(recipes) and all(weight >= 0.0 and math.isfinite(weight) for weight in weights)
        if not fit or not any(weights):
            raise ValueError(
                f"weights must be one number a recipe, 0 or more and not all 0, got {list(weights)} for "
                f"{len(recipes)} recipes: leave them out to use all alike"
            )

    def axes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return which axes are cut: those that all recipes cut."""
        axes, *others = dict.fromkeys(recipe.axes(shape) for recipe in self.recipes)
        if others:
            raise ValueError(
                f"recipes must cut the same axes of shape {tuple(shape)}, got {axes} and {others[0]}: "
                "give all of them the same spatial_dims"
            )
        return axes

    def draw(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Plan:
        """Draw which recipe is used for one batch of this shape, and let it draw the plan."""
        check_generator(generator)
        chosen = self.recipes[draw_choice(self.weights or (), generator)]
        return chosen.draw(shape, generator=generator)


def _check_mixer(recipe: object) -> None:
    if not isinstance(recipe, Mixer):
        raise TypeError(f"recipes must be mixers such as CutMix() and MixUp(), got {recipe!r}")
