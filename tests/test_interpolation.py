"""Any loss, weighted sample by sample before it is reduced."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from cutmix.losses import cross_entropy, mixed
from cutmix.reductions import is_torchs, with_reduction
from cutmix.targets import MixedTarget
from strategies import seeds

CLASSES = 5
reductions = st.sampled_from(["none", "mean", "sum"])


@st.composite
def targets(draw, kind="ids"):
    """A mixed target of class ids or of rows, with one share for the batch or one a sample."""
    batch, generator = draw(st.integers(1, 6)), torch.Generator().manual_seed(draw(seeds))
    kept = torch.rand(batch, generator=generator, dtype=torch.float64)
    kept = draw(st.sampled_from([kept, kept[:1].expand(batch), kept.round()]))
    if kind == "ids":
        return MixedTarget(*torch.randint(CLASSES, (2, batch), generator=generator), kept)
    return MixedTarget(*torch.rand(2, batch, CLASSES, generator=generator, dtype=torch.float64), kept)


def outputs_for(target, *more):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(target.kept), CLASSES, *more, generator=generator, dtype=torch.float64)


def reduced(losses, reduction):
    return losses if reduction == "none" else getattr(losses, reduction)()


def by_hand(loss_fn, outputs, target, reduction):
    """Sample by sample, as it is meant."""
    own, partner = (loss_fn(outputs, labels) for labels in target[:2])
    share = target.kept.view(-1, *[1] * (own.ndim - 1))
    return reduced(share * own + (1 - share) * partner, reduction)


def unlike_itself(outputs, rows):
    """Linear in its target, and no loss of torch's: one value a sample."""
    return -(rows * outputs).sum(1)


@given(targets("rows"), reductions)
def test_interpolated_equals_dense_where_the_loss_is_linear_in_its_target(target, reduction):
    outputs, weight = outputs_for(target), torch.linspace(0.5, 2, CLASSES).double()
    linear = [
        nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=weight),
        nn.MultiLabelSoftMarginLoss(weight, reduction=reduction),
        partial(F.binary_cross_entropy_with_logits, reduction=reduction),
        nn.CrossEntropyLoss(weight, reduction=reduction, label_smoothing=0.1),
    ]

    for loss_fn in linear:
        torch.testing.assert_close(target.interpolate(loss_fn, outputs), loss_fn(outputs, target.dense()))
    interpolated = target.interpolate(unlike_itself, outputs, reduction=reduction)
    torch.testing.assert_close(interpolated, reduced(unlike_itself(outputs, target.dense()), reduction))


MODULES = [nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.PoissonNLLLoss, nn.BCEWithLogitsLoss]


@pytest.mark.parametrize("module", MODULES)
@given(target=targets("rows"), own=reductions, asked=st.none() | reductions)
def test_torchs_losses_are_weighted_before_they_are_reduced_as_they_would_have(module, target, own, asked):
    outputs, loss_fn = outputs_for(target), module(reduction=own)

    expected = by_hand(module(reduction="none"), outputs, target, asked or own)
    torch.testing.assert_close(target.interpolate(loss_fn, outputs, reduction=asked), expected)
    assert loss_fn.reduction == own


@given(targets(), st.none() | reductions)
def test_losses_of_ids_are_weighted_before_the_reduction(target, asked):
    outputs = outputs_for(target)

    for loss_fn in (F.multi_margin_loss, nn.MultiMarginLoss(weight=torch.rand(CLASSES).double())):
        expected = by_hand(with_reduction(loss_fn, "none"), outputs, target, asked or "mean")
        torch.testing.assert_close(target.interpolate(loss_fn, outputs, reduction=asked), expected)


@given(targets("rows"))
def test_the_mean_over_the_batch_of_a_divergence_stays_one(target):
    outputs = outputs_for(target).log_softmax(1)

    interpolated = target.interpolate(nn.KLDivLoss(reduction="batchmean"), outputs)
    expected = by_hand(nn.KLDivLoss(reduction="none"), outputs, target, "sum") / len(target.kept)
    torch.testing.assert_close(interpolated, expected)


@given(targets(), reductions, st.sampled_from([-100, 2]), st.booleans())
def test_cross_entropy_in_every_guise_is_the_mixed_one(target, reduction, ignored, weighted):
    outputs = outputs_for(target)
    weight = torch.linspace(0.5, 2, CLASSES).double() if weighted else None
    settings = {"weight": weight, "ignore_index": ignored}

    expected = F.cross_entropy(outputs, target, reduction=reduction, **settings)
    for loss_fn in (
        nn.CrossEntropyLoss(**settings),
        partial(F.cross_entropy, **settings),
        partial(cross_entropy, **settings),
    ):
        interpolated = target.interpolate(loss_fn, outputs, reduction=reduction)
        torch.testing.assert_close(interpolated, expected, equal_nan=True)
    log_likelihoods = outputs.log_softmax(1)
    for loss_fn in (nn.NLLLoss(**settings), partial(F.nll_loss, **settings)):
        interpolated = target.interpolate(loss_fn, log_likelihoods, reduction=reduction)
        torch.testing.assert_close(interpolated, expected, equal_nan=True)


