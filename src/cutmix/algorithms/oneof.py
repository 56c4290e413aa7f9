"""OneOf: for each batch, or each sample, one of several ways to mix."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Self, cast, final

import torch

from cutmix import boxes
from cutmix.algorithms.mixer import Mixer
from cutmix.algorithms.pairing import draw_pairs
from cutmix.algorithms.recipe import Recipe
from cutmix.algorithms.schedule import Until, check_until, is_over
from cutmix.algorithms.settings import NUMBERS, check_flag
from cutmix.core.batch import Key
from cutmix.core.time import Moment
from cutmix.draws import draw_choice, draw_choices
from cutmix.plans import OPAQUE, Plan, trusted_plan
from cutmix.shapes import Labels


@final
@dataclass(frozen=True, slots=True)
class OneOf(Mixer):
    """For each batch, or each sample, use one of several recipes, each with its weight.

    Recipes of vision transformers switch so between MixUp and CutMix: timm's
    ``Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)`` is ``OneOf([MixUp(0.8), CutMix(1.0)])``, and with
    ``mode="elem"`` it is ``OneOf([MixUp(0.8), CutMix(1.0)], per_sample=True)``.

    Args:
        recipes: two or more; each draws by its own settings, ``p`` among them. Their keys are not looked at.
        weights: how often each is used, by its share of their sum; else all alike.
        interpolate_loss: in the Trainer, weigh two calls of the loss instead of calling it on blended label rows.
        input_key: where the images are in a batch; else the Trainer's, and 0 in a plain loop.
        target_key: where the targets are; else the Trainer's, and 1 in a plain loop.
        per_sample: draw for each sample which recipe it gets, CutMix or MixUp, then its own box and weight, whatever
            the recipes' own ``per_sample``. All have the same pairing.
        until: mix nothing from then on: ``'270ep'`` since the start of the run, or a share of it, 0.9.

    Raises:
        TypeError: when a recipe is none, or none that ``per_sample`` can use.
        ValueError: when there are fewer than two recipes, or the weights or pairings do not fit.
    """

    recipes: Sequence[Mixer]
    weights: Sequence[float] | None = None
    interpolate_loss: bool = False
    input_key: Key | None = None
    target_key: Key | None = None
    _: KW_ONLY
    per_sample: bool = False
    until: Until | None = None

    def __post_init__(self) -> None:
        # A frozen value may be given lists; it keeps tuples, so that it can be hashed.
        for name, whole in (("recipes", self.recipes), ("weights", self.weights or ())):
            if not isinstance(whole, Sequence):
                raise TypeError(f"{name} must be a list, got {whole!r}: OneOf([MixUp(0.8), CutMix()], weights=[1, 2])")
        object.__setattr__(self, "recipes", tuple(self.recipes))
        weights = (1.0,) * len(self.recipes) if self.weights is None else tuple(self.weights)
        object.__setattr__(self, "weights", weights)
        check_flag("per_sample", self.per_sample)
        check_flag("interpolate_loss", self.interpolate_loss)
        check_until(self.until)
        _check_recipes(self.recipes, per_sample=self.per_sample)
        _check_weights(weights, self.recipes)

    def axes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return which axes are cut: those that all recipes cut."""
        axes, *others = dict.fromkeys(recipe.axes(shape) for recipe in self.recipes)
        if others:
            raise ValueError(
                f"recipes must cut the same axes of shape {tuple(shape)}, got {axes} and {others[0]}: "
                "give all of them the same spatial_dims"
            )
        return axes

    def draw_plan(
        self, shape: Sequence[int], generator: torch.Generator | None, labels: Labels | None, source: int | None
    ) -> Plan:
        self.axes(shape)  # whatever is chosen, the same shapes are refused, and before anything is drawn
        if self.per_sample:
            return self._draw_for_each(shape, generator, labels, source)
        if torch.compiler.is_compiling():
            raise ValueError(
                "OneOf must choose for a whole batch outside of torch.compile, whose graphs go one way only: draw "
                "there and hand the plan in, cutmix.mix(images, targets, plan), or pass per_sample=True"
            )
        chosen = self.recipes[draw_choice(self.weights or (), generator)]
        return chosen.draw(shape, generator=generator, labels=labels, source=source)

    def _draw_for_each(
        self, shape: Sequence[int], generator: torch.Generator | None, labels: Labels | None, source: int | None
    ) -> Plan:
        recipes = cast("Sequence[Recipe]", self.recipes)
        batch, size = shape[0], tuple(shape[axis] for axis in self.axes(shape))
        partners = draw_pairs(batch, recipes[0].pairing, labels, source, generator)
        if batch == 1 and source is None:
            return trusted_plan(partners, boxes.empty(len(size)), OPAQUE, size)
        choices = draw_choices(self.weights or (), batch, generator)
        regions = [recipe.draw_some(size, batch, generator) for recipe in recipes]
        drawn, opacity = (torch.stack(part)[choices, torch.arange(batch)] for part in zip(*regions, strict=True))
        return trusted_plan(partners, drawn, opacity, size)

    @property
    def needs_labels(self) -> bool:
        return any(recipe.needs_labels for recipe in self.recipes)

    @property
    def is_scheduled(self) -> bool:
        return self.until is not None or any(recipe.is_scheduled for recipe in self.recipes)

    def settled(self, moment: Moment) -> Self:
        if is_over(self.until, moment):
            return self.without_mixing()
        return replace(self, recipes=[recipe.at(moment) for recipe in self.recipes], until=None)

    def without_mixing(self) -> Self:
        return replace(self, recipes=[recipe.without_mixing() for recipe in self.recipes], until=None)


def _check_recipes(recipes: Sequence[Mixer], *, per_sample: bool) -> None:
    for recipe in recipes:
        if not isinstance(recipe, Mixer):
            raise TypeError(f"recipes must be mixers such as CutMix() and MixUp(), got {recipe!r}")
        if per_sample and not isinstance(recipe, Recipe):
            raise TypeError(f"recipes must be CutMix or MixUp with per_sample=True, got {recipe!r}: list what is in it")
    if len(recipes) < 2:  # noqa: PLR2004 - one of one is no choice
        raise ValueError(f"recipes must be two or more, got {list(recipes)}: use a single one as it is")
    pairings = sorted({recipe.pairing for recipe in recipes if isinstance(recipe, Recipe)})
    if per_sample and len(pairings) > 1:
        raise ValueError(f"recipes must have the same pairing with per_sample=True, got {pairings}: choose one of them")


def _check_weights(weights: Sequence[float], recipes: Sequence[Mixer]) -> None:
    if not all(isinstance(weight, NUMBERS) and not isinstance(weight, bool) for weight in weights):
        raise TypeError(f"weights must be numbers, got {list(weights)}: they are how often each recipe is used")
    fit = len(weights) == len(recipes) and all(weight >= 0.0 and math.isfinite(weight) for weight in weights)
    if not fit or not any(weights):
        raise ValueError(
            f"weights must be one number a recipe, 0 or more and not all 0, got {list(weights)} for "
            f"{len(recipes)} recipes: leave them out to use all alike"
        )
