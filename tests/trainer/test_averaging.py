"""The average of the weights: what it is, when it is lent to the model, and that the model gets its own back."""

import copy

import pytest
import torch
from torch import nn

from cutmix.core import Callback, Time
from cutmix.trainer import EMA, Trainer
from cutmix.trainer.checkpoints.snapshot import capture, restore
from snapshots import batches, digest, net
from snapshots import trainer as of_snapshots

IMAGES = torch.rand(24, 3, 6, 5, generator=torch.Generator().manual_seed(1))
BATCHES = [(images, torch.arange(4) % 2) for images in IMAGES.split(4)]


def network(dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(90, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).to(dtype)


def trainer(model, callbacks, duration="2ep", evaluated=None, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"optimizers": optimizer, "device": "cpu", "progress_bar": False, "seed": 1, **settings}
    return Trainer(model, BATCHES, evaluated, duration, callbacks=callbacks, **settings)


class Steps(Callback):
    """Keeps the weights after each step."""

    def __init__(self):
        self.seen = []

    def batch_end(self, state, logger):
        self.seen.append([parameter.detach().double() for parameter in state.model.parameters()])


def mean(seen, decay):
    """Return the mean of the weights after each step, the last of which weighs 1, the one before ``decay``, ..."""
    shares = [decay**age for age in reversed(range(len(seen)))]
    return [sum(s * w for s, w in zip(shares, steps, strict=True)) / sum(shares) for steps in zip(*seen, strict=True)]


@pytest.mark.parametrize(
    ("ema", "decay"),
    [
        (EMA(decay=0.9), 0.9),
        (EMA(decay=0.0), 0.0),
        (EMA("4ba"), 0.5**0.25),
        (EMA(Time(2)), 0.5 ** (1 / 12)),
        (EMA("1ep"), 0.5 ** (1 / 6)),
    ],
    ids=["decay", "no memory", "batches", "two epochs", "an epoch"],
)
def test_the_average_is_over_the_steps_and_the_later_weigh_more(ema, decay):
    model, steps = network(), Steps()
    trainer(model, [steps, ema]).fit()

    names = [name for name, _ in model.named_parameters()]
    averages = [ema.weights()[name].double() for name in names]
    torch.testing.assert_close(averages, mean(steps.seen, decay), rtol=0, atol=1e-6)


class Lent(Callback):
    """Keeps the weights that an evaluation sees, and those that are there after it."""

    def eval_after_forward(self, state, logger):
        self.inside = copy.deepcopy(state.model.state_dict())

    def batch_checkpoint(self, state, logger):
        self.after = copy.deepcopy(state.model.state_dict())


def same(one, other):
    return all(one[name].equal(other[name]) for name in one | other)


def test_an_evaluation_sees_the_average_and_training_goes_on_without_it():
    ema, lent, plain, evaluated = EMA("5ba"), Lent(), network(), network()
    trainer(plain, []).fit()
    made = trainer(evaluated, [lent, ema], evaluated=BATCHES[:2], eval_interval="1ba")
    made.fit()

    assert same(lent.inside, ema.weights())
    assert same(plain.state_dict(), evaluated.state_dict())
    assert same(lent.after, evaluated.state_dict())
    assert not same(lent.inside, lent.after)
    copied = network()
    copied.load_state_dict(ema.weights())
    assert trainer(copied, [], evaluated=BATCHES[:2]).eval() == made.state.eval_metrics == made.eval()


@pytest.mark.parametrize("moment", ["eval_start", "eval_batch_end", "eval_end"])
def test_the_model_has_its_own_weights_again_after_an_error_in_evaluation(moment):
    def fail(self, state, logger):
        if state.timestamp.batch == 4:
            raise RuntimeError("stop here")

    failing = type("Failing", (Callback,), {moment: fail})()
    model, plain = network(), network()
    trainer(plain, [], "4ba").fit()

    with pytest.raises(RuntimeError, match="stop here"):
        trainer(model, [EMA("5ba"), failing], evaluated=BATCHES[:1], eval_interval="1ba").fit()

    assert same(model.state_dict(), plain.state_dict())


def test_two_averages_are_both_undone():
    model, plain = network(), network()
    trainer(plain, []).fit()
    trainer(model, [EMA("2ba"), EMA("9ba")], evaluated=BATCHES[:1], eval_interval="2ba").fit()

    assert same(model.state_dict(), plain.state_dict())


def test_before_the_first_step_there_is_no_average():
    ema, model = EMA("5ba"), network()
    made = trainer(model, [ema], evaluated=BATCHES[:1])

    assert made.eval() == trainer(network(), [], evaluated=BATCHES[:1]).eval()
    assert ema.state_dict() == {}
    with pytest.raises(ValueError, match=r"EMA must have seen a step before it has weights, got none; train with"):
        ema.weights()


def test_weights_in_half_precision_are_averaged_in_float32():
    ema, model, steps = EMA(decay=0.999), network(torch.bfloat16), Steps()
    data = [(images.bfloat16(), labels) for images, labels in BATCHES]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    Trainer(
        model, data, data[:1], 8, optimizers=optimizer, callbacks=[steps, ema], device="cpu", progress_bar=False
    ).fit()

    averages = [ema.weights()[name] for name, _ in model.named_parameters()]
    assert {average.dtype for average in averages} == {torch.float32}
    torch.testing.assert_close([a.double() for a in averages], mean(steps.seen, 0.999), rtol=0, atol=1e-4)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_tied_weights_stand_under_both_names_and_buffers_are_the_model_s():
    model, ema = net(), EMA("3ba")
    made = of_snapshots(model, torch.optim.SGD(model.parameters(), lr=0.1), callbacks=ema)
    made.fit()

    weights, held = ema.weights(), model.state_dict()
    assert list(weights) == list(held)
    assert weights["tied.weight"].equal(weights["first.weight"])
    assert not weights["tied.weight"].equal(held["tied.weight"])
    assert weights["norm.running_mean"].equal(held["norm.running_mean"])
    assert all(weights[name].stride() == held[name].stride() for name in held)
    weights["norm.running_mean"].zero_()
    assert model.norm.running_mean.abs().sum() > 0


@pytest.mark.parametrize("at", [1, 4])
def test_a_resumed_run_goes_on_with_its_average(at):
    class Interrupted(Callback):
        def batch_checkpoint(self, state, logger):
            if state.timestamp.batch == at:
                self.kept = copy.deepcopy(capture(state))

    def make(init):
        model, ema = net(init), EMA("3ba")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return of_snapshots(model, optimizer, callbacks=[ema, Interrupted()]), ema

    (whole, ema), (again, other) = make(0), make(1)
    whole.fit()
    restore(whole.state.callbacks[1].kept, again.state)
    again.fit()

    assert digest(again.state) == digest(whole.state)
    assert same(other.weights(), ema.weights())
    assert again.eval(batches()[:2]) == whole.eval(batches()[:2])


def test_what_is_put_back_is_a_copy():
    model = net()
    made = of_snapshots(model, torch.optim.SGD(model.parameters(), lr=0.1), callbacks=EMA("3ba"))
    made.fit("2ba")
    kept = capture(made.state)
    before = copy.deepcopy(kept.tensors["training"])
    restore(kept, made.state)
    made.fit("2ba")

    averages = {name: tensor for name, tensor in kept.tensors["training"].items() if "average" in name}
    assert len(averages) == len(list(model.parameters()))
    assert all(average.equal(before[name]) for name, average in averages.items())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (EMA, r"EMA takes half_life or decay, got None and None; write EMA\('1000ba'\)"),
        (lambda: EMA("5ba", decay=0.9), r"EMA takes half_life or decay, got '5ba' and 0.9"),
        (lambda: EMA("soon"), r"half_life must be at least one epoch, batch or sample, got 'soon'"),
        (lambda: EMA("500sp"), r"half_life must count batches or epochs, got '500sp'"),
        (lambda: EMA(decay=1.0), r"decay must lie in \[0, 1\), got 1.0"),
        (lambda: EMA(decay=-0.1), r"decay must lie in \[0, 1\), got -0.1"),
    ],
)
def test_an_average_of_nonsense_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_half_life_in_epochs_needs_a_length_of_them():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    quiet = {"device": "cpu", "progress_bar": False}

    with pytest.raises(ValueError, match=r"half_life must count batches where nobody knows .* got 1ep; write '1000ba'"):
        Trainer(model, lambda: iter(BATCHES), optimizers=optimizer, callbacks=EMA("1ep"), **quiet).fit()