@given(targets(), st.sampled_from([-100, 2]), st.booleans())
def test_the_mean_of_class_weights_and_ignored_labels_counts_label_by_label(target, ignored, weighted):
    outputs = outputs_for(target)
    weight = torch.linspace(0.5, 2, CLASSES).double() if weighted else torch.ones(CLASSES).double()
    counts = sum(
        share * weight[ids] * (ids != ignored)
        for share, ids in ((target.kept, target.own), (1 - target.kept, target.partner))
    )

    loss_fn = nn.CrossEntropyLoss(weight, ignore_index=ignored)
    expected = by_hand(with_reduction(loss_fn, "none"), outputs, target, "sum") / counts.sum()
    torch.testing.assert_close(target.interpolate(loss_fn, outputs), expected, equal_nan=True)


def test_one_share_for_all_weighs_two_calls_whatever_the_loss_is():
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([0.25]).double().expand(2))
    calls = []

    loss = target.interpolate(lambda outputs, labels: calls.append(labels) or torch.tensor(float(len(calls))), None)
    assert loss == 0.25 * 1 + 0.75 * 2
    assert calls[0] is target.own
    assert calls[1] is target.partner


class Focal(nn.Module):
    """A loss of one's own, with a reduction as torch's have it."""

    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, outputs, ids):
        losses = F.cross_entropy(outputs, ids, reduction="none")
        return reduced((1 - (-losses).exp()) ** 2 * losses, self.reduction)


def test_a_module_of_ones_own_is_reduced_as_it_is_told():
    target = MixedTarget(torch.tensor([0, 1, 2]), torch.tensor([1, 0, 3]), torch.tensor([0.1, 0.5, 0.9]).double())
    outputs = outputs_for(target)

    expected = by_hand(Focal("none"), outputs, target, "mean")
    torch.testing.assert_close(target.interpolate(Focal(), outputs, reduction="mean"), expected)
    torch.testing.assert_close(mixed(Focal(), interpolate=True, reduction="mean")(outputs, target), expected)
    torch.testing.assert_close(target.interpolate(Focal("none"), outputs).mean(), expected)
    with pytest.raises(ValueError, match=r"tell how a module with a reduction of its own reduces, .*reduction='mean'"):
        target.interpolate(Focal(), outputs)


@pytest.mark.parametrize("loss_fn", [lambda outputs, ids: outputs.sum(), lambda outputs, ids: outputs[:1, 0]])
def test_a_loss_without_a_value_a_sample_is_refused(loss_fn):
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([0.5, 0.5]).double())

    with pytest.raises(ValueError, match=r"loss_fn must return one value a sample .* for a batch of 2: pass it with"):
        target.interpolate(loss_fn, torch.randn(2, CLASSES), reduction="mean")


def test_an_unknown_reduction_is_refused():
    target = MixedTarget(torch.rand(2, 1), torch.rand(2, 1), torch.tensor([0.5, 0.5]).double())

    with pytest.raises(ValueError, match=r"reduction must be 'none', 'mean', 'sum' or None, got 'average'"):
        target.interpolate(lambda outputs, rows: outputs - rows, torch.rand(2, 1), reduction="average")


@pytest.mark.parametrize("kept", [(1.0, 0.0), (1.0, 1.0), (0.0, 0.0)])
def test_nothing_of_an_infinite_loss_is_nothing(kept):
    target = MixedTarget(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [0.0]]), torch.tensor(kept).double())
    outputs = torch.tensor([[0.0], [1.0 if kept[1] else 0.0]])

    def infinite_if_wrong(outputs, rows):
        return torch.where(outputs == rows, 0.0, torch.inf).sum(1)

    if kept[0]:
        assert target.interpolate(infinite_if_wrong, outputs, reduction="sum") == 0.0


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_losses_are_weighted_in_float32(half):
    target = MixedTarget(torch.rand(3, 2), torch.rand(3, 2), torch.tensor([0.1, 0.5, 0.9]).double())
    outputs = torch.rand(3, 2)

    loss = target.interpolate(lambda out, rows: F.mse_loss(out, rows, reduction="none").to(half), outputs)
    assert loss.dtype == torch.float32


def test_torchs_losses_are_known_in_all_their_forms():
    assert is_torchs(nn.MSELoss())
    assert is_torchs(partial(partial(F.huber_loss, delta=2.0), reduction="sum"))
    assert not is_torchs(Focal())
    assert not is_torchs(F.softmax)
    assert not is_torchs(lambda outputs, target: outputs)


@given(targets("rows"), st.sampled_from(["mean", "sum"]))
def test_gradients_are_those_of_the_weighted_losses(target, reduction):
    one, other = (outputs_for(target).requires_grad_() for _ in range(2))

    target.interpolate(nn.MSELoss(reduction=reduction), one).backward()
    by_hand(nn.MSELoss(reduction="none"), other, target, reduction).backward()
    torch.testing.assert_close(one.grad, other.grad)
