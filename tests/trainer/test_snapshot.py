"""A run as a value: what it holds, what it leaves alone, and from which other runs it is told apart."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler as schedules

from cutmix.algorithms import CutMix
from cutmix.core import Algorithm, Callback
from cutmix.trainer.checkpoints.checkpoint import read, write
from cutmix.trainer.checkpoints.snapshot import capture, restore
from snapshots import batches, digest, net, resumed, trainer


def run(init=0, *, model=None, kind=optim.AdamW, schedule=lambda opt: schedules.MultiStepLR(opt, [2, 4]), **settings):
    model = net(init) if model is None else model
    optimizer = kind(model.parameters(), lr=0.05)
    return trainer(model, optimizer, schedule(optimizer), **settings)


def captured(folder, steps=2, **settings):
    """Return what is read back of a run after some steps."""
    first = run(**settings)
    first.fit(f"{steps}ba")
    write(folder / f"ep0-ba{steps}", capture(first.state))
    return read(folder / f"ep0-ba{steps}")


class Counting(Callback):
    """Holds all kinds of things."""

    def __init__(self):
        self.seen = {"steps": 0, 3: [torch.zeros(2), None], "pair": (1.5, torch.zeros((), dtype=torch.int64))}

    def batch_end(self, state, logger):
        self.seen["steps"] += 1
        self.seen[3][0] += 1

    def state_dict(self):
        return self.seen

    def load_state_dict(self, state):
        self.seen = state


class Drifting(Algorithm):
    """Changes the loss by what it has seen so far."""

    def __init__(self):
        self.total = 0.0

    def match(self, event, state):
        return event.name == "AFTER_LOSS"

    def apply(self, event, state, logger):
        self.total += state.loss.item()
        state.loss = state.loss * (1 + self.total)

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


@pytest.mark.parametrize("at", [1, 5])
def test_algorithms_and_callbacks_go_on_with_what_they_hold(at, tmp_path):
    whole, again = resumed(
        lambda init: run(init, algorithms=Drifting(), callbacks=[Counting(), Counting()]), at, tmp_path
    )

    assert digest(again) == digest(whole)
    assert again.algorithms[0].total == whole.algorithms[0].total
    held = [[part for part in state.callbacks if isinstance(part, Counting)] for state in (again, whole)]
    for mine, theirs in zip(*held, strict=True):
        assert (mine.seen["steps"], type(mine.seen["pair"])) == (6, tuple)
        assert mine.seen[3][0].equal(theirs.seen[3][0])


def test_the_record_of_the_last_step_goes_on(tmp_path):
    first, again = run(), run(1)
    first.fit("2ba")
    write(tmp_path / "ep0-ba2", capture(first.state))
    restore(read(tmp_path / "ep0-ba2"), again.state)

    assert again.state.timestamp == first.state.timestamp
    assert again.state.train_metrics == first.state.train_metrics
    assert again.state.loss == first.state.loss


class Trained(nn.Module):
    """A loss with a parameter and a buffer of its own."""

    def __init__(self, start):
        super().__init__()
        self.scale = nn.Parameter(torch.full((8,), start))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, outputs, target):
        self.calls += 1
        return nn.functional.cross_entropy(outputs * self.scale, target) + 0.01 * self.calls * self.scale.sum()


@pytest.mark.parametrize("algorithms", [None, CutMix()])
def test_a_loss_with_parameters_goes_on_whether_it_is_wrapped_for_mixing_or_not(algorithms, tmp_path):
    def make(init):
        model, loss = net(init), Trained(1.0 + init)
        optimizer = optim.SGD([*loss.parameters(), *model.parameters()], lr=0.05, momentum=0.9)
        return trainer(model, optimizer, loss_fn=loss, algorithms=algorithms)

    whole, again = resumed(make, 3, tmp_path)

    losses = [getattr(state.loss_fn, "loss_fn", state.loss_fn) for state in (whole, again)]
    assert digest(again) == digest(whole)
    assert losses[0].scale.equal(losses[1].scale)
    assert losses[0].calls == losses[1].calls == 6


def test_a_model_whose_parameters_were_put_in_another_order_goes_on(tmp_path):
    """The state of an optimizer belongs to a name, not to a number."""

    def make(init):
        layers = {"one": nn.Linear(90, 8), "two": nn.Linear(90, 8)}
        with torch.random.fork_rng():
            torch.manual_seed(init)
            model = Two({name: layers[name] for name in (("one", "two") if init == 0 else ("two", "one"))})
            for layer in (model.one, model.two):
                layer.reset_parameters()
        return trainer(model, optim.AdamW(model.parameters(), lr=0.05))

    whole, again = resumed(make, 3, tmp_path)

    assert list(whole.model.state_dict()) != list(again.model.state_dict())
    assert all(value.equal(again.model.state_dict()[name]) for name, value in whole.model.state_dict().items())


class Two(nn.Module):
    def __init__(self, layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, images):
        return self.one(images.flatten(1)) - 0.5 * self.two(images.flatten(1))


def test_what_is_restored_lies_in_the_memory_that_was_there(tmp_path):
    again, content = run(1), captured(tmp_path)
    before = [(value.data_ptr(), value.stride()) for value in again.state.model.state_dict().values()]
    held = list(again.state.model.parameters())

    restore(content, again.state)

    assert [(value.data_ptr(), value.stride()) for value in again.state.model.state_dict().values()] == before
    assert all(mine is theirs for mine, theirs in zip(held, again.state.model.parameters(), strict=True))
    assert again.state.model.tied.weight is again.state.model.first.weight
    moments = again.state.optimizers[0].state[again.state.model.convolution.weight]
    assert moments["exp_avg"].stride() == again.state.model.convolution.weight.stride()


def test_a_checkpoint_may_be_restored_twice(tmp_path):
    one, two, content = run(1), run(1), captured(tmp_path)
    restore(content, one.state)
    one.fit("2ba")
    restore(content, two.state)
    two.fit("2ba")

    assert digest(one.state) == digest(two.state)


def test_capturing_changes_nothing():
    first, plain = run(algorithms=CutMix()), run(algorithms=CutMix())
    first.fit("2ba")
    first.state.model.norm.eval()
    before = digest(first.state)
    chance, gradients = torch.get_rng_state(), [parameter.grad for parameter in first.state.model.parameters()]

    capture(first.state)

    assert digest(first.state) == before
    assert torch.get_rng_state().equal(chance)
    assert all(
        mine is parameter.grad for mine, parameter in zip(gradients, first.state.model.parameters(), strict=True)
    )
    assert not first.state.model.norm.training
    first.state.model.norm.train()
    first.fit("4ba")
    plain.fit("6ba")
    assert digest(first.state) == digest(plain.state)


def test_a_capture_holds_the_tensors_in_use_and_copies_none():
    first = run()
    first.fit("2ba")
    content = capture(first.state)

    weight = first.state.model.convolution.weight
    assert content.tensors["weights"]["convolution.weight"].data_ptr() == weight.data_ptr()
    saved = content.tensors["training"]["optimizers/0/state/convolution.weight/exp_avg"]
    assert saved.data_ptr() == first.state.optimizers[0].state[weight]["exp_avg"].data_ptr()


def test_the_checkpoint_s_rates_win_over_those_of_a_changed_script(tmp_path):
    def make(init):
        model = net(init)
        optimizer = optim.AdamW(model.parameters(), lr=0.05 if init == 0 else 3.0, weight_decay=0.1 * init)
        return trainer(model, optimizer, schedules.ExponentialLR(optimizer, 0.9))

    whole, again = resumed(make, 3, tmp_path)

    assert digest(again) == digest(whole)
    assert again.optimizers[0].param_groups[0]["initial_lr"] == 0.05


def test_how_a_step_is_computed_is_up_to_the_script_that_goes_on(tmp_path):
    """So that a run may go on where there is no such kernel."""

    def make(init):
        model = net(init)
        return trainer(model, optim.Adam(model.parameters(), lr=0.05, fused=init == 0, weight_decay=0.01 * init))

    _, again = resumed(make, 3, tmp_path)

    group = again.optimizers[0].param_groups[0]
    assert (group["fused"], group["weight_decay"]) == (False, 0.0)


def test_restoring_steps_no_scheduler(tmp_path):
    content, again = captured(tmp_path), run(1)

    restore(content, again.state)

    group = again.state.optimizers[0].param_groups[0]
    assert (group["lr"], group["initial_lr"]) == (pytest.approx(0.005), 0.05)
    assert again.state.schedulers[0].last_epoch == 2


class Writing(Callback):
    """Writes a checkpoint after a batch, before the epoch is ended."""

    def __init__(self, folder, batch):
        self.path = folder / f"ep0-ba{batch}"
        self.batch = batch

    def batch_checkpoint(self, state, logger):
        if state.timestamp.batch == self.batch:
            write(self.path, capture(state))


def test_an_epoch_whose_last_batch_is_behind_a_checkpoint_is_ended_by_the_schedulers(tmp_path):
    """Torch would warn that a scheduler steps before its optimizer, which stepped in another process."""
    settings = {"step_schedulers_every_batch": False, "schedule": lambda opt: schedules.StepLR(opt, 1)}
    first, again = run(callbacks=Writing(tmp_path, 6), **settings), run(1, **settings)
    first.fit("1ep")
    restore(read(tmp_path / "ep0-ba6"), again.state)
    assert again.state.schedulers[0].last_epoch == 0

    again.fit("1ep")

    assert digest(again.state) == digest(first.state)


class Extra(nn.Linear):
    """Holds what is no tensor in its state."""

    def __init__(self):
        super().__init__(90, 8)
        self.words = {"seen": [1, (2, "three")]}

    def forward(self, images):
        return super().forward(images.flatten(1))

    def get_extra_state(self):
        return self.words

    def set_extra_state(self, state):
        self.words = state


def test_extra_states_of_modules_go_on(tmp_path):
    content = captured(tmp_path, model=Extra())
    model = Extra()
    model.words = None
    again = run(model=model)

    restore(content, again.state)

    assert model.words == {"seen": [1, (2, "three")]}


def test_layers_that_learn_their_size_late_are_restored_before_they_know_it(tmp_path):
    def make(init):
        with torch.random.fork_rng():
            torch.manual_seed(init)
            model = nn.Sequential(nn.Flatten(), nn.LazyLinear(8))
        return trainer(model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    whole, again = resumed(make, 3, tmp_path)

    assert digest(again) == digest(whole)


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(90, 8, dtype=torch.complex64))

    def forward(self, images):
        return (images.flatten(1) + 0j).matmul(self.weight).abs()


def test_complex_parameters_go_on(tmp_path):
    def make(init):
        model = Complex()
        return trainer(model, optim.Adam(model.parameters(), lr=0.1), seed=7)

    torch.manual_seed(0)
    first, again = make(0), make(1)
    first.fit("2ba")
    write(tmp_path / "ep0-ba2", capture(first.state))
    restore(read(tmp_path / "ep0-ba2"), again.state)
    first.fit("4ba")
    again.fit("4ba")

    assert digest(again.state) == digest(first.state)


def test_the_page_names_all_that_is_held():
    page = (Path(__file__).parents[2] / "docs" / "checkpoint-format.md").read_text()
    table = page.split("## What the Trainer puts there")[1].split("\n## ")[0]
    named = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}

    assert named == {*capture(run().state).values, "loggers", "saving"}


def test_buffers_that_the_model_keeps_out_of_its_state_are_left_as_they_are(tmp_path):
    again, content = run(1), captured(tmp_path)
    again.state.model.noise.fill_(3.0)

    restore(content, again.state)

    assert "noise" not in content.tensors["weights"]
    assert again.state.model.noise.tolist() == [3.0, 3.0]


class Evaluations(Callback):
    def __init__(self):
        self.steps = []

    def eval_end(self, state, logger):
        self.steps.append(state.timestamp.batch)


def test_an_evaluation_that_is_behind_is_not_made_again(tmp_path):
    settings = {"eval_interval": "3ba", "eval_dataloader": batches()}
    first, seen = run(**settings), Evaluations()
    again = run(1, callbacks=seen, **settings)
    first.fit("3ba")
    write(tmp_path / "ep0-ba3", capture(first.state))
    restore(read(tmp_path / "ep0-ba3"), again.state)

    assert again.state.evaluated == first.state.evaluated
    assert again.state.eval_metrics == first.state.eval_metrics
    again.fit("2ba")
    assert seen.steps == [5]


def test_the_scale_of_gradients_in_float16_goes_on(tmp_path):
    def make(init):
        made = run(init, precision="amp_fp16", kind=optim.SGD)
        made.state.scaler.load_state_dict({**made.state.scaler.state_dict(), "growth_interval": 2, "scale": 256.0})
        return made

    whole, again = resumed(make, 3, tmp_path)

    assert digest(again) == digest(whole)
    assert again.scaler.state_dict() == whole.scaler.state_dict()
    assert again.scaler.get_scale() > 256.0


def test_why_a_run_has_stopped_is_known_to_the_one_that_goes_on(tmp_path):
    first, again = run(), run(1)
    first.fit("2ba")
    first.state.stop_reason = "no better for 5 epochs"
    write(tmp_path / "ep0-ba2", capture(first.state))
    restore(read(tmp_path / "ep0-ba2"), again.state)

    assert again.state.is_over
