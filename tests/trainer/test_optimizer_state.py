"""A run that is captured, written, read and restored ends as the one that went through, with all that torch ships."""

import inspect

import pytest
import torch
from torch import optim
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import SWALR

from snapshots import STEPS, digest, net, resumed, trainer

OPTIMIZERS = {
    name: kind
    for name, kind in vars(optim).items()
    if inspect.isclass(kind) and issubclass(kind, optim.Optimizer) and name not in ("Optimizer", "LBFGS")
}
SETTINGS = {
    "SGD": [{}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "fused": True}],
    "Adam": [{}, {"amsgrad": True}, {"fused": True}, {"foreach": True}, {"lr": torch.tensor(0.01)}],
    "AdamW": [{}, {"amsgrad": True}, {"fused": True}],
    "RMSprop": [{}, {"momentum": 0.9, "centered": True}],
    "Adagrad": [{}, {"lr_decay": 0.1}, {"fused": True}],
}
CASES = [(name, settings) for name in OPTIMIZERS for settings in SETTINGS.get(name, [{}])]


def optimizers(model, name, settings):
    """Give ``name`` the parameters that it can train, and SGD the others."""
    rows = model.rows.weight
    takes = {"SparseAdam": lambda parameter: parameter is rows, "Muon": lambda parameter: parameter.ndim == 2}
    mine = [parameter for parameter in model.parameters() if takes.get(name, lambda _: True)(parameter)]
    others = [parameter for parameter in model.parameters() if all(parameter is not one for one in mine)]
    half = len(mine) // 2
    groups = [{"params": part} for part in (mine[:half], mine[half:]) if part]
    groups[-1]["weight_decay" if "weight_decay" in inspect.signature(OPTIMIZERS[name]).parameters else "lr"] = 0.003
    chosen = [OPTIMIZERS[name](groups, **settings)]
    return [*chosen, optim.SGD(others, lr=0.05, momentum=0.9)] if others else chosen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=[f"{name}-{sorted(settings)}" for name, settings in CASES])
def test_every_optimizer_of_torch_goes_on_to_the_bit(name, settings, dtype, tmp_path):
    if name == "SGD" and settings.get("fused") and dtype is torch.bfloat16:
        pytest.skip("on the CPU torch itself leaves a part of this momentum unset, another one in each run")

    def make(init):
        model = net(init, dtype, sparse=name == "SparseAdam")
        return trainer(model, optimizers(model, name, settings))

    whole, again = resumed(make, 2, tmp_path)

    assert digest(again) == digest(whole)


