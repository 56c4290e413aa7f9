"""What the weights end at: the same to the bit as by hand, for the same seed, and however the work is cut."""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from cutmix.algorithms import CutMix, MixUp
from cutmix.core import Algorithm, Callback, Event
from cutmix.keys import fold
from cutmix.targets import MixedTarget
from cutmix.trainer import Trainer

IMAGES = torch.rand(22, 3, 6, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(22) % 4


def loader(shuffle=True, **settings):
    return DataLoader(TensorDataset(IMAGES, LABELS), **{"batch_size": 4, "shuffle": shuffle, **settings})


def network(dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(90, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Linear(8, 4))


def fitted(model=None, data=None, duration=2, *, algorithms=None, eval_dataloader=None, **settings):
    model = network() if model is None else model
    settings = {"device": "cpu", "progress_bar": False, "seed": 7, **settings}
    settings.setdefault("optimizers", torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    Trainer(model, loader() if data is None else data, eval_dataloader, duration, algorithms, **settings).fit()
    return model


def same(one, other):
    return all(
        mine.equal(theirs) for mine, theirs in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_without_algorithms_the_weights_are_those_of_a_loop_by_hand(dropout):
    batches = list(loader(shuffle=False))
    by_hand = network(dropout)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    with torch.random.fork_rng():
        for epoch in range(3):
            for number, (images, target) in enumerate(batches):
                torch.default_generator.manual_seed(fold(7, "step", epoch * len(batches) + number, 0))
                optimizer.zero_grad()
                F.cross_entropy(by_hand(images), target).backward()
                optimizer.step()
            schedule.step()

    model = network(dropout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    fitted(model, loader(shuffle=False), 3, optimizers=optimizer, schedulers=schedule)

    assert same(model, by_hand)


@pytest.mark.parametrize("algorithms", [None, CutMix(), MixUp()])
def test_a_seed_repeats_to_the_bit_and_another_one_does_not(algorithms):
    once, twice, other = (fitted(network(0.5), algorithms=algorithms, seed=seed) for seed in (7, 7, 8))

    assert same(once, twice)
    assert not same(once, other)


def test_the_seed_is_torch_s_initial_one_when_none_is_given():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = fitted(seed=None)

    assert same(model, fitted(seed=7))


class Failing(Callback):
    def batch_end(self, state, logger):
        torch.rand(3)
        raise RuntimeError("stop here")


@pytest.mark.parametrize("callback", [Callback(), Failing()], ids=["to the end", "up to an error"])
def test_the_caller_s_generators_are_left_as_found(callback):
    found, initial = torch.get_rng_state(), torch.initial_seed()
    own = torch.Generator().manual_seed(3)
    own_state = own.get_state()

    with nullcontext() if type(callback) is Callback else pytest.raises(RuntimeError, match="stop here"):
        fitted(network(0.5), loader(generator=own), algorithms=CutMix(), callbacks=callback, eval_dataloader=loader())

    assert torch.get_rng_state().equal(found)
    assert torch.initial_seed() == initial
    assert own.get_state().equal(own_state)


def test_python_s_and_numpy_s_generators_are_not_touched():
    found = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    # Without algorithms, since the shape checker of the tests draws from Python's generator when one is at work.
    fitted(network(0.5))

    assert (random.getstate(), np.random.get_state()[1].tolist()) == found  # noqa: NPY002


def test_a_generator_that_training_and_evaluation_share_is_left_as_found():
    own = torch.Generator().manual_seed(3)
    found = own.get_state()

    fitted(data=loader(generator=own), eval_dataloader=loader(generator=own), eval_interval="2ba")

    assert own.get_state().equal(found)


def test_evaluation_leaves_no_trace_in_the_weights():
    model = network(0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    watched = Trainer(
        model,
        loader(),
        loader(),
        2,
        CutMix(),
        optimizers=optimizer,
        eval_interval="1ba",
        device="cpu",
        seed=7,
        progress_bar=False,
    )
    watched.fit()

    assert same(model, fitted(network(0.5), algorithms=CutMix()))


@pytest.mark.parametrize("parts", [["1ep", "1ep"], ["4ba", "2ep"], ["3ba", "5ba", "3ba", "1ba"], ["10sp", "9ba"]])
def test_fits_in_a_row_go_on_where_training_stopped(parts):
    model = network(0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer = Trainer(
        model, loader(), None, 1, CutMix(), optimizers=optimizer, device="cpu", seed=7, progress_bar=False
    )
    for part in parts:
        trainer.fit(part)

    assert trainer.state.timestamp.batch == 12
    assert same(model, fitted(network(0.5), algorithms=CutMix()))


class Stream(IterableDataset):
    def __iter__(self):
        return ((IMAGES[number], LABELS[number]) for number in torch.randperm(22).tolist())


def drawn_on_the_way():
    chosen = (torch.randint(22, (4,)) for _ in range(6))
    return ((IMAGES[numbers], LABELS[numbers]) for numbers in chosen)


@pytest.mark.parametrize(
    "source", [DataLoader(Stream(), batch_size=4), drawn_on_the_way], ids=["stream", "drawing function"]
)
def test_fits_in_a_row_go_on_in_what_gives_its_batches_in_an_order_of_its_own(source):
    model = network(0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer = Trainer(model, source, None, 1, optimizers=optimizer, device="cpu", seed=7, progress_bar=False)
    for part in ("4ba", "3ba", "5ba"):
        trainer.fit(part)

    assert same(model, fitted(network(0.5), source))


def test_a_fit_for_an_epoch_in_the_midst_of_one_trains_what_is_left_of_it():
    model = network()
    trainer = Trainer(model, loader(), None, 1, device="cpu", progress_bar=False)
    trainer.fit("4ba")
    trainer.fit("1ep")

    assert (trainer.state.timestamp.epoch, trainer.state.timestamp.batch) == (1, 6)


class Collector(Callback):
    def __init__(self):
        self.batches = []

    def batch_start(self, state, logger):
        self.batches.append(state.batch)


@pytest.mark.parametrize(
    "settings",
    [
        {"device_train_microbatch_size": 3},
        {"device_train_microbatch_size": 1},
        {"data": loader(num_workers=2)},
        {"data": loader(num_workers=1, persistent_workers=True)},
        {"eval_dataloader": loader(), "eval_interval": "1ba"},
    ],
    ids=["microbatches of 3", "microbatches of 1", "2 workers", "a persistent worker", "evaluation"],
)
def test_the_mixed_batches_do_not_depend_on_how_the_work_is_done(settings):
    def batches(data=None, **settings):
        collector = Collector()
        trainer = Trainer(
            nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(90, 4)),
            loader() if data is None else data,
            max_duration=2,
            algorithms=CutMix(),
            callbacks=collector,
            device="cpu",
            seed=7,
            progress_bar=False,
            **settings,
        )
        trainer.fit()
        return collector.batches

    usual, other = batches(), batches(**settings)

    assert len(usual) == len(other) == 12
    assert isinstance(usual[0][1], MixedTarget)
    for (images, target), (other_images, other_target) in zip(usual, other, strict=True):
        assert images.equal(other_images)
        assert all(mine.equal(theirs) for mine, theirs in zip(target, other_target, strict=True))


class Gradients(Callback):
    def after_train_batch(self, state, logger):
        self.gradients = [parameter.grad.clone() for parameter in state.model.parameters()]
        self.loss, self.metrics = state.loss, state.train_metrics


@pytest.mark.parametrize("loss_fn", [F.cross_entropy, nn.CrossEntropyLoss(label_smoothing=0.1)])
@pytest.mark.parametrize(
    "algorithms", [None, CutMix(), CutMix(interpolate_loss=True)], ids=["plain", "mixed", "interpolated"]
)
def test_uneven_microbatches_give_the_gradient_of_the_whole_batch(algorithms, loss_fn):
    def watched(size):
        model, watch = nn.Sequential(nn.Flatten(), nn.Linear(90, 4)).double(), Gradients()
        nn.init.constant_(model[1].weight, 0.1)
        nn.init.zeros_(model[1].bias)
        data = [(IMAGES[:7].double(), LABELS[:7])]
        fitted(
            model,
            data,
            "1ba",
            algorithms=algorithms,
            callbacks=watch,
            device_train_microbatch_size=size,
            loss_fn=loss_fn,
        )
        return watch

    whole, cut = watched(None), watched(3)

    torch.testing.assert_close(cut.gradients, whole.gradients, rtol=0, atol=1e-14)
    torch.testing.assert_close(cut.loss, whole.loss, rtol=0, atol=1e-14)
    torch.testing.assert_close(cut.metrics, whole.metrics)


def test_a_data_set_is_never_written_to():
    images, labels = IMAGES.clone(), LABELS.clone()
    batches = [(images[:11], labels[:11]), (images[11:], labels[11:])]

    fitted(data=batches, algorithms=CutMix())

    assert images.equal(IMAGES)
    assert labels.equal(LABELS)
    assert batches[0][1].equal(LABELS[:11])


class Watch(Algorithm):
    def __init__(self):
        self.seen = []

    def match(self, event, state):
        return event in {Event.BATCH_START, Event.BEFORE_LOSS, Event.AFTER_TRAIN_BATCH}

    def apply(self, event, state, logger):
        images, target = state.batch
        self.seen.append((type(target), len(images), len(target.kept)))


def test_the_batch_holds_the_mixed_target_until_the_step_is_done():
    watch = Watch()
    fitted(algorithms=[CutMix(), watch], duration="1ba", device_train_microbatch_size=2)

    assert watch.seen == [(MixedTarget, samples, samples) for samples in (4, 2, 2, 4)]


def test_a_batch_is_moved_to_the_device_and_then_the_memory_is_ours(monkeypatch):
    # The meta device stands for one that is not the CPU: it has shapes, and no numbers.
    monkeypatch.setattr("cutmix.trainer.trainer.device_for", lambda _: torch.device("meta"))
    seen = []

    class Moved(Algorithm):
        def match(self, event, state):
            return event is Event.AFTER_DATALOADER

        def apply(self, event, state, logger):
            images, target = state.batch
            seen.append((images.is_meta, target.is_meta, state.writable(images) is images))

    class End(Callback):
        def after_train_batch(self, state, logger):
            raise InterruptedError

    there_already = [(images.to("meta"), target.to("meta")) for images, target in loader()]
    for batches in (None, there_already):
        with pytest.raises(InterruptedError):
            fitted(
                nn.Sequential(nn.Flatten(), nn.Linear(90, 4)),
                batches,
                "1ba",
                algorithms=[Moved(), CutMix()],
                callbacks=End(),
            )

    assert seen == [(True, True, True), (True, True, False)]


def test_half_precision_is_only_in_the_computation():
    class Seen(Callback):
        def after_forward(self, state, logger):
            self.outputs = state.outputs.dtype

    watch = Seen()
    model = fitted(precision="amp_bf16", callbacks=watch, algorithms=CutMix())

    assert watch.outputs is torch.bfloat16
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not same(model, fitted(algorithms=CutMix()))


def test_schedulers_are_stepped_by_epoch_or_by_batch():
    def rate(**settings):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        fitted(model, optimizers=[optimizer], schedulers=[schedule], **settings)
        return optimizer.param_groups[0]["lr"]

    assert rate() == 0.5**2
    assert rate(step_schedulers_every_batch=True) == 0.5**12
