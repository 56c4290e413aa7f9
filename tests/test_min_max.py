import pytest
import torch

import cutmix.functional as cf
from cutmix.algorithms import CutMix
from strategies import numbered

RECIPE = CutMix(min_max=(0.2, 0.8), per_sample=True)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chi_square(counts):
    expected = counts.double().mean()
    return ((counts - expected) ** 2 / expected).sum().item()


def test_all_whole_sides_between_the_fractions_are_equally_likely_along_each_axis():
    starts, stops = RECIPE.draw((7000, 1, 10, 20), generator=seeded()).boxes.unbind(1)
    heights, widths = (stops - starts).T

    assert set(heights.tolist()) == set(range(2, 9))
    assert set(widths.tolist()) == set(range(4, 17))
    assert chi_square(heights.bincount()[2:]) < 22.5  # 6 degrees of freedom: 1 in 1000
    assert chi_square(widths.bincount()[4:]) < 32.9  # 12 degrees of freedom
    free = starts[:, 0] / (10 - heights)
    assert torch.corrcoef(torch.stack([heights, widths, free]).double()).triu(1).abs().max() < 0.05


def test_a_box_is_equally_likely_at_each_place_inside():
    starts = CutMix(min_max=(0.5, 0.5), per_sample=True).draw((6000, 1, 4, 8), generator=seeded()).boxes[:, 0]

    assert chi_square(starts[:, 0].bincount(minlength=3)) < 13.8  # 2 degrees of freedom: 1 in 1000
    assert chi_square(starts[:, 1].bincount(minlength=5)) < 18.5  # 4 degrees of freedom


def test_the_function_cuts_what_the_recipe_draws():
    images, labels = numbered(4, 3, 10, 20), torch.arange(4)
    mixed = cf.cutmix_batch(images, labels, min_max=(0.2, 0.8), generator=seeded())
    plan = CutMix(min_max=(0.2, 0.8)).draw(images.shape, generator=seeded())

    top, left, bottom, right = mixed.bbox
    assert mixed.bbox == plan.bbox
    assert mixed.area == 1 - (bottom - top) * (right - left) / 200
    assert 2 <= bottom - top <= 8
    assert 4 <= right - left <= 16


def test_volumes_and_signals_have_sides_between_too():
    starts, stops = CutMix(min_max=(0.5, 1.0), spatial_dims=(2, 3, 4)).draw((2, 1, 4, 8, 16)).boxes[0]

    assert ((stops - starts) >= torch.tensor([2, 4, 8])).all()
    assert len(CutMix(min_max=(0.5, 1.0), spatial_dims=(2,)).draw((2, 1, 16)).bbox) == 2


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"min_max": 0.5}, TypeError, r"min_max must be a pair \(low, high\), got 0\.5"),
        ({"min_max": (0.2, 0.5, 0.8)}, TypeError, r"min_max must be a pair"),
        ({"min_max": ("a", 0.5)}, TypeError, r"min_max must be a number, got 'a'"),
        ({"min_max": (0.2, 1.5)}, ValueError, r"min_max must lie in \[0, 1\], got 1\.5"),
        ({"min_max": (float("nan"), 0.5)}, ValueError, r"min_max must lie in \[0, 1\], got nan"),
        ({"min_max": (0.8, 0.2)}, ValueError, r"low <= high .* got \(0\.8, 0\.2\)"),
        ({"min_max": (0, 0)}, ValueError, r"high above 0, got \(0, 0\): to mix nothing pass p=0"),
        (
            {"min_max": (0.2, 0.8), "length": 0.5},
            ValueError,
            r"at most one of length, bbox and min_max .*length=0\.5",
        ),
        ({"min_max": (0.2, 0.8), "bbox": (0, 0, 1, 1)}, ValueError, r"at most one of length, bbox and min_max"),
        ({"min_max": (0.2, 0.8), "uniform_sampling": True}, ValueError, r"uniform_sampling must be False with min_max"),
    ],
)
def test_a_range_that_is_none_is_refused(settings, error, words):
    with pytest.raises(error, match=words):
        CutMix(**settings)
