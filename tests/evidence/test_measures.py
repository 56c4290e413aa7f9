import math
import warnings

import pytest
import torch
from torch import nn

from cutmix.evidence.measures import calibration_error, negative_log_likelihood, predict, with_hole


def logits_of(*rows):
    return torch.tensor(rows).log()


def test_the_negative_log_likelihood_is_the_mean_over_the_images():
    logits = logits_of([0.5, 0.5], [0.25, 0.75])

    assert negative_log_likelihood(logits, torch.tensor([0, 1])) == pytest.approx(
        -(math.log(0.5) + math.log(0.75)) / 2, abs=1e-6
    )


def test_calibration_weighs_the_gap_of_each_bin_by_its_share():
    # Confidences .75 and .79 share a bin (right, wrong: accuracy .5), .95 is right, and alone.
    logits = logits_of([0.75, 0.25], [0.79, 0.21], [0.05, 0.95])

    assert calibration_error(logits, torch.tensor([0, 1, 1])) == pytest.approx((abs(1.54 - 1) + 0.05) / 3, abs=1e-6)


def test_a_sure_and_right_network_has_no_calibration_error():
    assert calibration_error(torch.tensor([[1000.0, 0.0], [0.0, 1000.0]]), torch.tensor([0, 1])) == 0.0


def test_calibration_agrees_with_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 7, generator=generator) * 3
    labels = torch.randint(7, (500,), generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.classification import multiclass_calibration_error

    expected = multiclass_calibration_error(logits.softmax(1), labels, 7, n_bins=15).item()

    assert calibration_error(logits, labels) == pytest.approx(expected, abs=1e-6)


def test_the_hole_is_a_square_of_half_the_side_in_the_middle():
    images = torch.ones(2, 3, 8, 12)

    holed = with_hole(images)

    assert (holed[..., 2:6, 3:9] == 0).all()
    assert holed.sum() == 2 * 3 * (8 * 12 - 4 * 6)
    assert images.min() == 1


def test_predictions_come_in_order_and_in_evaluation_mode():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(3, 2))
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 1, 1)

    logits = predict(model, images, batch_size=2)

    torch.testing.assert_close(logits, model.eval()(images))
