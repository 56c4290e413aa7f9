"""Label smoothing composes with mixing in either order, and only the loss sees it."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from cutmix import LabelSmoothing, MixedTarget, mix
from cutmix.algorithms import CutMix
from cutmix.core import Callback
from cutmix.functional import smooth_labels
from cutmix.losses import cross_entropy, mixed
from cutmix.trainer import Trainer
from strategies import numbered, plans, seeds

CLASSES = 4
smoothings = st.sampled_from([0.0, 0.1, 1.0])


def drawn(plan, seed, rows):
    """Logits, and plain labels, ids or rows."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(plan.batch, CLASSES, generator=generator, dtype=torch.float64)
    ids = torch.randint(CLASSES, (plan.batch,), generator=generator)
    return logits, logits.softmax(1) if rows else ids


@given(plans(st.floats(0, 1)), seeds, smoothings, st.booleans())
def test_smoothed_mixed_labels_are_mixed_smoothed_labels(plan, seed, smoothing, rows):
    logits, labels = drawn(plan, seed, rows)
    images = numbered(plan.batch, 1, *plan.size)

    mixed_first = smooth_labels(logits, mix(images, labels, plan, kinds="label")[1], smoothing)
    smoothed = smooth_labels(logits, labels, smoothing)
    smoothed_first = mix(images, smoothed, plan, kinds="label")[1].dense()
    torch.testing.assert_close(mixed_first, smoothed_first, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mixed_first.sum(1), torch.ones(plan.batch).double())


@given(plans(st.floats(0, 1)), seeds, smoothings)
def test_cross_entropy_smooths_mixed_ids_as_on_smoothed_rows(plan, seed, smoothing):
    logits, ids = drawn(plan, seed, rows=False)
    _, target = mix(numbered(plan.batch, 1, *plan.size), ids, plan)

    on_ids = F.cross_entropy(logits, target, label_smoothing=smoothing)
    torch.testing.assert_close(on_ids, F.cross_entropy(logits, smooth_labels(logits, target, smoothing)))


def test_rows_are_smoothed_as_composer_does():
    rows = smooth_labels(torch.zeros(2, 4), torch.tensor([0, 3]), 0.2)

    torch.testing.assert_close(rows, torch.tensor([[0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85]]))
    assert torch.equal(rows, LabelSmoothing(0.2)(torch.zeros(2, 4), torch.tensor([0, 3])))


def test_labels_of_pixels_are_smoothed_with_classes_on_the_second_axis():
    logits, ids = torch.zeros(2, 3, 4, 5), torch.randint(3, (2, 4, 5))

    rows = smooth_labels(logits, ids)
    assert rows.shape == logits.shape
    assert torch.equal(rows.argmax(1), ids)


@pytest.mark.parametrize(("dtype", "expected"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_rows_of_ids_are_as_wide_as_the_logits_and_float32_at_least(dtype, expected):
    assert smooth_labels(torch.zeros(2, 3, dtype=dtype), torch.tensor([0, 1])).dtype == expected


@pytest.mark.parametrize(
    ("target", "smoothing", "error", "words"),
    [
        (torch.tensor([0, 1]), 1.5, ValueError, r"smoothing must lie in \[0, 1\], got 1\.5"),
        (torch.tensor([0, 1]), "much", TypeError, r"smoothing must be a number, got 'much'"),
        (torch.tensor([0, 4]), 0.1, ValueError, r"labels must be class ids in \[0, 4\).* got 4"),
        (torch.tensor([0.0, 1.0]), 0.1, ValueError, r"ids need \.long\(\)"),
        (
            torch.tensor([0, 1, 2]),
            0.1,
            ValueError,
            r"target must be class ids \(batch, \.\.\.\) or rows like the logits",
        ),
        (torch.rand(2, 5), 0.1, ValueError, r"got torch\.float32 of shape \(2, 5\)"),
    ],
)
def test_labels_that_cannot_be_smoothed_are_refused(target, smoothing, error, words):
    with pytest.raises(error, match=words):
        smooth_labels(torch.zeros(2, 4), target, smoothing)


def data(batch=4):
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(8, 3, 6, 4, generator=generator), torch.arange(8) % CLASSES
    return DataLoader(TensorDataset(images, labels), batch_size=batch)


class Watch(Callback):
    """Takes down what comes by."""

    def __init__(self):
        self.targets, self.losses, self.loss_fns = [], [], []

    def after_loss(self, state, logger):
        self.targets.append(state.batch[1])
        self.losses.append(state.loss.item())
        self.loss_fns.append(state.loss_fn)


def fitted(*algorithms, loss_fn=F.cross_entropy, **settings):
    torch.manual_seed(0)
    model, watch = nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES)), Watch()
    settings = {"device": "cpu", "progress_bar": False, "seed": 0, "max_duration": 2, **settings}
    trainer = Trainer(
        model, data(), data(), algorithms=algorithms, loss_fn=loss_fn, callbacks=watch,
        optimizers=torch.optim.SGD(model.parameters(), 0.1), **settings,
    )  # fmt: skip
    trainer.fit()
    return trainer, watch


def weights(trainer):
    return trainer.state.model[1].weight


def bce_on_rows(outputs, target):
    rows = target if target.is_floating_point() else F.one_hot(target, CLASSES).float()
    return F.binary_cross_entropy_with_logits(outputs, rows)


