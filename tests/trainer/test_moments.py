"""The moments of a run come in their order, and algorithms and callbacks act at them."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cutmix.core import Algorithm, Callback, Event
from cutmix.trainer import Trainer

MICROBATCH = ["before_forward", "after_forward", "before_loss", "after_loss", "before_backward", "after_backward"]
EVALUATION = [
    "eval_start",
    *["eval_batch_start", "eval_before_forward", "eval_after_forward", "eval_batch_end"] * 2,
    "eval_end",
]


class Recorder(Algorithm):
    def __init__(self):
        self.seen = []

    def match(self, event, state):
        self.seen.append((event, state.timestamp.batch))
        return False

    def apply(self, event, state, logger):
        raise AssertionError


def loader(samples=8, batch=4, **settings):
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(samples, 3, 6, 4, generator=generator), torch.arange(samples) % 3
    return DataLoader(TensorDataset(images, labels), batch_size=batch, **settings)


def trainer(*parts, **settings):
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    return Trainer(model, *parts, **{"device": "cpu", "progress_bar": False, "seed": 0, **settings})


def batch(microbatches=1, evaluation=()):
    return [
        *["before_dataloader", "after_dataloader", "batch_start", "before_train_batch"],
        *MICROBATCH * microbatches,
        *["after_train_batch", "batch_end", *evaluation, "batch_checkpoint"],
    ]


def events_of(**settings):
    recorder = Recorder()
    trainer(loader(), loader(), algorithms=recorder, **settings).fit()
    return [event.value for event, _ in recorder.seen]


def test_the_moments_come_in_the_order_of_the_design():
    epoch = ["epoch_start", *batch() * 2, "epoch_end", *EVALUATION, "epoch_checkpoint"]

    assert events_of(max_duration=2) == ["init", "fit_start", *epoch * 2, "fit_end"]


def test_each_microbatch_has_its_own_forward_loss_and_backward():
    epoch = ["epoch_start", *batch(microbatches=2) * 2, "epoch_end", *EVALUATION, "epoch_checkpoint"]

    assert events_of(max_duration=1, device_train_microbatch_size=3) == ["init", "fit_start", *epoch, "fit_end"]


def test_evaluation_by_batches_comes_between_the_end_of_a_batch_and_its_checkpoint():
    # The second evaluation is due after the last batch of the epoch; it is not repeated when training ends there.
    epoch = ["epoch_start", *batch(evaluation=EVALUATION) * 2, "epoch_end", "epoch_checkpoint"]

    assert events_of(max_duration=1, eval_interval="1ba") == ["init", "fit_start", *epoch, "fit_end"]


def test_training_that_ends_within_an_epoch_is_evaluated_before_its_last_checkpoint():
    expected = ["init", "fit_start", "epoch_start", *batch(evaluation=EVALUATION), "fit_end"]

    assert events_of(max_duration="1ba") == expected


def test_training_that_ends_with_an_epoch_is_evaluated_whatever_the_interval():
    epoch = ["epoch_start", *batch() * 2, "epoch_end"]
    expected = ["init", "fit_start", *epoch, "epoch_checkpoint", *epoch, *EVALUATION, "epoch_checkpoint", "fit_end"]

    assert events_of(max_duration=2, eval_interval="5ep") == expected


@pytest.mark.parametrize("never", [None, 0])
def test_evaluation_never_comes_when_it_is_switched_off(never):
    assert "eval_start" not in events_of(max_duration=1, eval_interval=never)


def test_the_clock_moves_between_the_optimizer_step_and_the_end_of_the_batch():
    recorder = Recorder()
    trainer(loader(), algorithms=recorder).fit()

    times = {event.value: batch for event, batch in recorder.seen}
    assert (times["after_train_batch"], times["batch_end"], times["epoch_end"]) == (1, 2, 2)


def test_an_epoch_that_is_continued_does_not_start_again():
    recorder = Recorder()
    short = trainer(loader(), algorithms=recorder)
    short.fit("1ba")
    short.fit("1ba")

    events = [event.value for event, _ in recorder.seen]
    assert (events.count("epoch_start"), events.count("epoch_end"), events.count("fit_start")) == (1, 1, 2)


def test_a_callback_is_called_at_every_moment_by_its_name():
    seen = []
    methods = {event.value: lambda self, state, logger, event=event: seen.append(event) for event in Event}
    recorder = Recorder()
    watch = type("Watch", (Callback,), methods)()

    trainer(loader(), loader(), callbacks=watch, algorithms=recorder).fit()

    assert seen == [event for event, _ in recorder.seen]


class HalfLoss(Algorithm):
    def match(self, event, state):
        return event is Event.AFTER_LOSS

    def apply(self, event, state, logger):
        state.loss = state.loss * 0.5


def test_an_algorithm_that_changes_the_loss_changes_the_gradient():
    def gradient(algorithms):
        model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3, bias=False))
        nn.init.zeros_(model[1].weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        Trainer(model, loader(), None, "1ba", algorithms, optimizers=optimizer, device="cpu", progress_bar=False).fit()
        return model[1].weight

    assert gradient([HalfLoss()]).equal(gradient(None) / 2)


class Close(Callback):
    closed = 0

    def close(self):
        self.closed += 1


def test_leaving_the_trainer_closes_callbacks():
    watch = Close()
    with trainer(loader(), callbacks=[watch]) as inside:
        inside.fit()

    assert watch.closed == 1
