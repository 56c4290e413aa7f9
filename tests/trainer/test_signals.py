"""Training ends by a signal between two steps, and only while ``fit`` runs."""

import multiprocessing
import os
import signal
import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cutmix.core import Callback
from cutmix.core.time import Timestamp
from cutmix.core.world import World
from cutmix.trainer import Trainer
from cutmix.trainer.callbacks.signals import Signals


class Raise(Callback):
    """Sends signals to its own process, before the gradient of a step."""

    def __init__(self, *numbers, step=2):
        self.numbers = numbers
        self.step = step
        self.ended = []

    def before_backward(self, state, logger):
        if state.timestamp.batch + 1 == self.step:
            for number in self.numbers:
                os.kill(os.getpid(), number)

    def batch_checkpoint(self, state, logger):
        self.ended.append(state.timestamp.batch)


def trainer(callback, **settings):
    batches = [(torch.rand(4, 6), torch.arange(4) % 3)] * 4
    model = nn.Linear(6, 3)
    return Trainer(model, batches, device="cpu", progress_bar=False, seed=0, callbacks=callback, **settings)


@pytest.fixture(autouse=True)
def handlers():
    # A shell lets what it starts in the background ignore Ctrl-C, and what is ignored stays so.
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    signal.signal(signal.SIGINT, found)


def test_sigterm_ends_training_after_the_step_at_hand_with_143():
    callback = Raise(signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        trainer(callback).fit()

    assert end.value.code == 143
    assert callback.ended == [1, 2]


def test_ctrl_c_reaches_the_caller_after_the_step_at_hand():
    callback = Raise(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(callback).fit()

    assert callback.ended == [1, 2]


def test_ctrl_c_twice_ends_training_at_once():
    callback = Raise(signal.SIGINT, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(callback).fit()

    assert callback.ended == [1]


def test_a_signal_after_the_last_step_ends_the_process_all_the_same():
    class AtTheEnd(Callback):
        def fit_end(self, state, logger):
            os.kill(os.getpid(), signal.SIGTERM)

    run = trainer(AtTheEnd())
    with pytest.raises(SystemExit):
        run.fit()

    assert run.state.is_over


def test_training_goes_on_from_where_a_signal_ended_it():
    run = trainer(Raise(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run.fit()

    run.fit()

    assert run.state.timestamp.batch == 4


def test_handlers_are_as_they_were_after_an_error():
    class Failing(Callback):
        def batch_end(self, state, logger):
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            raise LookupError

    with pytest.raises(LookupError):
        trainer(Failing()).fit()


def test_what_is_ignored_stays_ignored(monkeypatch):
    callback = Raise(signal.SIGINT, signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        trainer(callback).fit()
    finally:
        signal.signal(signal.SIGINT, before)

    assert callback.ended == [1, 2, 3, 4]


def test_in_another_thread_no_handler_is_set():
    seen = []

    class Look(Callback):
        def batch_end(self, state, logger):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=trainer(Look()).fit)
    thread.start()
    thread.join()

    assert seen == [signal.getsignal(signal.SIGTERM)] * 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_that_are_told_to_end_leave_it_to_their_trainer(number):
    class Tell(Callback):
        def batch_end(self, state, logger):
            for worker in multiprocessing.active_children() if state.timestamp.batch > 2 else ():
                os.kill(worker.pid, number)  # which has given a batch, and so is ready

    data = TensorDataset(torch.rand(16, 6), torch.arange(16) % 3)
    loader = DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context="fork")
    run = Trainer(nn.Linear(6, 3), loader, device="cpu", progress_bar=False, seed=0, callbacks=Tell())
    run.fit()

    assert run.state.timestamp.batch == 8
    for worker in multiprocessing.active_children():
        worker.join(10)
    assert not multiprocessing.active_children()


class Two(World):
    """Hears a second rank, to which SIGTERM has come by the time that it is asked after so many steps."""

    def __init__(self, came_at):
        super().__init__(size=2)
        object.__setattr__(self, "came_at", came_at)
        object.__setattr__(self, "step", 0)
        object.__setattr__(self, "asked", [])

    def counts_later(self, caught, *rest):
        self.asked.append(self.step)
        theirs = signal.SIGTERM if self.step >= self.came_at else 0
        return lambda: [(caught, *rest), (theirs, *rest)]


@pytest.mark.parametrize("seconds", [0.001, 10.0], ids=["quick steps", "slow steps"])
@pytest.mark.parametrize("came_at", [1, 2, 5])
def test_ranks_end_a_step_after_they_have_asked_each_other(seconds, came_at, monkeypatch):
    clock, saved, world = [0.0], [], Two(came_at)
    monkeypatch.setattr("cutmix.trainer.callbacks.signals.monotonic", lambda: clock[0])
    signals = Signals(lambda state: saved.append(state.timestamp.batch))
    state = SimpleNamespace(world=world, timestamp=Timestamp())
    signals.fit_start(state, None)

    def walk():
        for step in range(1, 200):
            clock[0] += seconds
            object.__setattr__(world, "step", step)
            state.timestamp = Timestamp(batch=step)
            signals.batch_checkpoint(state, None)

    with pytest.raises(SystemExit) as end:
        walk()

    assert end.value.code == 143
    first = min(asked for asked in world.asked if asked >= came_at)
    assert saved == [first + 1]
    gaps = {later - sooner for sooner, later in pairwise(world.asked)}
    assert gaps <= ({1, 64} if seconds < 1.0 else {1})


@pytest.mark.parametrize("moment", ["epoch_checkpoint", "fit_end"])
def test_a_signal_that_another_rank_was_asked_for_is_heard_before_the_epoch_and_the_run_end(moment):
    signals, state = Signals(None), SimpleNamespace(world=Two(0), timestamp=Timestamp(batch=1))

    def fit():
        with signals.taken():
            signals.fit_start(state, None)
            signals.batch_checkpoint(state, None)
            getattr(signals, moment)(state, None)

    with pytest.raises(SystemExit):
        fit()
