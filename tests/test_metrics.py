import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.algorithms import CutMix
from cutmix.metrics import accuracy, ceiling
from cutmix.targets import MixedTarget


def predicting(classes, of=4):
    return torch.nn.functional.one_hot(torch.tensor(classes), of).float()


def test_a_hit_on_either_label_counts_for_its_share():
    target = MixedTarget(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 2]), torch.tensor([0.75, 0.75, 0.75]).double())

    assert accuracy(predicting([0, 2, 2]), target).item() == pytest.approx((0.75 + 0.25 + 1.0) / 3)
    assert ceiling(target).item() == pytest.approx((0.75 + 0.75 + 1.0) / 3)


def test_plain_labels_and_rows_have_the_plain_accuracy():
    assert accuracy(predicting([0, 1]), torch.tensor([0, 2])).item() == 0.5
    assert accuracy(predicting([0, 1]), predicting([0, 2])).item() == 0.5


@pytest.mark.parametrize("shape", [(2, 1), (3,), ()])
def test_labels_that_do_not_fit_the_predictions_are_refused(shape):
    labels = torch.zeros(shape, dtype=torch.int64)

    for target in (labels, MixedTarget(labels, labels, torch.ones(2).double())):
        with pytest.raises(
            ValueError, match=r"target must have one label for each of the predictions \(2,\), got labels"
        ):
            accuracy(predicting([0, 1]), target)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.floats(0, 1)), min_size=1))
def test_no_prediction_beats_the_ceiling_and_the_larger_share_reaches_it(samples):
    predicted, own, partner, kept = map(list, zip(*samples, strict=True))
    target = MixedTarget(torch.tensor(own), torch.tensor(partner), torch.tensor(kept).double())
    best = [mine if share >= 0.5 else other for _, mine, other, share in samples]

    assert accuracy(predicting(predicted), target) <= ceiling(target) + 1e-6
    assert accuracy(predicting(best), target).item() == pytest.approx(ceiling(target).item(), abs=1e-6)


def test_the_ceiling_at_alpha_1_is_far_below_1():
    generator = torch.Generator().manual_seed(0)
    labels, images = torch.arange(200) % 10, torch.zeros(200, 1, 32, 32)

    reached = [ceiling(CutMix()(images, labels, generator=generator)[1]) for _ in range(2000)]
    assert torch.stack(reached).mean().item() == pytest.approx(0.76, abs=0.01)
