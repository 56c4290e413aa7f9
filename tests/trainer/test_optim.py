"""Rates by the clock, and which parameters decay."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from cutmix.core import Callback, Time
from cutmix.core.time import Timestamp
from cutmix.trainer import CosineWithWarmup, Trainer, parameter_groups
from cutmix.trainer.checkpoints.snapshot import capture, restore
from snapshots import digest, net
from snapshots import trainer as of_snapshots

BATCHES = [(torch.rand(4, 3, 6, 5), torch.arange(4) % 2) for _ in range(5)]


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def batch_start(self, state, logger):
        self.seen.append([float(group["lr"]) for group in state.optimizers[0].param_groups])


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(90, 2))


def rates(schedulers, duration, *, batches=BATCHES, lr=2.0, groups=None, **settings):
    model, watch = network(), Rates()
    optimizer = torch.optim.SGD(model.parameters() if groups is None else groups(model), lr=lr)
    quiet = {"device": "cpu", "progress_bar": False}
    Trainer(
        model,
        batches,
        None,
        duration,
        optimizers=optimizer,
        schedulers=schedulers,
        callbacks=watch,
        **quiet,
        **settings,
    ).fit()
    return [rate for (rate, *_) in watch.seen] if groups is None else watch.seen


@pytest.mark.parametrize("duration", ["4ep", "20ba"])
@pytest.mark.parametrize("warmup", [0.2, "4ba"])
def test_the_rate_rises_in_a_line_and_falls_along_a_cosine_to_nothing(duration, warmup):
    seen = rates(CosineWithWarmup(warmup), duration)

    assert seen[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert seen[4:] == pytest.approx([1.0 + math.cos(math.pi * step / 16) for step in range(16)])


@pytest.mark.parametrize("duration", ["4ep", "20ba"])
def test_a_warm_up_may_be_told_in_epochs(duration):
    assert rates(CosineWithWarmup("2ep"), duration) == pytest.approx(rates(CosineWithWarmup("10ba"), duration))


@pytest.mark.parametrize("warmup", ["16sp", Time(16, "sp"), 0.2])
def test_by_samples_the_rate_rises_from_nothing(warmup):
    seen = rates(CosineWithWarmup(warmup), "80sp")

    assert seen[:5] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert seen[12] == pytest.approx(1.0)


def test_without_a_warm_up_the_first_step_is_made_with_the_whole_rate():
    assert rates(CosineWithWarmup(0), "5ba")[0] == 2.0


def test_a_rate_falls_to_a_share_of_its_own():
    seen = rates(CosineWithWarmup(0.0, final=0.5), "4ba")

    assert seen == pytest.approx([2.0, 1.5 + 0.5 * math.cos(math.pi / 4), 1.5, 1.5 - 0.5 * math.cos(math.pi / 4)])


def test_each_group_and_optimizer_has_a_rate_of_its_own():
    def groups(model):
        return [{"params": [model[1].weight], "lr": 1.0}, {"params": [model[1].bias], "lr": 3.0}]

    seen = rates(CosineWithWarmup("2ba"), "4ba", groups=groups)

    assert [bias / weight for weight, bias in seen] == pytest.approx([3.0] * 4)
    assert seen[0] == pytest.approx([0.5, 1.5])


def test_a_rate_that_is_a_tensor_is_set_in_its_memory():
    rate = torch.tensor(2.0)

    assert rates(CosineWithWarmup("2ba"), "4ba", lr=rate)[:2] == [1.0, 2.0]
    assert rate == 1.0  # of the last step, by half a cosine


def test_training_longer_makes_the_rate_fall_later():
    model, watch = network(), Rates()
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    made = Trainer(
        model,
        BATCHES,
        None,
        "4ba",
        optimizers=optimizer,
        schedulers=CosineWithWarmup(0),
        callbacks=watch,
        device="cpu",
        progress_bar=False,
    )
    made.fit()
    made.fit("4ba")

    assert [rate for (rate,) in watch.seen][4:] == pytest.approx(rates(CosineWithWarmup(0), "8ba")[4:])


def test_where_nobody_knows_the_length_of_an_epoch_the_rate_falls_epoch_by_epoch():
    def stream():
        return iter(BATCHES[:2])

    seen = rates(CosineWithWarmup(0), "3ep", batches=stream)

    assert seen == pytest.approx([2.0, 2.0, 1.5, 1.5, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"warmup must be 0 where nobody knows .* epoch has, got 0.1; give max_dur"):
        rates(CosineWithWarmup(), "3ep", batches=stream)


@pytest.mark.parametrize(
    ("warmup", "duration", "said"),
    [
        ("5ep", "5ep", r"warmup must end before max_duration, 5ep, got 5ep; train longer"),
        ("25ba", "5ep", r"warmup must end before max_duration, 5ep, got 25ba"),
        ("1ep", "40sp", r"warmup must be told in the unit of max_duration, 40sp, got 1ep; a share, 0.1, does in all"),
        ("4sp", "2ep", r"warmup must be told in the unit of max_duration, 2ep, got 4sp"),
    ],
)
def test_a_warm_up_that_does_not_fit_the_run_is_refused_before_the_first_step(warmup, duration, said):
    with pytest.raises(ValueError, match=said):
        rates(CosineWithWarmup(warmup), duration)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"warmup": 1.0}, r"warmup must lie in \[0, 1\) as a share of the run, got 1.0; as a time write '5ep'"),
        ({"warmup": 5}, r"warmup must lie in \[0, 1\) as a share of the run, got 5"),
        ({"warmup": "long"}, r"warmup must be at least one epoch, batch or sample, got 'long'"),
        ({"final": -0.1}, r"final must lie in \[0, 1\], got -0.1"),
    ],
)
def test_a_schedule_of_nonsense_is_refused_when_it_is_made(settings, said):
    with pytest.raises(ValueError, match=said):
        CosineWithWarmup(**settings)


def test_ours_is_alone_since_it_sets_every_rate():
    optimizer = torch.optim.SGD(network().parameters())

    with pytest.raises(ValueError, match="schedulers must be torch's, or one CosineWithWarmup alone, got 2"):
        Trainer(network(), BATCHES, optimizers=optimizer, schedulers=[CosineWithWarmup(), StepLR(optimizer, 1)])


class Interrupted(Callback):
    """Keeps the run as it is after some steps."""

    def __init__(self, at):
        self.at = at

    def batch_checkpoint(self, state, logger):
        if state.timestamp.batch == self.at:
            self.kept = copy.deepcopy(capture(state))


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize("warmup", ["3ba", 0.4])
def test_a_resumed_run_goes_on_at_the_rate_where_it_was(at, warmup):
    def make(init):
        model = net(init)
        optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=0.05)
        return of_snapshots(model, optimizer, CosineWithWarmup(warmup), callbacks=Interrupted(at))

    whole, again = make(0), make(1)
    whole.fit()
    restore(whole.state.callbacks[0].kept, again.state)
    again.fit()

    assert digest(again.state) == digest(whole.state)


@pytest.mark.parametrize("epoch_length", [3, 7, None])
@pytest.mark.parametrize("duration", [Time(3, "ep"), Time(17, "ba"), Time(97, "sp")])
def test_a_share_stays_in_its_range_and_falls_once_it_has_risen(duration, epoch_length):
    warmup = 0.0 if epoch_length is None else 0.3
    shares, now = [], Timestamp()
    while not now.reached(duration):
        shares.append(CosineWithWarmup(warmup, final=0.1).share(now, duration, epoch_length))
        now = now.next_batch(7)
        now = now.next_epoch() if now.batch_in_epoch == (epoch_length or 5) else now

    peak = max(range(len(shares)), key=shares.__getitem__)
    assert shares[: peak + 1] == sorted(shares[: peak + 1])
    assert shares[peak:] == sorted(shares[peak:], reverse=True)
    assert min(shares) >= 0.0
    assert max(shares) <= 1.0


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.over_maps = nn.LayerNorm((4, 5))
        self.head = nn.Linear(4, 7)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.shift = nn.Module()
        self.shift.bias = nn.Parameter(torch.zeros(4, 1, 1))
        self.position = nn.Parameter(torch.zeros(1, 5))
        self.temperature = nn.Parameter(torch.zeros(()))


def named(model, groups):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [({names[parameter] for parameter in group["params"]}, group["weight_decay"]) for group in groups]


SPARED = {
    *{f"{module}.{name}" for module in ("norm", "over_maps") for name in ("weight", "bias")},
    *{"convolution.bias", "shift.bias", "head.bias", "frozen.bias", "temperature"},
}
DECAYING = {"convolution.weight", "head.weight", "frozen.weight", "position"}


@pytest.mark.parametrize("decay_embeddings", [False, True])
def test_weights_decay_and_biases_norms_and_embeddings_do_not(decay_embeddings):
    model = Everything()
    embedding = {"embedding.weight"}

    groups = parameter_groups(model, 0.05, decay_embeddings=decay_embeddings)

    assert named(model, groups) == [
        (DECAYING | (embedding if decay_embeddings else set()), 0.05),
        (SPARED | (set() if decay_embeddings else embedding), 0.0),
    ]


def test_each_parameter_stands_once_a_tied_one_too():
    model = Everything()
    model.head.weight = model.embedding.weight

    groups = parameter_groups(model, 0.05)

    held = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    assert "embedding.weight" in named(model, groups)[1][0]
    assert torch.optim.AdamW(groups).param_groups[0]["weight_decay"] == 0.05


def test_a_group_of_nothing_is_left_out():
    assert [group["weight_decay"] for group in parameter_groups(nn.Linear(3, 3, bias=False), 0.1)] == [0.1]
    assert [group["weight_decay"] for group in parameter_groups(nn.BatchNorm1d(3), 0.1)] == [0.0]
