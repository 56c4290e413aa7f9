"""In which numbers a step is computed: half precision, scaled gradients, clipping, what repeats to the bit."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils._python_dispatch import TorchDispatchMode

from cutmix.algorithms import CutMix
from cutmix.core import Algorithm, Callback, Event
from cutmix.trainer import EMA, CosineWithWarmup, Trainer
from cutmix.trainer.optim import clip
from cutmix.trainer.precision import scaler_for
from cutmix.trainer.runtime import check_deterministic
from snapshots import digest, net, resumed
from snapshots import trainer as of_snapshots

IMAGES = torch.rand(24, 3, 6, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(24) % 4
BATCHES = list(zip(IMAGES.split(4), LABELS.split(4), strict=True))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(90, 8), nn.Tanh(), nn.Linear(8, 4))


def fitted(duration="1ep", model=None, batches=BATCHES, **settings):
    model = network() if model is None else model
    settings = {"device": "cpu", "progress_bar": False, "seed": 7, **settings}
    settings.setdefault("optimizers", torch.optim.SGD(model.parameters(), lr=0.1))
    made = Trainer(model, batches, None, duration, **settings)
    made.fit()
    return made


class Gradients(Callback):
    def after_train_batch(self, state, logger):
        held = [p for optimizer in state.optimizers for group in optimizer.param_groups for p in group["params"]]
        self.seen = [None if parameter.grad is None else parameter.grad.clone() for parameter in held]


class Overflow(Algorithm):
    """Makes the loss of one part of one step so large that it is finite only until it is scaled."""

    def __init__(self, step, part=1):
        self.step, self.part, self.seen = step, part, 0

    def match(self, event, state):
        return event in (Event.BATCH_START, Event.AFTER_LOSS) and state.timestamp.batch == self.step

    def apply(self, event, state, logger):
        self.seen = 0 if event is Event.BATCH_START else self.seen + 1
        if self.seen == self.part:
            state.loss = state.loss * 1e37


class Weights(Callback):
    def __init__(self):
        self.seen = []

    def batch_end(self, state, logger):
        self.seen.append([parameter.detach().clone() for parameter in state.model.parameters()])


def moved(before, after):
    return [not one.equal(other) for one, other in zip(before, after, strict=True)]


@pytest.mark.parametrize(("precision", "dtype"), [("amp_bf16", torch.bfloat16), ("amp_fp16", torch.float16)])
def test_a_step_in_half_precision_comes_near_the_one_in_full(precision, dtype):
    class Seen(Callback):
        def after_forward(self, state, logger):
            self.outputs = state.outputs.dtype

    seen = Seen()
    half, whole = fitted(precision=precision, algorithms=CutMix(), callbacks=seen), fitted(algorithms=CutMix())

    assert seen.outputs is dtype
    for mine, theirs in zip(half.state.model.parameters(), whole.state.model.parameters(), strict=True):
        assert mine.dtype is torch.float32
        assert not mine.equal(theirs)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0.01)


@pytest.mark.parametrize("microbatch", [None, 3])
def test_a_callback_sees_the_gradients_of_the_loss_not_the_scaled_ones(microbatch):
    half, whole = Gradients(), Gradients()
    fitted("1ba", precision="amp_fp16", callbacks=half, device_train_microbatch_size=microbatch)
    fitted("1ba", callbacks=whole)

    torch.testing.assert_close(half.seen, whole.seen, rtol=0.02, atol=1e-3)


def test_small_gradients_are_kept_from_vanishing():
    class Small(Algorithm):
        def match(self, event, state):
            return event is Event.AFTER_LOSS

        def apply(self, event, state, logger):
            state.loss = state.loss * 1e-7

    scaled, bare = Gradients(), Gradients()
    for watch, precision in ((scaled, "amp_fp16"), (bare, "fp32")):
        fitted("1ba", precision=precision, algorithms=Small(), callbacks=watch)

    torch.testing.assert_close(scaled.seen, bare.seen, rtol=0.05, atol=1e-10)


@pytest.mark.parametrize("by_batch", [True, False])
def test_a_step_that_overflows_is_left_out_while_clock_and_rate_go_on(by_batch):
    model, watch = network(), Weights()
    initial = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    made = fitted(
        "3ba",
        model,
        batches=BATCHES if by_batch else BATCHES[:1],
        precision="amp_fp16",
        optimizers=optimizer,
        schedulers=ExponentialLR(optimizer, 0.5),
        step_schedulers_every_batch=by_batch,
        algorithms=Overflow(0),
        callbacks=watch,
    )

    first, second, _ = watch.seen
    assert moved(initial, first) == [False] * 4
    assert moved(first, second) == [True] * 4
    assert made.state.timestamp.batch == 3
    assert optimizer.param_groups[0]["lr"] == 0.1 * 0.5**3
    assert made.state.scaler.get_scale() == scaler_for(made.state.device, "amp_fp16").get_scale() / 2


def test_one_part_that_overflows_leaves_the_whole_step_out():
    watch, overflow = Weights(), Overflow(1, part=2)

    fitted("2ba", precision="amp_fp16", algorithms=overflow, callbacks=watch, device_train_microbatch_size=2)

    assert moved(*watch.seen) == [False] * 4


def test_each_of_several_optimizers_is_left_out_for_its_own_gradients():
    model, watch = network(), Weights()
    model.idle = nn.Linear(1, 1)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model[1], model[3], model.idle)]
    model.forward = lambda images: model[3](model[2](model[1](model[0](images))))
    model[1].weight.register_hook(lambda gradient: gradient if watch.seen else gradient * torch.inf)

    fitted("2ba", model, precision="amp_fp16", optimizers=optimizers, callbacks=watch)

    first, second = watch.seen
    assert moved(network().parameters(), first[:4]) == [False, False, True, True]
    assert moved(first, second) == [True, True, True, True, False, False]


def test_gradients_that_a_callback_takes_away_are_no_step():
    class Skip(Callback):
        def after_train_batch(self, state, logger):
            state.optimizers[0].zero_grad()

    made = fitted("2ba", precision="amp_fp16", callbacks=Skip())

    assert moved(network().parameters(), made.state.model.parameters()) == [False] * 4


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_run_with_a_scaler_goes_on_as_if_it_had_not_stopped(at, tmp_path):
    def make(init):
        model = net(init)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        return of_snapshots(model, optimizer, precision="amp_fp16", algorithms=Overflow(1))

    whole, again = resumed(make, at, tmp_path)

    assert digest(again) == digest(whole)
    assert again.scaler.state_dict() == whole.scaler.state_dict()
    assert again.scaler.state_dict()["_growth_tracker"] == 4


def length(parameters):
    return torch.cat([parameter.flatten() for parameter in parameters]).norm()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("amp_fp16", 1e-2)])
@pytest.mark.parametrize("microbatch", [None, 2])
def test_long_gradients_are_cut_to_length_and_short_ones_are_not(precision, tolerance, microbatch):
    def step(norm):
        model, watch = network(), Gradients()
        optimizers = [torch.optim.SGD(part.parameters(), lr=1.0) for part in (model[1], model[3])]
        settings = {"precision": precision, "device_train_microbatch_size": microbatch, "gradient_clip_norm": norm}
        made = fitted("1ba", model, optimizers=optimizers, callbacks=watch, **settings)
        change = [
            new.detach() - old.detach() for new, old in zip(model.parameters(), network().parameters(), strict=True)
        ]
        return change, length(watch.seen), made.state.train_metrics.get("train/grad_norm")

    (free, norm, nothing), (cut, _, found), (short, _, _) = step(None), step(0.01), step(100.0)

    assert nothing is None
    torch.testing.assert_close(found, norm, rtol=tolerance, atol=0)
    torch.testing.assert_close(length(cut), torch.tensor(0.01), rtol=tolerance, atol=0)
    torch.testing.assert_close(cut, [change * 0.01 / norm for change in free], rtol=tolerance, atol=1e-6)
    assert all(one.equal(other) for one, other in zip(short, free, strict=True))


@pytest.mark.parametrize("longest", [0.1, 1e3])
def test_gradients_of_one_kind_are_cut_as_torch_cuts_them_to_the_bit(longest):
    models = [network(), network()]
    for model in models:
        for parameter in list(model.parameters())[1:]:  # the first has none
            parameter.grad = torch.sin(3.0 + torch.arange(parameter.numel())).view_as(parameter)
    ours, torchs = models

    found = clip([torch.optim.SGD(ours.parameters())], longest)

    assert found.equal(nn.utils.clip_grad_norm_(torchs.parameters(), longest))
    assert all(
        one.grad.equal(other.grad) for one, other in list(zip(*map(nn.Module.parameters, models), strict=True))[1:]
    )


@pytest.mark.parametrize("norm", [0, -1.0, "1", float("nan")])
def test_a_length_of_nothing_is_refused(norm):
    with pytest.raises(ValueError, match=f"gradient_clip_norm must be above 0, got {norm!r}; None leaves"):
        fitted(gradient_clip_norm=norm)


class Waits(TorchDispatchMode):
    """Counts how often a number is asked of a tensor, which waits for a device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count = getattr(self, "count", 0) + (function is torch.ops.aten._local_scalar_dense.default)
        return function(*args, **(kwargs or {}))


