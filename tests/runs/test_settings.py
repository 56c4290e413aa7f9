import math

import pytest

from cutmix.algorithms.cutmix import CutMix
from cutmix.runs.settings import Settings, Task


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("weight_decay", math.nan),
        ("image_size", 0),
        ("train_size", -5),
        ("max_duration", "3days"),
        ("max_duration", "0ep"),
    ],
)
def test_a_bad_setting_is_refused_by_name_and_value(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must .*got '?{value}"):
        Task(data="openmoji", **{setting: value})


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        Settings(task=Task(data="openmoji"), seed=-1)


def test_two_algorithms_that_mix_are_refused():
    with pytest.raises(ValueError, match="one that mixes at most, got cutmix mixup"):
        Settings(task=Task(data="openmoji"), algorithms=("cutmix", "mixup"))


def test_the_baseline_has_no_recipe_and_keeps_its_name():
    settings = Settings(task=Task(data="openmoji"), algorithms=("baseline",))

    assert (settings.recipes, settings.arm) == ((), "baseline")


def test_recipes_are_made_from_their_text():
    assert Settings(task=Task(data="openmoji"), algorithms=("cutmix:p=0.5",)).recipes == (CutMix(p=0.5),)
