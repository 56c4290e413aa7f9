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


EACH = OneOf([CutMix(length=0.5), MixUp(mixing=0.3)], weights=[3, 1], per_sample=True)


def test_each_sample_gets_one_of_the_recipes_as_often_as_its_weight_says():
    plan = EACH.draw((4000, 3, 6, 9), generator=seeded(0))
    cut = plan.opacity == 1.0

    assert set(plan.opacity.tolist()) == {1.0, 0.3}
    assert cut.double().mean().item() == pytest.approx(0.75, abs=0.03)
    assert (plan.boxes[~cut] == torch.tensor([[0, 0], [6, 9]])).all()
    assert len({tuple(box.flatten().tolist()) for box in plan.boxes[cut]}) > 20


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_each_sample_shows_what_its_recipe_does(batch, seed):
    images, labels = numbered(batch, 1, 6, 9), torch.arange(batch)
    plan = EACH.draw(images.shape, generator=seeded(seed))
    mixed, target = EACH(images, labels, generator=seeded(seed))

    for sample, (partner, (start, stop), opacity) in enumerate(
        zip(plan.partners, plan.boxes.tolist(), plan.opacity, strict=True)
    ):
        cut = (0, *map(slice, start, stop))
        expected = images[sample].clone()
        expected[cut] = images[sample][cut].lerp(images[partner][cut], opacity)
        torch.testing.assert_close(mixed[sample], expected)
    assert torch.equal(target.partner, plan.partners)


def test_each_sample_s_chance_to_be_mixed_is_that_of_its_recipe():
    switch = OneOf([CutMix(length=0.5, p=0.2), MixUp(mixing=0.3, p=0.8)], per_sample=True)
    plan = switch.draw((8000, 3, 6, 9), generator=seeded(0))
    mixed, cut = plan.kept < 1, plan.opacity == 1.0

    assert mixed[cut].double().mean().item() == pytest.approx(0.2, abs=0.03)
    assert mixed[~cut].double().mean().item() == pytest.approx(0.8, abs=0.03)


def test_a_batch_of_one_has_nobody_to_be_mixed_with():
    assert EACH.draw((1, 3, 6, 9)).kept.tolist() == [1.0]


@pytest.mark.parametrize(
    ("recipes", "settings", "error", "words"),
    [
        ([CutMix(), MixUp(pairing="shuffle")], {}, ValueError, r"same pairing .* got \['ring', 'shuffle'\]"),
        ([CutMix(), SWITCH], {}, TypeError, r"recipes must be CutMix or MixUp with per_sample=True, got OneOf"),
        ([CutMix(), MixUp()], {"per_sample": 1}, TypeError, r"per_sample must be True or False, got 1"),
    ],
)
def test_recipes_that_cannot_be_drawn_by_sample_are_refused(recipes, settings, error, words):
    with pytest.raises(error, match=words):
        OneOf(recipes, **{"per_sample": True, **settings})