def waits(**settings):
    model = network()
    with Waits() as mode:
        fitted(
            "5ba", model, optimizers=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True), **settings
        )
    return mode.count


def test_a_step_with_everything_on_asks_no_number_of_a_tensor():
    everything = {"gradient_clip_norm": 1.0, "schedulers": CosineWithWarmup("1ba"), "callbacks": EMA("10ba")}

    assert waits(precision="amp_fp16", **everything) == waits()


class Flags(Callback):
    def __init__(self):
        self.seen = []

    def look(self, state, logger):
        self.seen.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))

    batch_start = eval_batch_start = look


@pytest.fixture
def _benchmarking(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)


@pytest.mark.usefixtures("_benchmarking")
@pytest.mark.parametrize("mode", [True, False])
def test_only_what_repeats_is_computed_in_fit_and_eval_and_not_outside(mode):
    flags = Flags()
    settings = {"deterministic_mode": mode, "callbacks": flags, "device": "cpu", "progress_bar": False}
    with Trainer(network(), BATCHES[:1], BATCHES[:1], eval_interval=None, **settings) as made:
        made.fit()
        between = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
        made.eval()

    assert flags.seen == [(mode, not mode)] * 2
    assert between == (False, True)
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == (False, True)


@pytest.mark.usefixtures("_benchmarking")
def test_what_torch_may_compute_is_left_as_found_on_an_error():
    class Fail(Callback):
        def batch_end(self, state, logger):
            raise RuntimeError("stop here")

    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with pytest.raises(RuntimeError, match="stop here"):
            fitted(deterministic_mode=True, callbacks=Fail())

        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)


def test_cublas_must_be_told_to_repeat(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with pytest.raises(ValueError, match=r"CUBLAS_WORKSPACE_CONFIG to be ':4096:8' or ':16:8' on a GPU, got None; set"):
        check_deterministic(torch.device("cuda", 0))

    check_deterministic(torch.device("cpu"))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    check_deterministic(torch.device("cuda", 0))
