"""Many processes train as one: the same samples, the same weights on each, the same numbers."""

import ast
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import cutmix
import ranks
import together
from cutmix.algorithms import CutMix
from cutmix.core.event import Event
from cutmix.core.state import State
from cutmix.core.time import Timestamp
from cutmix.core.world import World
from cutmix.trainer import Trainer
from cutmix.trainer.parallel import blocks
from cutmix.trainer.processes import join

SOURCES = Path(cutmix.__file__).parent


def test_one_file_talks_to_torch_distributed():
    def talks(node):
        match node:
            case ast.Import():
                return any(name.name.startswith("torch.distributed") for name in node.names)
            case ast.ImportFrom(module=module, names=names):
                return any(f"{module}.{name.name}".startswith("torch.distributed") for name in names)
            case ast.Attribute():
                return ast.unparse(node) == "torch.distributed"
        return False

    trees = {path.relative_to(SOURCES).as_posix(): ast.parse(path.read_text()) for path in SOURCES.rglob("*.py")}

    assert {name for name, tree in trees.items() if any(map(talks, ast.walk(tree)))} == {"trainer/processes.py"}


def test_without_a_launcher_a_world_is_of_one_process_that_hears_itself(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    world = join()

    assert (world.rank, world.size, world.local_rank) == (0, 1, 0)
    assert world.broadcast("a") == "a"
    assert world.gathered("a") == ["a"]


def test_no_thread_that_has_just_sent_something_is_at_work_when_a_worker_is_forked():
    for told in ranks.run("trainer.ranks_that_fork", 2, "forks"):
        assert told["forks"] <= 5, "of 100; without a pause it is 10 to 30"


@pytest.fixture(scope="module")
def two():
    """Return what two processes have come to, for each task."""
    tasks = (
        "replicated_in_step",
        "sharded_in_step",
        "of_all_samples",
        "wrapped_by_a_function",
        "a_loss_that_learns",
        "narrow_convolutions",
        "optimizers_of_whole_parameters",
        "own_streams",
        "nothing_counts",
        "evaluated",
    )
    first, second = ranks.run("together", 2, *tasks)
    return {task: (first[task], second[task]) for task in tasks}


@pytest.fixture(scope="module")
def four():
    tasks = ("replicated_in_step", "sharded_in_step", "of_all_samples", "evaluated")
    told = ranks.run("together", 4, *tasks)
    return {task: [one[task] for one in told] for task in tasks}


@pytest.mark.parametrize("task", ["replicated_in_step", "sharded_in_step", "wrapped_by_a_function", "own_streams"])
def test_after_every_step_the_weights_are_equal_across_ranks_to_the_bit(two, task):
    first, second = two[task]

    assert len(first["weights"]) >= 6
    assert first["weights"] == second["weights"]


def test_ddp_and_fsdp_train_to_the_same_bits_on_two_ranks(two):
    ddp, fsdp = (two[task][0] for task in ("replicated_in_step", "sharded_in_step"))

    assert ddp["values"] == fsdp["values"]
    assert ddp["rows"] == fsdp["rows"]
    assert fsdp["sharded"] == ["FSDPNet", "FSDPBlock", "FSDPBlock"]


def test_ddp_and_fsdp_train_to_a_millionth_on_four_ranks(four):
    assert all(one["weights"] == four["replicated_in_step"][0]["weights"] for one in four["replicated_in_step"])
    ddp, fsdp = (torch.tensor(four[task][0]["values"]) for task in ("replicated_in_step", "sharded_in_step"))

    torch.testing.assert_close(ddp, fsdp, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("size", [2, 4])
def test_gradients_and_figures_are_those_of_the_mean_over_the_samples_of_all_ranks(two, four, size):
    told = (two if size == 2 else four)["of_all_samples"][0]
    one, _, log = together.trained(together.network(together.Plain), together.loader(batch_size=2 * size))

    assert len(told["rows"]) == 2 * math.ceil(21 / (2 * size))  # the last steps with samples for some ranks only
    assert torch.tensor(told["values"]).allclose(torch.tensor(together.values(one)), atol=1e-6)
    for row, alone in zip(told["rows"], log.rows, strict=True):
        assert row == pytest.approx(alone, abs=1e-6)


def test_samples_come_once_in_an_epoch_on_two_ranks_and_on_four(two, four):
    for told in (two["replicated_in_step"], four["replicated_in_step"]):
        steps = len(told[0]["samples"]) // 2
        epochs = [[one["samples"][:steps] for one in told], [one["samples"][steps:] for one in told]]

        assert all(one["timestamp"] == 42 for one in told)
        for epoch in epochs:
            assert {sample for own in epoch for batch in own for sample in batch} == set(range(21))


def test_ranks_draw_plans_of_their_own(two):
    first, second = (told["plans"] for told in two["replicated_in_step"])

    assert all(mine != theirs for mine, theirs in zip(first, second, strict=True))


def test_buffers_are_rank_0s_when_a_step_begins_and_when_they_are_measured(two):
    for task in ("replicated_in_step", "sharded_in_step"):
        first, second = two[task]

        assert first["read"] == second["read"]
        assert first["buffers"] == second["buffers"]


def test_a_rank_without_samples_adds_a_gradient_of_0_be_its_loss_infinite(two):
    first, second = two["nothing_counts"]
    one, _, _ = together.trained(
        together.network(together.Plain),
        [(together.IMAGES[:3], together.LABELS[:3])],
        max_duration="1ba",
    )

    assert first == second
    assert torch.tensor(first).allclose(torch.tensor(together.values(one)), atol=1e-7)


def test_what_the_loss_learns_is_equal_across_ranks(two):
    first, second = two["a_loss_that_learns"]

    assert first == second
    assert first[0] == first[1] != [1.0, 1.0, 1.0]


def test_gradients_whose_strides_read_both_ways_are_nothing_to_warn_of(two):
    assert two["narrow_convolutions"] == ([], [])


def test_optimizers_that_torch_cannot_shard_are_refused_by_name(two):
    first, second = two["optimizers_of_whole_parameters"]

    assert first == second
    for refusal, name in zip(first, ("Adafactor", "Adagrad", "Rprop"), strict=True):
        assert f"must step on shards with parallelism='fsdp', got {name}, which torch has for whole" in refusal


def test_an_epoch_ends_for_all_ranks_with_the_stream_that_ends_first(two):
    assert [told["samples"] for told in two["own_streams"]] == [2 * 3 * 6] * 2


def test_evaluation_gives_every_rank_the_very_numbers_that_one_process_has(two, four):
    one = together.evaluated(0)

    assert len(one[0]) == 25
    assert all(told == one for told in (*two["evaluated"], *four["evaluated"]))


def plans_of(rank, *, same_plans=False):
    plans = []
    for step in range(200):
        state = State(
            model=nn.Identity(),
            loss_fn=nn.CrossEntropyLoss(),
            device=torch.device("cpu"),
            seed=0,
            world=World(rank, 2),
            same_plans=same_plans,
            timestamp=Timestamp(batch=step),
        )
        state.batch = (torch.zeros(8, 3, 16, 12), torch.arange(8))
        CutMix().apply(Event.AFTER_DATALOADER, state, None)
        plans.append(state.plan)
    return plans


def test_in_200_steps_ranks_draw_99_plans_of_100_apart_and_the_same_on_request():
    apart = sum(mine != theirs for mine, theirs in zip(plans_of(0), plans_of(1), strict=True))

    assert apart >= 198
    assert plans_of(0, same_plans=True) == plans_of(1, same_plans=True) == plans_of(0)


class Part(nn.Module):
    def __init__(self, width=512):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU())


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(512, 512)
        self.stages = nn.ModuleList([nn.Sequential(Part(), Part()), nn.Sequential(Part(), Part(8))])


def test_what_is_gathered_at_a_time_are_large_modules_of_a_class_that_occurs_more_than_once():
    model = Deep()

    assert list(blocks(model)) == [*model.stages[0], model.stages[1][0]]
    assert list(blocks(Part())) == []


def test_a_way_of_training_that_is_none_is_refused():
    with pytest.raises(
        ValueError, match="parallelism must be 'ddp', 'fsdp' or a function of the model, got 'dp'; None"
    ):
        Trainer(nn.Linear(2, 2), parallelism="dp")


def test_what_keeps_rank_0_from_saving_is_raised_on_all_ranks():
    first, second = (told["not_saved"] for told in ranks.run("together", 2, "not_saved"))

    assert first == second
    assert "save_folder must take a checkpoint of" in first[0]
    assert first[1] == [0, 1]
