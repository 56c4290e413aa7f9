"""A run on a GPU waits for it as seldom as is said, ends as it must, and goes on to the same bytes."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import launched
from cutmix.algorithms import CutMix, LabelSmoothing, MixUp, OneOf
from cutmix.core import Callback
from cutmix.trainer import EMA, CosineWithWarmup, SkipNonFinite, Trainer
from cutmix.trainer.callbacks.finite import NonFiniteLossError
from cutmix.trainer.checkpoints.checkpoint import read
from faults import Stop
from gpus import allow_waiting, needs_gpu, refuse_waiting

pytestmark = needs_gpu

BAD = 13  # the sample that may be spoilt
STEPS = 6  # in an epoch


def loader(value=0.0, **settings):
    images = torch.randn(24, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    images[BAD, 0, 0, 0] = value
    return DataLoader(TensorDataset(images, torch.arange(24) % 3), batch_size=4, shuffle=True, **settings)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(192, 3)
    )


def trainer(train=None, duration="2ep", **settings):
    settings = {"algorithms": CutMix(), "device": "gpu", "progress_bar": False, "seed": 3, **settings}
    return Trainer(network(), train or loader(), loader(), duration, **settings)


class NoWaiting(Callback):
    """Lets each call fail that waits, from the end of the second step to that of the last but one of the first epoch."""

    def __init__(self):
        self.steps = 0

    def batch_end(self, state, logger):
        if state.timestamp.batch == 2:
            refuse_waiting()
        elif state.timestamp.batch == STEPS - 1:
            allow_waiting()
        self.steps += torch.cuda.get_sync_debug_mode() != 0


@pytest.fixture(autouse=True)
def _waiting_is_allowed_again():
    yield
    allow_waiting()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"algorithms": CutMix(per_sample=True)},
        {"algorithms": [OneOf([CutMix(), MixUp()]), LabelSmoothing(0.1)]},
        {"precision": "amp_bf16"},
        {"device_train_microbatch_size": 2},
        {"gradient_clip_norm": 1.0},
        {"schedulers": CosineWithWarmup()},
        {"callbacks": EMA(half_life="3ba")},
        {"train": loader(num_workers=1, pin_memory=True)},
    ],
    ids=lambda settings: ", ".join(settings) or "as it is",
)
def test_no_step_waits(settings, tmp_path):
    watch = NoWaiting()
    also = {name: value for name, value in settings.items() if name != "callbacks"}
    run = trainer(**also, callbacks=[watch, *filter(None, [settings.get("callbacks")])], save_folder=tmp_path)
    run.fit()

    assert watch.steps == STEPS - 3
    assert all(parameter.is_cuda for parameter in run.state.model.parameters())


def test_what_waits_is_seen():
    class Asks(Callback):
        def batch_start(self, state, logger):
            state.batch[0].sum().item()

    with pytest.raises(RuntimeError, match="synchroniz"):
        trainer(callbacks=[NoWaiting(), Asks()]).fit()


def test_the_gpu_is_taken_where_nothing_is_asked_for():
    assert trainer(device=None).state.device == torch.device("cuda", 0)


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16", "amp_fp16"])
def test_every_precision_learns(precision):
    run = trainer(duration="20ep", precision=precision, algorithms=())
    run.fit()

    assert run.state.eval_metrics["eval/accuracy"] > 0.7


def weights(run):
    return {name: value.detach().cpu() for name, value in run.state.model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16", "amp_fp16"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(precision, tmp_path):
    def run(folder, *callbacks):
        made = trainer(
            precision=precision,
            deterministic_mode=True,
            callbacks=callbacks,
            save_folder=folder,
            save_interval="1ba",
            autoresume=True,
        )
        try:
            made.fit()
        finally:
            made.close()
        return made

    whole = run(tmp_path / "whole")
    for stop in (2, 5, STEPS, 9):
        with pytest.raises(ConnectionAbortedError):
            run(tmp_path / "parts", Stop(stop))
    parts = run(tmp_path / "parts")

    assert same(weights(parts), weights(whole))
    logs = [(tmp_path / folder / "metrics.jsonl").read_bytes() for folder in ("whole", "parts")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(("before", "after"), [("gpu", "cpu"), ("cpu", "gpu")])
def test_a_run_goes_on_on_another_device(before, after, tmp_path):
    first = trainer(duration="3ba", device=before, save_folder=tmp_path, save_interval="3ba")
    first.fit()
    first.close()
    saved = weights(first)

    class Loaded(Callback):
        def fit_start(self, state, logger):
            self.weights = {name: value.detach().cpu().clone() for name, value in state.model.state_dict().items()}

    loaded = Loaded()
    again = trainer(duration="2ep", device=after, save_folder=tmp_path, autoresume=True, callbacks=loaded)
    again.fit()
    again.close()

    assert same(loaded.weights, saved)
    assert again.state.timestamp.batch == 2 * STEPS


class Seen(Callback):
    def __init__(self):
        self.samples = []

    def batch_start(self, state, logger):
        self.samples.append(state.samples)


@pytest.mark.parametrize("every", ["1ba", "1ep"])
def test_a_loss_that_is_not_finite_ends_the_run_one_step_late_and_is_not_kept(every, tmp_path):
    seen = Seen()
    run = trainer(loader(math.nan), algorithms=(), callbacks=seen, save_folder=tmp_path, save_interval=every)
    with pytest.raises(
        NonFiniteLossError, match=r"^the loss must stay finite, got nan at step \d+ \(rate 0.001; "
    ) as told:
        run.fit()
    run.close()

    step = told.value.step.number
    assert BAD in seen.samples[step - 1]
    assert step <= len(seen.samples) <= step + 1
    kept = [read(path).tensors["weights"] for path in (tmp_path / "checkpoints").glob("ep*-ba*")]
    assert all(value.isfinite().all() for weights in kept for value in weights.values())
    assert len(kept) == (step - 1 if every == "1ba" else 0)


def test_steps_that_are_not_finite_are_skipped_there_too():
    run = trainer(loader(math.nan), algorithms=(), callbacks=SkipNonFinite(limit=2), eval_interval=None)
    with pytest.warns(UserWarning, match="^skipped a loss or gradient that is not finite"):
        run.fit()

    assert all(value.isfinite().all() for value in run.state.model.state_dict().values())


def test_ddp_and_fsdp_of_one_process_on_nccl_end_with_the_same_bytes():
    (told,) = launched.run(Path(__file__).with_name("ranks_on_a_gpu.py"), 1)

    assert told["ddp"][0] == told["fsdp"][0]
    assert told["ddp"][1] == pytest.approx(told["fsdp"][1])
    assert told["ddp"][2] == "cuda:0"
