import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cutmix.targets import MixedTarget


def of_ids(kept=(0.25, 0.25, 0.25)):
    return MixedTarget(torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0]), torch.tensor(kept, dtype=torch.float64))


def test_dense_rows_weigh_own_and_partner():
    assert of_ids().dense(3, torch.float64).tolist() == [[0.25, 0.75, 0.0], [0.0, 1.0, 0.0], [0.75, 0.0, 0.25]]


def test_dense_rows_of_soft_labels_are_blended_as_they_are():
    target = MixedTarget(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0.5]).double())

    assert target.dense().tolist() == [[0.75, 0.25]]
    assert target.dense(2, torch.float64).dtype == torch.float64


def test_dense_rows_are_float32_unless_asked():
    assert of_ids().dense(3).dtype == torch.float32
    assert of_ids().dense(3, torch.bfloat16).dtype == torch.bfloat16


def test_what_a_regression_aims_for_is_blended_too():
    target = MixedTarget(torch.tensor([1.0, 3.0]), torch.tensor([3.0, 1.0]), torch.tensor([0.25, 0.25]).double())

    assert target.dense().tolist() == [2.5, 1.5]


def test_single_column_rows_keep_their_shape():
    target = MixedTarget(torch.rand(5, 1), torch.rand(5, 1), torch.rand(5, dtype=torch.float64))

    assert target.dense().shape == (5, 1)


def test_class_indices_need_the_number_of_classes():
    with pytest.raises(ValueError, match=r"num_classes must be given for class indices"):
        of_ids().dense()


def test_rows_of_another_length_are_refused():
    target = MixedTarget(torch.zeros(2, 4), torch.zeros(2, 4), torch.ones(2).double())

    with pytest.raises(ValueError, match=r"num_classes must be the length of the rows, \(4,\), got 5"):
        target.dense(5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_an_interpolated_loss_weighs_two_calls(reduction):
    outputs = torch.randn(3, 3, dtype=torch.float64)
    target = of_ids()

    loss = target.interpolate(lambda out, labels: F.cross_entropy(out, labels, reduction=reduction), outputs)
    own, partner = (F.cross_entropy(outputs, labels, reduction=reduction) for labels in target[:2])
    assert torch.equal(loss, 0.25 * own + 0.75 * partner)


def test_a_weight_a_sample_meets_each_loss_before_the_reduction():
    outputs = torch.randn(3, 3, dtype=torch.float64)
    target = of_ids(kept=(0.0, 0.5, 1.0))

    losses = target.interpolate(nn.CrossEntropyLoss(reduction="none"), outputs)
    own, partner = (F.cross_entropy(outputs, labels, reduction="none") for labels in target[:2])
    torch.testing.assert_close(losses, target.kept * own + (1 - target.kept) * partner)


def test_a_weight_a_sample_cannot_meet_a_reduced_loss():
    with pytest.raises(ValueError, match=r"pass it with reduction='none'"):
        of_ids(kept=(0.0, 0.5, 1.0)).interpolate(lambda out, _: out.mean(), torch.randn(3, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda outputs, target: outputs.argmax(1) == target,
        lambda outputs, target: outputs.argmax(1).eq(target),
        F.mse_loss,
        F.multi_margin_loss,
        nn.BCEWithLogitsLoss(),
        lambda outputs, target: torch.stack([outputs, target]),
    ],
)
def test_every_other_torch_function_is_refused_with_the_remedy(call):
    with pytest.raises(ValueError, match=r"use cutmix\.losses\.mixed\(loss_fn\)"):
        call(torch.randn(3, 3), of_ids())


def test_moving_leaves_what_is_kept_on_the_host():
    moved = of_ids().to("meta")

    assert (moved.own.device.type, moved.partner.device.type, moved.kept.device.type) == ("meta", "meta", "cpu")


def test_a_mixed_target_is_cut_into_microbatches_field_by_field():
    first = MixedTarget(*(field[:2] for field in of_ids()))

    assert first.own.tolist() == [0, 1]
    assert len(first.kept) == 2


def test_legacy_reductions_are_refused():
    with pytest.raises(ValueError, match=r"size_average and reduce must be None"):
        F.cross_entropy(torch.randn(3, 3), of_ids(), size_average=False)


@pytest.mark.parametrize("compare", [lambda target: target == 1, lambda target: target != 255])
def test_a_mixed_target_is_not_compared_in_silence(compare):
    target = MixedTarget(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5], dtype=torch.float64))

    with pytest.raises(ValueError, match=r"a MixedTarget is no tensor, got it compared with .*target\.own"):
        compare(target)
    assert target == target  # noqa: PLR0124 - the same one


def test_an_infinite_loss_stays_infinite_however_kept_is_stored():
    outputs = torch.zeros(2, 3)
    outputs[:, 0] = -torch.inf
    labels = torch.tensor([0, 0]), torch.tensor([1, 2])
    for kept in (torch.full((1,), 0.7, dtype=torch.float64).expand(2), torch.full((2,), 0.7, dtype=torch.float64)):
        target = MixedTarget(*labels, kept)

        assert torch.nn.functional.cross_entropy(outputs, target).item() == float("inf")


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_nothing_of_an_infinite_loss_is_nothing_on_either_side(kept):
    impossible, certain = torch.tensor([0]), torch.tensor([1])
    labels = (impossible, certain) if kept == 0.0 else (certain, impossible)
    target = MixedTarget(*labels, torch.tensor([kept], dtype=torch.float64))

    loss = target.interpolate(lambda _, ids: torch.where(ids == 0, torch.inf, 2.0).mean(), None)
    assert loss.item() == 2.0
