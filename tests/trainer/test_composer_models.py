"""Models with Composer's interface train as they are: the loss is called for own and partner, weighted by what is kept."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

import launched
from cutmix.algorithms import CutMix, LabelSmoothing, MixUp, OneOf
from cutmix.core import Callback
from cutmix.integrations.torchmetrics import MixedAccuracy
from cutmix.losses import mixed
from cutmix.targets import MixedTarget
from cutmix.trainer import Trainer
from cutmix.trainer.composer.models import is_composers

IMAGES, LABELS = torch.rand(8, 3, 6, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
BATCHES = [(IMAGES, LABELS), (IMAGES.flip(0), LABELS.flip(0))]


class Classifier(nn.Module):
    """The interface of composer.models.ComposerModel, as it is documented, around a network."""

    loss_fn = staticmethod(F.cross_entropy)

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.module = nn.Sequential(nn.Flatten(), nn.Linear(90, 3))
        self.train_metrics = MulticlassAccuracy(num_classes=3, average="micro")
        self.val_metrics = MulticlassAccuracy(num_classes=3, average="micro")
        self.seen = []

    def forward(self, batch):
        inputs, targets = batch
        self.seen.append(targets)
        return self.module(inputs)

    def loss(self, outputs, batch, *args, **kwargs):
        _, targets = batch
        self.seen.append(targets)
        return self.loss_fn(outputs, targets)

    def eval_forward(self, batch, outputs=None):
        _, targets = batch
        self.seen.append(targets)
        return outputs if outputs is not None else self.forward(batch)

    def update_metric(self, batch, outputs, metric):
        _, targets = batch
        self.seen.append(targets)
        metric.update(outputs, targets)

    def get_metrics(self, is_train):
        return {"MulticlassAccuracy": self.train_metrics if is_train else self.val_metrics}


class Figures(Callback):
    def __init__(self):
        self.steps = []

    def batch_end(self, state, logger):
        self.steps.append({name: float(value) for name, value in state.train_metrics.items()})


def trained(model, batches=BATCHES, **settings):
    """Train for two epochs, and return the trainer and the figures of each step."""
    figures = Figures()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"max_duration": "2ep", "seed": 3, "device": "cpu", "progress_bar": False} | settings
    trainer = Trainer(model, batches, optimizers=optimizer, callbacks=figures, **settings)
    trainer.fit()
    return trainer, figures.steps


@pytest.mark.parametrize("algorithms", [None, CutMix(), MixUp(), CutMix(p=0.5), OneOf([CutMix(), MixUp()])], ids=str)
@pytest.mark.parametrize("microbatch", [None, 3])
def test_a_composer_model_trains_as_its_network_does_with_the_loss_of_both_labels(algorithms, microbatch):
    composed, plain = Classifier(), Classifier().module
    settings = {"algorithms": algorithms, "device_train_microbatch_size": microbatch}
    _, by_composed = trained(composed, **settings)
    _, by_plain = trained(plain, **settings)

    assert by_composed[0].keys() == by_plain[0].keys()
    for ours, expected in zip(by_composed, by_plain, strict=True):
        assert ours == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(composed.module.state_dict(), plain.state_dict())
    assert all(isinstance(target, torch.Tensor) for target in composed.seen)


def test_the_loss_is_weighted_by_what_is_kept():
    class Watch(Callback):
        def after_loss(self, state, logger):
            target = state.batch_get_item(1)
            own, partner = (F.cross_entropy(state.outputs, labels) for labels in target[:2])
            share = float(target.kept[0])
            expected.append(share * own + (1 - share) * partner)
            losses.append(state.loss)

    expected, losses = [], []
    model = Classifier()
    Trainer(model, BATCHES, algorithms=MixUp(mixing=0.3), callbacks=Watch(), device="cpu", progress_bar=False).fit()

    torch.testing.assert_close(losses, expected)
    assert len(model.seen) == 2 * 3


def test_a_dict_of_a_batch_and_a_key_with_a_setter_that_writes_are_left_as_they_were():
    class Keyed(Classifier):
        def forward(self, batch):
            return super().forward((batch.x, batch.y))

        def loss(self, outputs, batch):
            return super().loss(outputs, (batch.x, batch.y))

    def put(batch, value):
        batch.y = value
        return batch

    class Watch(Callback):
        def batch_end(self, state, logger):
            targets.append(state.batch.y)

    targets = []
    keys = {"input_key": (lambda batch: batch.x, lambda batch, x: SimpleNamespace(x=x, y=batch.y))}
    keys["target_key"] = (lambda batch: batch.y, put)
    model = Keyed()
    batches = [SimpleNamespace(x=IMAGES, y=LABELS)]
    settings = {"max_duration": "1ep", "device": "cpu", "progress_bar": False}
    Trainer(model, batches, algorithms=CutMix(), callbacks=Watch(), **keys, **settings).fit()

    assert isinstance(targets[0], MixedTarget)
    assert [type(target) for target in model.seen] == [torch.Tensor] * 3


def test_plans_of_their_own_for_the_samples_are_refused_with_the_reason():
    with pytest.raises(
        ValueError, match=r"per_sample must be False with a Composer model.*one number for the batch.*mod"
    ):
        trained(Classifier(), algorithms=CutMix(per_sample=True))


def test_labels_are_smoothed_where_the_models_loss_takes_rows():
    composed, plain = Classifier(), Classifier().module
    settings = {"algorithms": [CutMix(), LabelSmoothing(0.2)]}
    trained(composed, **settings)
    trained(plain, **settings)

    torch.testing.assert_close(composed.module.state_dict(), plain.state_dict())


def test_a_loss_of_class_indices_only_is_not_smoothed_and_says_why():
    class Likelihood(Classifier):
        loss_fn = staticmethod(F.nll_loss)

    with pytest.raises(RuntimeError) as error:
        trained(Likelihood(), algorithms=LabelSmoothing(0.2))

    assert "LabelSmoothing hands the loss rows" in error.value.__notes__[0]


def test_the_models_metrics_are_measured_in_evaluation_and_on_unmixed_batches_in_training(tmp_path):
    model = Classifier()
    trainer, _ = trained(model, eval_dataloader=BATCHES, save_folder=tmp_path)
    measured = trainer.eval()
    lines = (tmp_path / "metrics.jsonl").read_text()

    assert measured["eval/MulticlassAccuracy"] == pytest.approx(measured["eval/accuracy"])
    assert measured["eval/loss"] == pytest.approx(F.cross_entropy(model.module(IMAGES), LABELS).item())
    assert lines.count('"train/MulticlassAccuracy"') == 2
    trainer, _ = trained(Classifier(), algorithms=CutMix(), eval_dataloader=BATCHES, save_folder=tmp_path / "mixed")
    lines = (tmp_path / "mixed" / "metrics.jsonl").read_text()
    assert "train/MulticlassAccuracy" not in lines
    assert lines.count('"eval/MulticlassAccuracy"') == 2


def test_the_users_metrics_stand_beside_the_models(tmp_path):
    model, metrics = Classifier(), {"mixed": MixedAccuracy()}
    trainer, steps = trained(
        model, BATCHES[:1], algorithms=CutMix(), metrics=metrics, eval_dataloader=BATCHES, save_folder=tmp_path
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    assert [line["train/mixed"] for line in lines if "train/mixed" in line] == pytest.approx(
        [step["train/mixed_accuracy"] for step in steps]
    )
    assert all(isinstance(target, torch.Tensor) for target in model.seen)
    assert {"eval/mixed", "eval/MulticlassAccuracy"} <= trainer.eval().keys()


def test_what_evaluation_measures_is_what_eval_forward_makes_of_the_outputs():
    class Flipped(Classifier):
        def eval_forward(self, batch, outputs=None):
            return -super().eval_forward(batch, outputs)

    trainer, _ = trained(Flipped(), eval_dataloader=BATCHES, max_duration="20ep")
    measured = trainer.eval()

    assert measured["eval/accuracy"] > 0.6
    assert measured["eval/MulticlassAccuracy"] < 0.4


class Bare(nn.Module):
    """No more than forward and loss."""

    def __init__(self, make):
        super().__init__()
        self.module, self.make = Classifier().module, make

    def forward(self, batch):
        return self.module(batch[0])

    def loss(self, outputs, batch):
        return self.make(F.cross_entropy(outputs, batch[1], reduction="none"))


@pytest.mark.parametrize(
    "make",
    [
        lambda losses: losses.mean(),
        lambda losses: losses,
        lambda losses: (losses.mean() / 2, losses / 2),
        lambda losses: {"a": losses.mean() / 4, "b": 3 * losses.mean() / 4},
        lambda losses: {"a": losses.detach(), "total": losses.mean()},
    ],
    ids=["number", "samples", "several", "named", "total"],
)
def test_losses_are_added_up_as_composer_does(make):
    bare, plain = Bare(make), Classifier().module
    trained(bare, algorithms=CutMix())
    trained(plain, algorithms=CutMix())

    torch.testing.assert_close(bare.module.state_dict(), plain.state_dict())


def test_what_the_models_loss_raises_is_its_own_affair():
    class Broken(Classifier):
        def loss(self, outputs, batch):
            self.seen.append(batch)
            return self.criterion(outputs, batch)

    model = Broken()
    with pytest.raises(AttributeError, match="criterion") as error:
        trained(model, algorithms=CutMix())

    assert len(model.seen) == 2
    assert not hasattr(error.value, "__notes__")


def test_a_loss_that_takes_mixed_targets_already_stays_as_it_is():
    of_indices = mixed(nn.MultiMarginLoss(), interpolate=True)
    settings = {"device": "cpu", "progress_bar": False}
    trainer = Trainer(Classifier().module, BATCHES, algorithms=CutMix(), loss_fn=of_indices, **settings)
    trainer.fit()

    assert trainer.state.loss_fn is of_indices


def test_a_loss_beside_the_models_own_is_refused():
    with pytest.raises(
        ValueError, match=r"loss_fn must be left out with a Composer model.*beside Classifier\.loss; or"
    ):
        Trainer(Classifier(), BATCHES, loss_fn=nn.CrossEntropyLoss(), device="cpu")


def test_on_two_ranks_a_composer_model_trains_as_its_network_does():
    said = launched.said(Path(__file__).with_name("ranks_of_composers_model.py"), 2)

    assert all(text.endswith("the same\n") for text in said)


def test_composers_own_classifier_trains():
    models = pytest.importorskip("composer.models", reason="Composer cannot be imported here")
    model = models.ComposerClassifier(Classifier().module, num_classes=3)
    trainer, _ = trained(model, algorithms=CutMix(), eval_dataloader=BATCHES)

    assert "eval/MulticlassAccuracy" in trainer.eval()


def test_a_model_with_metrics_of_its_own_may_call_its_batch_as_it_likes():
    class Other(nn.Module):
        def loss(self, outputs, targets): ...

        def update_metric(self, targets, outputs, metric): ...

    class Plain(nn.Module):
        def loss(self, outputs, targets): ...

    assert is_composers(Other())
    assert not is_composers(Plain())
