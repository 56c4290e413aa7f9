"""A run that is stopped anywhere and goes on ends with the same bytes as one that is not."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from cutmix.algorithms import CutMix
from cutmix.algorithms.schedule import linear
from cutmix.core.callback import Callback
from cutmix.core.world import World
from cutmix.trainer import Trainer
from cutmix.trainer.checkpoints.manifest import CheckpointError
from cutmix.trainer.checkpoints.saving import check_same
from faults import Stop

BATCHES = 5
"""In an epoch: four of eight samples and one of five."""


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(4 * 36, 4)
    ).to(memory_format=torch.channels_last)


def samples(count=37):
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(
        torch.randn(count, 3, 6, 6, generator=generator), torch.randint(4, (count,), generator=generator)
    )


def shuffled(workers=0, **settings):
    return DataLoader(samples(), 8, shuffle=True, num_workers=workers, **settings)


def weighted():
    return DataLoader(samples(), 8, sampler=WeightedRandomSampler(torch.arange(1.0, 38.0), 37))


def one_by_one():
    """Batches that are stacked already, drawn one at a time."""
    batches = TensorDataset(
        torch.randn(BATCHES, 8, 3, 6, 6, generator=torch.Generator().manual_seed(1)),
        torch.randint(4, (BATCHES, 8), generator=torch.Generator().manual_seed(2)),
    )
    return DataLoader(batches, batch_size=None, shuffle=True)


def listed():
    return list(DataLoader(samples(), 8))


class StopAtTheEnd(Callback):
    """Ends a run when the last epoch has ended, and before that is saved."""

    def epoch_end(self, state, logger):
        if state.is_over:
            raise ConnectionAbortedError


def run(folder, make=shuffled, stop=None, **settings):
    """Train for two epochs, saving after every batch, or from where the run in the folder was stopped."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    trainer = Trainer(
        model,
        make(),
        DataLoader(samples(11), 4),
        settings.pop("max_duration", "2ep"),
        [CutMix(alpha=linear(1.0, 0.2))],
        optimizers=optimizer,
        schedulers=torch.optim.lr_scheduler.MultiStepLR(optimizer, [1]),
        seed=3,
        device="cpu",
        callbacks=[] if stop is None else [stop if isinstance(stop, Callback) else Stop(stop)],
        progress_bar=False,
        save_folder=folder,
        autoresume=True,
        **{"save_interval": "1ba", "save_num_checkpoints_to_keep": 2, **settings},
    )
    if stop is not None:
        with pytest.raises(ConnectionAbortedError):
            trainer.fit()
    else:
        trainer.fit()
    trainer.close()
    return trainer


def digest(trainer, folder):
    """What a run comes to: weights, buffers, optimizer and the log."""
    sha = hashlib.sha256((folder / "metrics.jsonl").read_bytes())
    for name, tensor in trainer.state.model.state_dict().items():
        sha.update(name.encode() + tensor.contiguous().numpy().tobytes())
    for optimizer in trainer.state.optimizers:
        for key, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                sha.update(f"{key}{name}".encode() + np.asarray(value).tobytes())
        sha.update(repr(optimizer.param_groups[0]["lr"]).encode())
    return sha.hexdigest()


def stopped_and_resumed(folder, *stops, make=shuffled, **settings):
    for stop in stops:
        run(folder, make, stop, **settings)
    return digest(run(folder, make, **settings), folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return digest(run(folder), folder)


@pytest.mark.parametrize("stop", [1, 3, BATCHES - 1, BATCHES, BATCHES + 1, 2 * BATCHES - 1])
def test_it_ends_with_the_same_bytes_wherever_it_was_stopped(stop, uninterrupted, tmp_path):
    assert stopped_and_resumed(tmp_path, stop) == uninterrupted


@pytest.mark.parametrize("duration", ["2ep", f"{2 * BATCHES}ba", f"{2 * 37}sp"])
def test_a_run_that_was_stopped_after_its_last_step_has_the_end_of_that_epoch_to_come(
    duration, uninterrupted, tmp_path
):
    schedule = {"max_duration": duration}
    whole = digest(run(tmp_path / "whole", **schedule), tmp_path / "whole")

    assert stopped_and_resumed(tmp_path / "parts", StopAtTheEnd(), **schedule) == whole == uninterrupted


def test_ranks_that_see_other_checkpoints_are_refused():
    class Two(World):
        def gathered(self, value):
            return [value, "none"]

    with pytest.raises(CheckpointError, match="must go on from one checkpoint, got ep1-ba5, none on ranks 0 to 1"):
        check_same("ep1-ba5", Two(size=2))
    check_same("none", Two(size=2))


def test_a_second_and_a_third_resume_change_nothing(uninterrupted, tmp_path):
    assert stopped_and_resumed(tmp_path, 2, 2, 6, 9) == uninterrupted


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(uninterrupted, tmp_path):
    assert stopped_and_resumed(tmp_path, 0) == uninterrupted


def test_a_run_that_is_over_stays_as_it_is(uninterrupted, tmp_path):
    first = run(tmp_path)
    again = run(tmp_path)

    assert digest(again, tmp_path) == digest(first, tmp_path) == uninterrupted


@pytest.mark.parametrize("interval", ["3ba", "16sp", "1ep"])
def test_steps_after_the_last_checkpoint_are_done_again_and_stand_in_the_log_once(interval, uninterrupted, tmp_path):
    assert stopped_and_resumed(tmp_path, 2, 8, save_interval=interval) == uninterrupted


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_the_number_of_workers_may_change(before, after, uninterrupted, tmp_path):
    run(tmp_path, lambda: shuffled(before), stop=3)
    assert digest(run(tmp_path, lambda: shuffled(after)), tmp_path) == uninterrupted


@pytest.mark.parametrize("make", [weighted, one_by_one, listed])
def test_every_kind_of_loader_goes_on_where_it_was(make, tmp_path):
    whole = digest(run(tmp_path / "whole", make), tmp_path / "whole")
    assert stopped_and_resumed(tmp_path / "parts", 1, 5, 7, make=make) == whole


@pytest.mark.parametrize("settings", [{"precision": "amp_bf16"}, {"device_train_microbatch_size": 3}])
def test_precision_and_microbatches_change_nothing_of_that(settings, tmp_path):
    whole = digest(run(tmp_path / "whole", **settings), tmp_path / "whole")
    assert stopped_and_resumed(tmp_path / "parts", 1, 5, 7, **settings) == whole
