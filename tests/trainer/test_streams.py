"""Batches in an order of their own: skipped by drawing, or driven by the loader's state; each rank has its own stream."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from cutmix.core.world import World
from cutmix.trainer import Trainer
from cutmix.trainer.batches.order import batches_of
from cutmix.trainer.batches.sources import Use
from cutmix.trainer.batches.streams import _lent

stateful = pytest.importorskip(
    "torchdata.stateful_dataloader", reason="a StatefulDataLoader comes with torchdata, which is not installed"
)
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's latest calls it
NUMBERS = TensorDataset(torch.arange(20))


class Rank(World):
    """A rank beside one whose stream is as long as ``OTHER`` tells."""

    def counts(self, number, *has_one):
        return [(number, *has_one), (next(self.other, 0), *has_one)]

    def gathered(self, value):
        return [value, value]


class Talking(Rank):
    __slots__ = ("other",)


def beside(*counts):
    world = Talking(0, 2)
    object.__setattr__(world, "other", iter(counts))
    return world


def fed(source, start=0, **use):
    with torch.random.fork_rng():
        return [
            (batch.tolist(), None if share is None else (share.here, share.total))
            for batch, share in batches_of(source, "train_dataloader", Use(0, **use)).epoch(0, start)
        ]


def stream(length):
    return lambda: iter(torch.arange(3 * length).split(3) if length else ())


def test_in_training_an_epoch_ends_for_all_ranks_with_the_stream_that_ends_first():
    assert [share for _, share in fed(stream(4), world=beside(2, 2))] == [(3, 5), (3, 5)]
    assert [share for _, share in fed(stream(2), world=beside(2, 2, 2))] == [(3, 5), (3, 5)]


def test_in_evaluation_a_rank_whose_stream_has_ended_goes_along():
    batches = fed(stream(2), world=beside(2, 2, 2), measures=True)

    assert batches == [([0, 1, 2], (3, 5)), ([3, 4, 5], (3, 5)), ([3, 4, 5], (0, 2))]


def together(make, size, **use):
    """List for each of several ranks, each in a thread, its batches, and how many samples of each count."""
    board, barrier = [None] * size, Barrier(size, timeout=60)

    class Talking(World):
        def gathered(self, value):
            board[self.rank] = value
            barrier.wait()
            told = list(board)
            barrier.wait()
            return told

        def counts(self, *numbers):
            return self.gathered(numbers)

    def steps(rank):
        batches = batches_of(make(rank), "eval_dataloader", Use(0, world=Talking(rank, size), **use))
        return [(batch, share.here) for batch, share in batches.epoch(0)]

    with torch.random.fork_rng(), ThreadPoolExecutor(size) as threads:
        return list(threads.map(steps, range(size)))


def counted(steps):
    return [[here for _, here in own] for own in steps]


LONG = TensorDataset(torch.arange(96))
SOURCES = {
    "streams": lambda rank: stream(8),
    "dealt out by a sampler": lambda rank: DataLoader(LONG, 3, sampler=DistributedSampler(LONG, 4, rank)),
    "dealt out here": lambda rank: DataLoader(LONG, 3),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 7, 8])
def test_a_limit_is_of_steps_in_training_and_of_all_batches_in_evaluation_whatever_the_source(make, limit):
    trained, measured = (counted(together(make, 4, limit=limit, measures=measures)) for measures in (False, True))

    assert trained == [[3] * limit] * 4
    assert sum(here > 0 for shares in measured for here in shares) == limit
    assert {len(shares) for shares in measured} == {-(-limit // 4)}


class Dealt:
    """What a sampler deals to one rank."""

    num_replicas = 3

    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return iter(range(self.length))

    def __len__(self):
        return self.length


UNEVEN = {
    "streams": lambda rank: stream((0, 2, 1)[rank]),
    "dealt out by a sampler": lambda rank: DataLoader(LONG.tensors[0], 3, sampler=Dealt((0, 6, 3)[rank])),
}


@pytest.mark.parametrize("make", UNEVEN.values(), ids=UNEVEN)
def test_a_rank_that_is_given_nothing_goes_along_in_evaluation_and_ends_the_epoch_in_training(make):
    measured = together(make, 3, measures=True)

    assert counted(measured) == [[0, 0], [3, 3], [3, 0]]
    assert [[batch.tolist() for batch, _ in steps] for steps in measured] == [
        [[0, 1, 2], [0, 1, 2]],
        [[0, 1, 2], [3, 4, 5]],
        [[0, 1, 2], [0, 1, 2]],
    ]
    assert together(make, 3) == [[], [], []]


@pytest.mark.parametrize("make", UNEVEN.values(), ids=UNEVEN)
@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_a_limit_counts_the_batches_that_there_are_whoever_has_them(make, limit):
    measured = counted(together(make, 3, limit=limit, measures=True))

    assert (
        measured
        == {
            1: [[0], [3], [0]],
            2: [[0], [3], [3]],
            3: [[0, 0], [3, 3], [3, 0]],
            9: [[0, 0], [3, 3], [3, 0]],
        }[limit]
    )


def test_what_is_lent_is_a_batch_and_not_the_memory_that_it_is_a_view_of():
    class Sent(World):
        def gathered(self, value):
            sent.append(len(pickle.dumps(value)))
            return [value, value]

    sent = []
    images = torch.zeros(1000, 100)
    assert _lent([images[:1], "names"], 0, Sent(0, 2))[0].shape == (1, 100)
    assert sent[0] < 2000


def test_that_ranks_have_streams_of_their_own_and_that_batches_are_passed_over_is_said(capsys):
    fed(stream(2), world=beside(2), aloud=True)
    assert "each trains on its own stream" in capsys.readouterr().err

    fed(stream(2), start=1, aloud=True)
    assert (
        capsys.readouterr().err == "train_dataloader tells of no order: 1 batches are fetched again, and passed over.\n"
    )

    fed(stream(2), aloud=True)
    assert not capsys.readouterr().err


LOADERS = {
    "shuffled": lambda **more: stateful.StatefulDataLoader(
        NUMBERS, 3, shuffle=True, generator=torch.Generator().manual_seed(3), **more
    ),
    "in workers": lambda **more: stateful.StatefulDataLoader(NUMBERS, 3, shuffle=True, num_workers=1, **more),
    "distributed": lambda **more: stateful.StatefulDataLoader(
        NUMBERS, 3, sampler=DistributedSampler(NUMBERS, num_replicas=2, rank=1), **more
    ),
}


def drive(batches, steps, start=(0, 0)):
    """Take ``steps`` batches of epochs of at most 5; return them, and where they end."""
    (epoch, within), seen = start, []
    while len(seen) < steps:
        for batch, _ in batches.epoch(epoch, within):
            seen.append(batch[0].tolist())
            within += 1
            if len(seen) == steps:
                break
        else:
            epoch, within = epoch + 1, 0
    return seen, (epoch, within)


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("limit", [None, 3])
def test_a_loader_with_a_state_goes_on_by_its_state(make, limit):
    def batches():
        return batches_of(make(), "train_dataloader", Use(0, limit))

    with torch.random.fork_rng():
        per_epoch = batches().per_epoch
        for steps in (1, per_epoch - 1, per_epoch, per_epoch + 1):
            torch.manual_seed(1)
            one = batches()
            _, place = drive(one, steps)
            state = one.state_dict()
            rest, _ = drive(one, per_epoch + 1, place)
            torch.manual_seed(2)
            other = batches()
            other.load_state_dict(state)

            assert drive(other, per_epoch + 1, place)[0] == rest


def test_what_was_saved_by_other_ranks_is_refused():
    one = batches_of(LOADERS["shuffled"](), "train_dataloader", Use(0))
    two = batches_of(LOADERS["shuffled"](), "train_dataloader", Use(0, world=beside()))

    with pytest.raises(ValueError, match="as many processes as then, 2, got 1; start that many"):
        one.load_state_dict(two.state_dict())


class Remembering:
    """Any loader with these two methods is driven by them: it need not be torchdata's."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        while self.at < 6:
            self.at += 1
            yield torch.tensor([self.at])
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def test_batches_that_lie_behind_are_not_fetched_again():
    one = batches_of(Remembering(), "train_dataloader", Use(0))
    with torch.random.fork_rng():
        batches = one.epoch(0)
        first = [next(batches)[0].item() for _ in range(4)]
        other = batches_of(Remembering(), "train_dataloader", Use(0))
        other.load_state_dict(one.state_dict())

        assert first == [1, 2, 3, 4]
        assert [batch.item() for batch, _ in other.epoch(0, 4)] == [5, 6]


