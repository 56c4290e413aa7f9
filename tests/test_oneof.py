import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.algorithms import CutMix, MixUp, OneOf
from cutmix.draws import draw_choice
from cutmix.trainer import Trainer
from strategies import numbered

IMAGES, LABELS = numbered(4, 3, 6, 9), torch.arange(4)
SWITCH = OneOf([CutMix(length=0.5), MixUp(mixing=0.3)])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_each_batch_is_mixed_by_one_of_the_recipes_as_often_as_its_weight_says():
    switch = OneOf([CutMix(length=0.5), MixUp(mixing=0.3)], weights=[3, 1])
    generator = seeded(0)
    plans = [switch.draw(IMAGES.shape, generator=generator) for _ in range(2000)]

    assert {plan.opacity.item() for plan in plans} == {1.0, 0.3}
    assert sum(plan.opacity.item() == 1.0 for plan in plans) / 2000 == pytest.approx(0.75, abs=0.04)


@given(st.integers(0, 2**32 - 1))
def test_what_is_drawn_is_what_the_chosen_recipe_draws(seed):
    plan, generator = SWITCH.draw(IMAGES.shape, generator=seeded(seed)), seeded(seed)

    chosen = SWITCH.recipes[draw_choice(SWITCH.weights, generator)]
    assert plan == chosen.draw(IMAGES.shape, generator=generator)


def test_a_weight_of_0_is_never_chosen():
    generator = seeded(0)

    assert {draw_choice([0.0, 2.0, 0.0, 1.0], generator) for _ in range(500)} == {1, 3}


def test_it_works_wherever_a_mixer_does():
    images, target = SWITCH(IMAGES, LABELS, generator=seeded(0))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(162, 4))
    Trainer(model, [(IMAGES.float(), LABELS)] * 3, algorithms=SWITCH, progress_bar=False).fit()

    assert not torch.equal(images, IMAGES)
    assert (target.kept < 1).all()
    assert pickle.loads(pickle.dumps(SWITCH.collate())) == SWITCH.collate()
    assert hash(SWITCH) == hash(OneOf((CutMix(length=0.5), MixUp(mixing=0.3)), (1.0, 1.0)))


@pytest.mark.parametrize(
    ("recipes", "weights", "error", "words"),
    [
        ([CutMix()], None, ValueError, r"recipes must be two or more, got \[CutMix"),
        ([CutMix(), "mixup"], None, TypeError, r"recipes must be mixers .* got 'mixup'"),
        ([CutMix(), MixUp()], [1.0], ValueError, r"weights must be one number a recipe, .* got \[1\.0\] for 2 recipes"),
        ([CutMix(), MixUp()], [1.0, -1.0], ValueError, r"weights must be one number a recipe"),
        ([CutMix(), MixUp()], [0, 0], ValueError, r"not all 0, got \[0, 0\]"),
        ([CutMix(), MixUp()], [1, float("nan")], ValueError, r"weights must be one number a recipe"),
    ],
)
def test_what_is_no_choice_is_refused(recipes, weights, error, words):
    with pytest.raises(error, match=words):
        OneOf(recipes, weights)


def test_recipes_that_cut_different_axes_are_refused():
    switch = OneOf([CutMix(spatial_dims=(1, 2)), CutMix()])

    with pytest.raises(ValueError, match=r"recipes must cut the same axes of shape \(4, 3, 6, 9\), got \(1, 2\) and"):
        switch(IMAGES, LABELS)