class Odd(optim.Optimizer):
    """Holds more than tensors of a parameter each: lists, numbers, a part without a parameter, a part of its own."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.05, "steps": (1, [2.5])})
        self.calls = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.calls += 1
        shared = self.state["shared"]
        shared["calls"] = shared.get("calls", 0) + 1
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                kept = self.state[parameter]
                kept["last"] = [parameter.grad.clone(), *kept.get("last", [])[:2]]
                parameter.sub_(sum(kept["last"]) * 0.05 / (self.calls + shared["calls"]))

    def state_dict(self):
        return {**super().state_dict(), "calls": self.calls}

    def load_state_dict(self, state_dict):
        self.calls = state_dict["calls"]
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})


def test_an_optimizer_with_a_state_of_another_form_goes_on_to_the_bit(tmp_path):
    def make(init):
        model = net(init)
        return trainer(model, Odd(model.parameters()))

    whole, again = resumed(make, 2, tmp_path)

    assert digest(again) == digest(whole)
    assert again.optimizers[0].calls == STEPS


def test_an_optimizer_that_was_told_the_names_itself_goes_on_to_the_bit(tmp_path):
    def make(init):
        model = net(init)
        named = list(model.named_parameters())
        return trainer(model, optim.AdamW(named if init == 0 else named[::-1], lr=0.05))

    whole, again = resumed(make, 2, tmp_path)

    assert all(value.equal(again.model.state_dict()[name]) for name, value in whole.model.state_dict().items())
    names = [name for name, _ in again.model.named_parameters()]
    assert again.optimizers[0].param_groups[0]["param_names"] == names[::-1]


class Halving:
    """A factor with a state, as a callable object may have one."""

    def __init__(self):
        self.factor = 1.0

    def __call__(self, step):
        self.factor *= 0.5 if step else 1.0
        return self.factor


SCHEDULERS = {
    "LambdaLR": [
        lambda opt: schedules.LambdaLR(opt, lambda step: 1 / (step + 1)),
        lambda opt: schedules.LambdaLR(opt, [Halving(), lambda step: step]),
    ],
    "MultiplicativeLR": [
        lambda opt: schedules.MultiplicativeLR(opt, lambda step: 0.9),
        lambda opt: schedules.MultiplicativeLR(opt, Halving()),
    ],
    "StepLR": [lambda opt: schedules.StepLR(opt, 2)],
    "MultiStepLR": [lambda opt: schedules.MultiStepLR(opt, [1, 3, 3, 5])],
    "ConstantLR": [lambda opt: schedules.ConstantLR(opt, total_iters=4)],
    "LinearLR": [lambda opt: schedules.LinearLR(opt, total_iters=5)],
    "ExponentialLR": [lambda opt: schedules.ExponentialLR(opt, 0.7)],
    "PolynomialLR": [lambda opt: schedules.PolynomialLR(opt, 5, power=2.0)],
    "CosineAnnealingLR": [lambda opt: schedules.CosineAnnealingLR(opt, 4)],
    "CosineAnnealingWarmRestarts": [lambda opt: schedules.CosineAnnealingWarmRestarts(opt, 2, 2)],
    "SequentialLR": [
        lambda opt: schedules.SequentialLR(opt, [schedules.LinearLR(opt), schedules.ExponentialLR(opt, 0.8)], [3]),
        lambda opt: schedules.SequentialLR(opt, [schedules.LinearLR(opt), schedules.ExponentialLR(opt, 0.8)], [2]),
    ],
    "ChainedScheduler": [
        lambda opt: schedules.ChainedScheduler([schedules.LinearLR(opt), schedules.StepLR(opt, 2)]),
    ],
    "CyclicLR": [
        lambda opt: schedules.CyclicLR(opt, 0.01, 0.1, step_size_up=2),
        lambda opt: schedules.CyclicLR(opt, 0.01, 0.1, step_size_up=2, mode="exp_range", gamma=0.9),
        lambda opt: schedules.CyclicLR(opt, 0.01, 0.1, step_size_up=2, scale_fn=Halving()),
        lambda opt: schedules.CyclicLR(opt, 0.01, 0.1, step_size_up=2, scale_fn=lambda cycle: 1 / cycle),
    ],
    "OneCycleLR": [
        lambda opt: schedules.OneCycleLR(opt, 0.2, total_steps=STEPS + 1, three_phase=True),
        lambda opt: schedules.OneCycleLR(opt, 0.2, total_steps=STEPS + 1, anneal_strategy="linear"),
    ],
    "SWALR": [lambda opt: SWALR(opt, 0.02, anneal_epochs=4)],
}


def test_all_schedulers_of_torch_are_tried():
    shipped = {
        name
        for name, kind in vars(schedules).items()
        if inspect.isclass(kind) and issubclass(kind, schedules.LRScheduler) and not name.endswith("LRScheduler")
    }

    assert shipped - {"ReduceLROnPlateau"} <= set(SCHEDULERS)


@pytest.mark.parametrize("make_scheduler", [make for makers in SCHEDULERS.values() for make in makers])
@pytest.mark.parametrize("kind", [optim.SGD, optim.AdamW])
def test_every_scheduler_of_torch_goes_on_to_the_bit(make_scheduler, kind, tmp_path):
    def make(init):
        model = net(init)
        first, *others = model.parameters()
        settings = {"momentum": 0.9} if kind is optim.SGD else {}
        optimizer = kind([{"params": [first], "lr": 0.03}, {"params": others}], lr=0.1, **settings)
        return trainer(model, optimizer, make_scheduler(optimizer))

    whole, again = resumed(make, 3, tmp_path)

    assert digest(again) == digest(whole)
