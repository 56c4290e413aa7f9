"""Who is called at a moment: matching algorithms in the order given, then the callbacks that watch for it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cutmix.core import Algorithm, Callback, Event, Logger, State
from cutmix.core.logger import Loggers
from cutmix.core.runner import NOBODY, Runner


class Named(Algorithm):
    def __init__(self, name, calls, event):
        self.name, self.calls, self.event = name, calls, event

    def match(self, event, state):
        return event is self.event

    def apply(self, event, state, logger):
        self.calls.append(self.name)


class Watching(Callback):
    def __init__(self, calls):
        self.calls = calls

    def batch_end(self, state, logger):
        self.calls.append("watched")


def state_of(**parts):
    return State(model=nn.Identity(), loss_fn=F.cross_entropy, device=torch.device("cpu"), seed=0, **parts)


def test_matching_algorithms_act_in_their_order_and_then_callbacks_watch():
    calls = []
    algorithms = tuple(
        Named(name, calls, Event(event)) for name, event in [("a", "batch_end"), ("b", "fit_end"), ("c", "batch_end")]
    )
    run = Runner(state_of(algorithms=algorithms, callbacks=(Watching(calls),)), Loggers([]))

    run(Event.BATCH_END)
    run(Event.EPOCH_END)

    assert calls == ["a", "c", "watched"]


def test_a_callback_is_called_only_for_the_moments_it_overrides():
    run = Runner(state_of(callbacks=(Watching([]), Callback())), Loggers([]))

    assert [event for event, told in run.tell.items() if told is not NOBODY] == [Event.BATCH_END]


def test_every_moment_has_a_callback_method():
    assert all(callable(getattr(Callback(), event)) for event in Event)


class Recording(Logger):
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))


def test_loggers_are_handed_plain_numbers_as_they_were_when_logged():
    places = [Recording(), Recording()]
    loggers, running = Loggers(places), torch.tensor(0.5)
    loggers.log_metrics({"loss": running, "epoch": 1}, step=3)
    running.add_(1)
    loggers.log_metrics({"loss": running, "hits": torch.tensor([4])}, step=4)
    assert not places[0].rows

    loggers.flush()
    loggers.flush()

    rows = [(3, {"loss": 0.5, "epoch": 1}), (4, {"loss": 1.5, "hits": 4})]
    assert [place.rows for place in places] == [rows, rows]
    assert not any(isinstance(value, torch.Tensor) for _, metrics in places[0].rows for value in metrics.values())


def test_a_figure_of_many_numbers_is_refused():
    with pytest.raises(
        ValueError, match=r"norms must be one number, got a tensor of shape \(2,\); log its mean or sum"
    ):
        Loggers([Recording()]).log_metrics({"norms": torch.zeros(2)}, step=0)


def test_images_are_written_into_only_where_the_memory_is_ours():
    images = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)

    fresh = state_of().writable(images)

    assert fresh.data_ptr() != images.data_ptr()
    assert fresh.stride() == images.stride()
    assert state_of(owns_batch=True).writable(images) is images
