"""What is handed in wrong is refused by name, with the remedy; batches of every kind are taken."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cutmix.algorithms import CutMix, MixUp
from cutmix.core import Callback
from cutmix.trainer import Trainer
from cutmix.trainer.runtime import device_for

IMAGES, LABELS = torch.rand(4, 3, 6, 5), torch.arange(4) % 2
BATCHES = [(IMAGES, LABELS)]


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(90, 2))


def trainer(batches=BATCHES, model=None, **settings):
    return Trainer(
        network() if model is None else model, batches, **{"device": "cpu", "progress_bar": False, **settings}
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_duration": "3 weeks"}, r"max_duration must be at least one .* got '3 weeks'; write '3ep'"),
        ({"max_duration": 0}, r"max_duration .* got 0"),
        ({"eval_interval": "often"}, r"eval_interval must be .* got 'often'"),
        ({"eval_interval": -1}, r"eval_interval must be .* got -1"),
        ({"precision": "fp8"}, r"precision must be one of fp32, amp_bf16, amp_fp16, got 'fp8'"),
        ({"device": "tpu"}, r"device must be 'cpu', 'gpu', 'mps' or a torch.device, got 'tpu'"),
        ({"device_train_microbatch_size": 0}, r"device_train_microbatch_size must be at least 1, got 0; None"),
        ({"device_train_microbatch_size": "8"}, r"device_train_microbatch_size must be at least 1, got '8'"),
        ({"train_subset_num_batches": 0}, r"train_subset_num_batches must be at least 1, got 0"),
        ({"eval_subset_num_batches": -3}, r"eval_subset_num_batches must be at least 1, got -3"),
        ({"seed": 1.5}, r"seed must be a whole number, got 1.5; None takes"),
        ({"algorithms": CutMix}, r"algorithms must be of type Algorithm, got <class .*; pass one or a list"),
        ({"callbacks": print}, r"callbacks must be of type Callback, got <built-in"),
        ({"save_folder": "s3://bucket/run"}, r"save_folder must be a folder of this machine, .* got 's3://bucket/run'"),
        ({"save_folder": "runs/{run_name}"}, r"save_folder must be a folder of this machine, .* got 'runs/{run_name}'"),
        ({"compile": "max-autotune"}, r"compile must be True, False or a dict .* got 'max-autotune'"),
        ({"loggers": ["wandb"]}, r"loggers must be of type Logger, got 'wandb'"),
        ({"optimizers": "sgd"}, r"optimizers must be of type Optimizer, got 'sgd'"),
        ({"model": network}, r"model must be an nn.Module, got a function; pass an instance"),
        (
            {"batches": torch.utils.data.TensorDataset(IMAGES)},
            r"train_dataloader must give batches, got a TensorDataset",
        ),
    ],
)
def test_a_wrong_argument_is_refused_by_name_with_the_remedy(settings, said):
    with pytest.raises((ValueError, TypeError), match=said):
        trainer(**settings)


class Logits(NamedTuple):
    logits: torch.Tensor


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, images):
        return Logits(self.inner(images))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batches": []}, r"train_dataloader must give at least one batch an epoch, got none in epoch 1"),
        ({"batches": iter(BATCHES), "max_duration": 2}, r"got none in epoch 2; .* pass a function that makes one"),
        ({"batches": [(IMAGES[:0], LABELS[:0])]}, r"batches of at least one sample, got an empty one"),
        (
            {"batches": [{"image": IMAGES, "label": LABELS}]},
            r"input_key .* is 0, .* a dict of 'image', 'label', does not",
        ),
        ({"batches": [("cat", 1)]}, r"a batch must hold a tensor with an axis of samples"),
        (
            {"model": Packed()},
            r"model must return a tensor for the default loss, got a Logits; pass a loss .* loss_fn=",
        ),
        ({"model": Packed(), "algorithms": CutMix()}, r"model must return a tensor for the default loss, got a Logits"),
        (
            {"loss_fn": nn.CrossEntropyLoss(reduction="none")},
            r"loss_fn must return a tensor of one number, got .*\[4\]",
        ),
        ({"loss_fn": lambda outputs, target: 1.0}, r"loss_fn must return a tensor of one number, got float"),
        ({"algorithms": [CutMix(), MixUp()]}, r"algorithms must hold one mixing algorithm at most"),
        ({"batches": None}, r"train_dataloader must be given to fit, got None"),
        ({"eval_dataloader": []}, r"eval_dataloader must give at least one batch, got none"),
    ],
)
def test_what_goes_wrong_in_training_is_named_with_the_remedy(settings, said):
    with pytest.raises((ValueError, TypeError), match=said):
        trainer(**settings).fit()


def test_a_model_that_holds_its_loss_as_a_module_is_taken():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.loss = network(), nn.CrossEntropyLoss()

        def forward(self, images):
            return self.inner(images)

    trainer(model=WithLoss()).fit()


def test_training_for_nothing_is_refused():
    fitted = trainer()
    fitted.fit()

    with pytest.raises(ValueError, match=r"max_duration must lie ahead, got 1ep, which is reached; train on with fit"):
        fitted.fit()


def test_a_closed_trainer_neither_trains_nor_evaluates():
    class Count(Callback):
        closed = 0

        def close(self):
            self.closed += 1

    count = Count()
    with trainer(callbacks=count, eval_dataloader=BATCHES) as closed:
        closed.close()

    for method in (closed.fit, closed.eval):
        with pytest.raises(ValueError, match=r"(fit|eval) must come before close, got a Trainer that is closed; close"):
            method()
    assert count.closed == 1


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def test_an_optimizer_that_trains_nothing_here_is_refused():
    with pytest.raises(ValueError, match=r"optimizers must hold parameters of the model, got a SGD .* none of them"):
        trainer(optimizers=sgd(network()))


def test_an_optimizer_of_the_loss_s_own_parameters_is_taken():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, outputs, target):
            return F.cross_entropy(self.scale * outputs, target)

    model, loss_fn = network(), Scaled()
    trainer(model=model, loss_fn=loss_fn, optimizers=[sgd(model), sgd(loss_fn)]).fit()

    assert loss_fn.scale != 1.0


@pytest.mark.parametrize("given", [True, False])
def test_a_scheduler_of_an_optimizer_that_is_not_handed_in_is_refused(given):
    model = network()
    schedule = torch.optim.lr_scheduler.StepLR(sgd(model), 1)

    with pytest.raises(ValueError, match=r"schedulers must be of optimizers .* got a StepLR of another; .*optimizers="):
        trainer(model=model, optimizers=sgd(model) if given else None, schedulers=schedule)


def test_a_scheduler_that_waits_for_a_metric_is_refused_with_a_remedy_that_works():
    model = network()
    optimizer = sgd(model)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)
    with pytest.raises(TypeError, match=r"without a metric, got a ReduceLROnPlateau; .* eval_end"):
        trainer(model=model, optimizers=optimizer, schedulers=plateau)

    class Step(Callback):
        def eval_end(self, state, logger):
            plateau.step(state.eval_metrics["eval/loss"])

    trainer(model=model, optimizers=optimizer, callbacks=Step(), eval_dataloader=BATCHES, max_duration=2).fit()

    assert optimizer.param_groups[0]["lr"] < 0.1


def test_evaluation_without_data_is_refused():
    with pytest.raises(ValueError, match="eval_dataloader must be given to evaluate, got None"):
        trainer().eval()


def test_an_accelerator_that_is_not_there_is_said_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    for asked in ("gpu", "mps", torch.device("cuda")):
        with pytest.raises(ValueError, match=r"device must be there, got .*; use device='cpu'"):
            device_for(asked)
    assert device_for(None) == torch.device("cpu")


class Pair(NamedTuple):
    image: torch.Tensor
    label: torch.Tensor


@dataclass
class Record:
    image: torch.Tensor
    label: torch.Tensor


@pytest.mark.parametrize("microbatch", [None, 3])
@pytest.mark.parametrize(
    ("batch", "keys"),
    [
        ((IMAGES, LABELS), (0, 1)),
        ([IMAGES, LABELS], (0, -1)),
        ({"image": IMAGES, "label": LABELS}, ("image", "label")),
        (Pair(IMAGES, LABELS), ("image", "label")),
        (Record(IMAGES, LABELS), ("image", "label")),
        ({"x": (IMAGES,), "y": LABELS}, ((lambda b: b["x"][0], lambda b, v: {**b, "x": (v,)}), "y")),
    ],
    ids=["tuple", "list", "dict", "named tuple", "dataclass", "getter-setter pair"],
)
def test_batches_of_every_kind_are_trained_and_measured_alike(batch, keys, microbatch):
    def figures(batch, keys):
        settings = {"input_key": keys[0], "target_key": keys[1], "device_train_microbatch_size": microbatch}
        model = network()
        nn.init.constant_(model[1].weight, 0.1)
        nn.init.zeros_(model[1].bias)
        fitted = trainer([batch], model, algorithms=CutMix(), eval_dataloader=[batch], seed=1, **settings)
        fitted.fit()
        return fitted.state.eval_metrics

    assert figures(batch, keys) == figures((IMAGES, LABELS), (0, 1))


def test_a_loss_that_reads_the_outputs_is_taken():
    trainer(model=Packed(), loss_fn=lambda outputs, target: F.cross_entropy(outputs.logits, target)).fit()
