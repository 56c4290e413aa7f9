"""Training ends by a signal between two steps, and only while ``fit`` runs."""

import multiprocessing
import os
import signal
import threading

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cutmix.core import Callback
from cutmix.trainer import Trainer


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