def test_a_stateful_loader_to_evaluate_on_is_walked_from_its_beginning():
    loader = stateful.StatefulDataLoader(NUMBERS, 3)
    batches = batches_of(loader, "eval_dataloader", Use(0, measures=True))

    with torch.random.fork_rng():
        assert [len(list(batches.epoch(0))) for _ in range(2)] == [7, 7]


def test_a_plain_loader_is_no_stateful_one():
    assert not hasattr(batches_of(DataLoader(NUMBERS), "train_dataloader", Use(0)), "load_state_dict")


def run(folder, make, duration=None):
    with torch.random.fork_rng():
        torch.manual_seed(len(folder.name))  # what a loader draws when it is made, is not the run's
        data = make()
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        settings = {"save_folder": folder, "save_interval": "1ba", "autoresume": True, "eval_interval": None}
        with Trainer(model, data, None, "3ep", device="cpu", progress_bar=False, seed=0, **settings) as trainer:
            trainer.fit(duration)
    return [parameter.tolist() for parameter in model.parameters()], (folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize("stops", [("2ba",), ("1ep", "1ba")])
def test_a_run_on_a_stateful_loader_goes_on_to_the_same_end(tmp_path, stops):
    images, labels = torch.rand(10, 2, 2, generator=torch.Generator().manual_seed(1)), torch.arange(10) % 3

    def make():
        return stateful.StatefulDataLoader(TensorDataset(images, labels), 3, shuffle=True)

    for stop in stops:
        run(tmp_path / "stopped", make, stop)

    assert run(tmp_path / "stopped", make) == run(tmp_path / "one", make)