@pytest.mark.parametrize(
    "loss_fn", [F.cross_entropy, nn.CrossEntropyLoss(torch.rand(CLASSES)), cross_entropy, bce_on_rows]
)
def test_the_order_of_algorithms_does_not_matter(loss_fn):
    one, _ = fitted(LabelSmoothing(0.2), CutMix(), loss_fn=loss_fn)
    other, _ = fitted(CutMix(), LabelSmoothing(0.2), loss_fn=loss_fn)

    assert torch.equal(weights(one), weights(other))


@pytest.mark.parametrize("algorithms", [(), (CutMix(),), (CutMix(per_sample=True),)])
@pytest.mark.parametrize("microbatch", [None, 3])
def test_it_trains_as_a_loss_that_smooths_by_itself(algorithms, microbatch):
    by_algorithm, _ = fitted(*algorithms, LabelSmoothing(0.2), device_train_microbatch_size=microbatch)
    by_loss, _ = fitted(
        *algorithms, loss_fn=partial(F.cross_entropy, label_smoothing=0.2), device_train_microbatch_size=microbatch
    )

    assert torch.equal(weights(by_algorithm), weights(by_loss))


def test_a_loss_on_rows_gets_smoothed_rows():
    by_algorithm, _ = fitted(CutMix(), LabelSmoothing(0.2), loss_fn=bce_on_rows)
    by_hand, _ = fitted(CutMix(), loss_fn=lambda outputs, target: bce_on_rows(outputs, smooth_labels(outputs, target, 0.2)
                                                                          if torch.is_grad_enabled() else target))  # fmt: skip

    torch.testing.assert_close(weights(by_algorithm), weights(by_hand))


def test_the_batch_keeps_its_labels_and_evaluation_is_not_smoothed():
    trainer, watch = fitted(CutMix(), LabelSmoothing(1.0))
    expected = trainer.eval()

    assert all(isinstance(target, MixedTarget) and not target.own.is_floating_point() for target in watch.targets)
    assert all(loss >= torch.tensor(CLASSES).log().item() for loss in watch.losses)
    assert "train/mixed_accuracy" in trainer.state.train_metrics
    assert all(loss_fn == mixed(F.cross_entropy) for loss_fn in watch.loss_fns)
    logits = torch.cat([trainer.state.model(images) for images, _ in data()])
    labels = torch.cat([labels for _, labels in data()])
    assert expected["eval/loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)


def test_after_a_loss_that_failed_evaluation_is_not_smoothed_either():
    failing = [True]

    def loss_fn(outputs, target):
        if failing:
            raise RuntimeError("no loss")
        return bce_on_rows(outputs, target)

    model = nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES))
    trainer = Trainer(model, data(), data(), algorithms=LabelSmoothing(1.0), loss_fn=loss_fn, progress_bar=False)
    with pytest.raises(RuntimeError, match="no loss"):
        trainer.fit()
    failing.clear()

    trainer.eval()
    assert trainer.state.loss_fn is loss_fn


@pytest.mark.parametrize("algorithms", [(CutMix(), LabelSmoothing(0.5)), (LabelSmoothing(0.5), CutMix())])
def test_after_a_loss_that_failed_the_next_fit_smooths_once(algorithms):
    failing, seen = [True], []

    def loss_fn(outputs, rows):
        if failing:
            raise RuntimeError("no loss")
        if torch.is_grad_enabled():
            seen.append(rows.min().item())
        return bce_on_rows(outputs, rows)

    model = nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES))
    trainer = Trainer(model, data(), algorithms=algorithms, loss_fn=loss_fn, progress_bar=False)
    with pytest.raises(RuntimeError, match="no loss"):
        trainer.fit()
    failing.clear()
    trainer.fit()

    assert seen == pytest.approx([0.5 / CLASSES] * 2)


@pytest.mark.parametrize(
    ("algorithms", "loss_fn", "words"),
    [
        ((LabelSmoothing(), LabelSmoothing()), F.cross_entropy, r"algorithms must hold one LabelSmoothing at most"),
        ((LabelSmoothing(),), nn.CrossEntropyLoss(label_smoothing=0.3), r"must not smooth .* got label_smoothing=0\.3"),
        ((LabelSmoothing(),), partial(F.cross_entropy, label_smoothing=0.3), r"must not smooth .* label_smoothing=0\.3"),
        (
            (LabelSmoothing(), CutMix(interpolate_loss=True)),
            lambda outputs, ids: F.multi_margin_loss(outputs, ids),  # noqa: PLW0108 - not torch's own
            r"interpolate_loss must be False with LabelSmoothing",
        ),
    ],
)  # fmt: skip
def test_what_would_smooth_twice_or_not_at_all_is_refused(algorithms, loss_fn, words):
    with pytest.raises(ValueError, match=words):
        fitted(*algorithms, loss_fn=loss_fn)


def test_several_heads_are_smoothed_each_by_its_outputs():
    from cutmix.algorithms.labelsmoothing import Smoothed

    outputs = {"cat": torch.randn(3, 4), "dog": torch.randn(3, 6)}
    target = {"cat": torch.tensor([0, 1, 2]), "dog": MixedTarget(*torch.randint(6, (2, 3)), torch.rand(3).double())}

    def loss_fn(outputs, target):
        return sum(F.cross_entropy(outputs[head], target[head]) for head in outputs)

    smoothed = {head: smooth_labels(outputs[head], target[head], 0.3) for head in outputs}
    assert torch.equal(Smoothed(loss_fn, LabelSmoothing(0.3))(outputs, target), loss_fn(outputs, smoothed))
