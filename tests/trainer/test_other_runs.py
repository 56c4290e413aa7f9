"""A checkpoint of another run is refused: each difference is named, and the run that is there stays as it is."""

from dataclasses import replace

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler as schedules

from cutmix.core import Callback
from cutmix.core.world import World
from cutmix.trainer.checkpoints.manifest import CheckpointError
from cutmix.trainer.checkpoints.snapshot import capture, restore
from snapshots import digest, net, trainer


class Holding(Callback):
    def __init__(self, state=None):
        self.state = {"held": torch.ones(2)} if state is None else state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        if self.state == "refuses":
            raise ValueError("state must be another")
        self.state = state


def run(model=None, optimizers=None, schedulers=None, **settings):
    model = net() if model is None else model
    optimizers = optim.AdamW(model.parameters(), lr=0.05) if optimizers is None else optimizers(model)
    return trainer(model, optimizers, None if schedulers is None else schedulers(optimizers), **settings)


def saved(steps=2, **settings):
    """Return a run after some steps, and what was captured of it."""
    first = run(**settings)
    first.fit(f"{steps}ba")
    return capture(first.state)


def refusal(content, state):
    """Return how it is refused, while nothing changes."""
    before, record = digest(state), (state.timestamp, dict(state.evaluated), state.loss)
    with pytest.raises(CheckpointError) as caught:
        restore(content, state)
    assert digest(state) == before
    assert (state.timestamp, dict(state.evaluated), state.loss) == record
    return str(caught.value)


def linear(size=8, dtype=torch.float32, **more):
    model = nn.Sequential(nn.Flatten(), nn.Linear(90, size))
    for name, module in more.items():
        model.add_module(name, module)
    return model.to(dtype)


@pytest.mark.parametrize(
    ("there", "here", "named"),
    [
        (
            linear(),
            linear(size=9),
            "its 1.weight is float32 of shape (8, 90), that of model is float32 of shape (9, 90)",
        ),
        (
            linear(),
            linear(dtype=torch.float64),
            "its 1.bias is float32 of shape (8,), that of model is float64 of shape",
        ),
        (linear(), linear(more=nn.BatchNorm1d(8)), "it lacks more.running_var of model"),
        (linear(more=nn.BatchNorm1d(8)), linear(), "it holds more.num_batches_tracked, which model has not"),
    ],
    ids=["shape", "dtype", "lacking", "more"],
)
def test_another_model_is_refused(there, here, named):
    assert named in refusal(saved(model=there), run(model=here).state)


def sgd(model):
    return optim.SGD(model.parameters(), lr=0.1)


def in_groups(*sizes):
    def make(model):
        parameters = iter(model.parameters())
        return optim.AdamW([{"params": [next(parameters) for _ in range(size)]} for size in sizes])

    return make


@pytest.mark.parametrize(
    ("there", "here", "named"),
    [
        (sgd, None, "it is of the optimizer SGD, here is AdamW"),
        (in_groups(1, 1), in_groups(2), "its AdamW has 2 groups of parameters, the one here has 1"),
        (in_groups(1), in_groups(2), "group 0 of AdamW holds 1.bias here alone"),
        (in_groups(2), in_groups(1), "group 0 of AdamW holds 1.bias there alone"),
        (lambda model: [sgd(model), sgd(model)], sgd, "its number of optimizers is 2, here it is 1"),
    ],
    ids=["kind", "groups", "here alone", "there alone", "number"],
)
def test_other_optimizers_are_refused(there, here, named):
    assert named in refusal(saved(model=linear(), optimizers=there), run(model=linear(), optimizers=here).state)


def chained(optimizer):
    return schedules.ChainedScheduler([schedules.LinearLR(optimizer), schedules.StepLR(optimizer, 2)])


@pytest.mark.parametrize(
    ("there", "here", "named"),
    [
        (
            lambda opt: schedules.StepLR(opt, 1),
            schedules.LinearLR,
            "it is of the scheduler StepLR, here is LinearLR",
        ),
        (
            chained,
            lambda opt: schedules.ChainedScheduler([schedules.LinearLR(opt)]),
            "it is of the scheduler ChainedScheduler(LinearLR, StepLR), here is ChainedScheduler(LinearLR)",
        ),
        (chained, None, "its number of schedulers is 1, here it is 0"),
    ],
    ids=["kind", "within", "number"],
)
def test_other_schedulers_are_refused(there, here, named):
    assert named in refusal(saved(schedulers=there), run(schedulers=here).state)


def test_another_seed_is_refused():
    assert "its seed is 8, here it is 7" in refusal(saved(seed=8), run().state)


def test_another_number_of_processes_is_refused():
    here = run().state
    here.world = World(rank=1, size=4)

    assert "its number of processes is 1, here it is 4" in refusal(saved(), here)


def test_an_epoch_of_another_length_is_refused_in_its_midst_alone():
    within, behind = saved(steps=2), saved(steps=6)
    shorter = run(train_subset_num_batches=4)

    assert "it stopped within an epoch of 6 batches, of which there are 4 here" in refusal(within, shorter.state)
    restore(behind, shorter.state)
    assert shorter.state.timestamp.epoch == 1


def test_a_loss_with_other_buffers_is_refused():
    weighted = nn.CrossEntropyLoss(weight=torch.ones(8))

    assert "it holds weight, which loss_fn has not" in refusal(saved(loss_fn=weighted), run().state)


def test_the_state_of_a_callback_that_is_not_there_is_refused_with_the_remedy():
    content = saved(callbacks=[Holding(), Holding()])

    refused = refusal(content, run(callbacks=Holding()).state)

    assert "it holds the state of Holding/1, which is not here: hand it in again" in refused


def test_a_callback_that_is_new_starts_afresh():
    held, here = Holding(), run(callbacks=[])
    here.state.callbacks = (held,)

    restore(saved(), here.state)

    assert held.state["held"].tolist() == [1.0, 1.0]


def test_a_callback_that_refuses_its_state_leaves_the_model_as_it_was():
    here = run(callbacks=Holding("refuses")).state
    before = digest(here)

    with pytest.raises(ValueError, match="state must be another"):
        restore(saved(callbacks=Holding()), here)

    assert digest(here) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda training: training.pop("optimizers/0/state/rows.weight/exp_avg"),
            "its training state lacks optimizers/0/state/rows.weight/exp_avg",
        ),
        (
            lambda training: training.update({"optimizers/0/state/more/exp_avg": torch.ones(2)}),
            "its training state holds optimizers/0/state/more/exp_avg, which nothing refers to",
        ),
    ],
    ids=["lacking", "more"],
)
def test_a_training_state_without_its_tensors_or_with_others_is_refused(change, named):
    content = saved()
    training = dict(content.tensors["training"])
    change(training)

    assert named in refusal(replace(content, tensors={**content.tensors, "training": training}), run().state)


def test_all_differences_are_named_at_once_up_to_a_number():
    refused = refusal(saved(seed=8, optimizers=sgd), run(model=linear()).state)

    assert refused.startswith("a checkpoint must be of a run like the one that goes on from it, but its seed is 8")
    assert refused.count(";") == 8
    assert "; and " in refused
    assert refused.endswith("or take the weights alone with load_weights(model, path)")


def test_a_state_whose_tensors_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match=r"got two at 'parts/Holding/0/1'"):
        saved(callbacks=Holding({1: torch.ones(1), "1": torch.ones(1)}))
