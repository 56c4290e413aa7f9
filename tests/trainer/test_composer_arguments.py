"""Who comes from Composer is told where each argument went."""

import pytest
from torch import nn

from cutmix.trainer import Trainer
from cutmix.trainer.composer.arguments import LEFT_OUT, RENAMED

ARGUMENTS = {"model": nn.Linear(2, 2), "device": "cpu", "progress_bar": False}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_argument_of_composers_that_is_left_out_is_refused_with_the_reason(name):
    with pytest.raises(TypeError) as refusal:
        Trainer(**ARGUMENTS, **{name: "this"})

    assert str(refusal.value) == f"{name} is Composer's and must be left out, got 'this': {LEFT_OUT[name]}"


@pytest.mark.parametrize("name", RENAMED)
def test_an_argument_of_composers_that_is_renamed_is_refused_with_its_name_here(name):
    with pytest.raises(TypeError, match=rf"{name} is Composer's, got \{{}}; it is called {RENAMED[name][0]} here: "):
        Trainer(**ARGUMENTS, **{name: {}})


@pytest.mark.parametrize(("name", "meant"), [("max_durations", "max_duration"), ("lossfn", "loss_fn")])
def test_an_argument_that_nobody_has_is_refused_with_the_nearest(name, meant):
    with pytest.raises(TypeError, match=rf"Trainer takes no argument '{name}', got 1; did you mean '{meant}'\?"):
        Trainer(**ARGUMENTS, **{name: 1})
