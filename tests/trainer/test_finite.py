"""Losses, gradients and weights that are not finite."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import launched
from cutmix import CutMix
from cutmix.core import Callback
from cutmix.trainer import SkipNonFinite, Trainer
from cutmix.trainer.callbacks.finite import NonFiniteLossError, check_finite

BAD = 13  # the sample that is not finite


def loader(value=math.nan, count=24):
    images = torch.rand(count, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    images[BAD] = value
    return DataLoader(TensorDataset(images, torch.arange(count) % 3), batch_size=4, shuffle=True)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))


def trainer(batches=None, duration="1ep", **settings):
    return Trainer(network(), batches or loader(), None, duration, device="cpu", progress_bar=False, seed=3, **settings)


class Watch(Callback):
    def __init__(self):
        self.samples, self.plans = [], []

    def batch_start(self, state, logger):
        self.samples.append(state.samples)
        self.plans.append(state.plan)


def test_training_ends_at_the_step_and_names_it_with_rate_box_weight_and_samples():
    watch = Watch()
    run = trainer(algorithms=CutMix(), callbacks=watch)

    with pytest.raises(
        NonFiniteLossError, match=r"^the loss must stay finite, got nan at step \d \(rate 0.001; "
    ) as found:
        run.fit()

    step, plan = found.value.step, watch.plans[-1]
    assert BAD in watch.samples[-1]
    assert step.number == len(watch.samples)
    assert f"; samples {watch.samples[-1]})" in str(found.value)
    assert f"; box [{plan.bbox}]; kept [{float(plan.kept[0]):.4g}]; " in str(found.value)


def test_a_long_message_is_cut_short():
    with pytest.raises(NonFiniteLossError, match=r"samples \[(\d+, ){16}and 8 more\]"):
        trainer(DataLoader(loader().dataset, batch_size=24)).fit()


def test_the_samples_of_a_batch_are_those_of_the_epochs_order():
    watch = Watch()
    trainer(loader(0.0), "2ep", callbacks=watch).fit()

    first, second = (torch.tensor(watch.samples[start : start + 6]) for start in (0, 6))
    assert first.flatten().sort().values.equal(torch.arange(24))
    assert second.flatten().sort().values.equal(torch.arange(24))
    assert not first.equal(second)


def test_a_sampler_of_whole_batches_tells_what_it_gave():
    batches = DataLoader([(torch.full((2, 3, 6, 4), math.nan), torch.arange(2))], batch_size=None)
    with pytest.raises(NonFiniteLossError, match=r"step 1 \(rate 0.001; samples \[0\]\)"):
        trainer(batches).fit()


def test_where_the_order_does_not_tell_samples_are_left_out():
    with pytest.raises(NonFiniteLossError, match=r"step 4 \(rate 0.001\)"):
        trainer(list(DataLoader(loader().dataset, batch_size=4))).fit()


def test_weights_that_are_not_finite_are_found_when_training_ends():
    class Spoil(Callback):
        def epoch_end(self, state, logger):
            state.model[4].bias.data[1] = math.inf

    with pytest.raises(NonFiniteLossError, match=r"got nan or infinity in \[4.bias\] after step 6; lower"):
        trainer(loader(0.0), callbacks=Spoil(), eval_interval=None).fit()


def test_weights_that_are_not_trained_may_be_infinite():
    run = trainer(loader(0.0))
    run.state.model[4].bias.requires_grad_(requires_grad=False).fill_(-math.inf)

    check_finite(run.state)


def test_steps_that_are_not_finite_are_skipped_and_leave_no_trace():
    seen = []

    class Look(Callback):
        def batch_start(self, state, logger):
            self.before = {name: value.clone() for name, value in state.model.state_dict().items()}

        def batch_end(self, state, logger):
            now = state.model.state_dict()
            seen.append(BAD in state.samples)
            assert seen[-1] == all(torch.equal(value, now[name]) for name, value in self.before.items())

    run = trainer(duration="2ep", callbacks=[SkipNonFinite(limit=2), Look()])
    with pytest.warns(UserWarning, match=r"^skipped a loss or gradient that is not finite: step \d+ \(rate"):
        run.fit()

    assert sum(seen) == 2
    assert len(seen) == 12
    check_finite(run.state)


def test_a_gradient_that_is_not_finite_is_skipped_too():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(()))

        def forward(self, images):
            return images.flatten(1)[:, :3] + self.scale.sqrt()  # whose slope at 0 is infinite

    run = Trainer(Root(), loader(0.0), device="cpu", progress_bar=False, callbacks=SkipNonFinite(limit=6))
    with pytest.warns(UserWarning, match="skipped"):
        run.fit()

    assert run.state.model.scale == 0


def test_beyond_the_limit_training_ends():
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(NonFiniteLossError, match=r"at most 1 steps may"):
        trainer(duration="2ep", callbacks=SkipNonFinite(limit=1)).fit()


@pytest.mark.parametrize("limit", [-1, 1.5, None])
def test_the_limit_is_a_whole_number(limit):
    with pytest.raises(ValueError, match="limit must be a whole number"):
        SkipNonFinite(limit)


def test_how_many_were_skipped_goes_into_a_checkpoint():
    skipping = SkipNonFinite(limit=1)
    skipping.load_state_dict({"skipped": 1})

    assert skipping.state_dict() == {"skipped": 1}
    with pytest.raises(NonFiniteLossError, match="got one more at step"):
        trainer(callbacks=skipping).fit()


def test_what_is_not_finite_on_one_rank_is_skipped_or_refused_on_all():
    said = launched.said(Path(__file__).with_name("ranks_that_diverge.py"), 2, "ddp", "fsdp")

    refused = "the weights must stay finite, got nan or infinity in [weight] after step 4; lower the learning rate\n"
    assert said == [refused * 2] * 2
