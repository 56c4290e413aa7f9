"""Who comes from Composer is told where each argument went."""

import pytest
from torch import nn

from cutmix.trainer import Trainer
from cutmix.trainer.composer.arguments import LEFT_OUT, METHODS, RENAMED, VALUES

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


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in VALUES.items() for value in values])
def test_a_value_that_only_composers_argument_takes_is_refused_with_the_reason(name, value):
    with pytest.raises(ValueError) as refusal:
        Trainer(**ARGUMENTS, **{name: value})

    assert str(refusal.value) == f"{name} must not be {value!r} here, as Composer's may: {VALUES[name][value]}"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_only_composers_trainer_has_is_refused_with_what_to_do_instead(name):
    trainer = Trainer(**ARGUMENTS)

    assert not hasattr(trainer, name)
    with pytest.raises(AttributeError) as refusal:
        getattr(trainer, name)
    assert str(refusal.value) == f"{name} is Composer's and is not there: {METHODS[name]}"


def test_an_attribute_that_nobody_has_is_missed_as_ever():
    with pytest.raises(AttributeError, match=r"^'Trainer' object has no attribute 'best'$") as refusal:
        _ = Trainer(**ARGUMENTS).best

    assert (refusal.value.name, type(refusal.value.obj)) == ("best", Trainer)
