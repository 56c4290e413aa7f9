import pytest

from cutmix.algorithms.cutmix import CutMix
from cutmix.algorithms.mixup import MixUp
from cutmix.runs.algorithms import parse


@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [
        ("baseline", None),
        ("none", None),
        ("cutmix", CutMix()),
        ("cutmix:alpha=1.0,p=0.5", CutMix(alpha=1.0, p=0.5)),
        ("cutmix:length=0.5,pairing=shuffle", CutMix(length=0.5, pairing="shuffle")),
        ("mixup:alpha=0.4,interpolate_loss=true", MixUp(alpha=0.4, interpolate_loss=True)),
        ("cutmix:p=0.5,until=270ep", CutMix(p=0.5, until="270ep")),
    ],
)
def test_an_algorithm_is_made_from_its_name_and_its_settings(spec, algorithm):
    assert parse(spec) == algorithm


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("cutmux", "algorithm must be one of baseline, cutmix, mixup, cutout, got 'cutmux'"),
        ("baseline:p=1", "algorithm must be one of baseline, cutmix, mixup, cutout, got 'baseline:p=1'"),
        ("cutmix:beta=1", "each setting must be one of alpha, .*, got 'beta=1' in 'cutmix:beta=1'"),
        ("cutmix:p=1,p=0", "once, got 'p=0' in 'cutmix:p=1,p=0'"),
        ("cutmix:spatial_dims=2", "each setting must be one of alpha"),
        ("cutmix:alpha", "the value must be of type float, got 'alpha' in 'cutmix:alpha'"),
        ("cutmix:alpha=much", "the value must be of type float, got 'alpha=much'"),
        ("mixup:interpolate_loss=1", "the value must be true or false, got 'interpolate_loss=1'"),
        ("cutmix:p=2", "p must lie in"),
        ("cutmix:alpha=nan", "alpha must lie in"),
        ("cutmix:pairing=pairs", "pairing must be one of"),
    ],
)
def test_an_unknown_algorithm_setting_or_value_is_refused_with_the_choices(spec, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse(spec)
