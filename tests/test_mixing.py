import pytest
import torch
from hypothesis import given
from torch.nn import functional as F

from cutmix import CutMix, MixedTarget, Plan, mix
from cutmix.boxes import fixed
from strategies import numbered, plans, seeds


def half(batch=3, size=(4, 6)):
    """The left half of each image comes from the next one."""
    partners = torch.arange(batch).roll(-1)
    return Plan(partners, fixed([0, 0], [size[0], size[1] // 2], 1), torch.ones(1, dtype=torch.float64), size)


def test_class_indices_become_own_partner_and_kept():
    _, target = mix(numbered(3, 1, 4, 6), torch.tensor([5, 6, 7]), half())

    assert isinstance(target, MixedTarget)
    assert target.own.tolist() == [5, 6, 7]
    assert target.partner.tolist() == [6, 7, 5]
    assert target.kept.tolist() == [0.5, 0.5, 0.5]


def test_labels_that_are_to_be_ignored_are_carried_along():
    _, target = mix(numbered(3, 1, 4, 6), torch.tensor([-100, 6, 7]), half())

    assert target.partner.tolist() == [6, 7, -100]
    assert F.cross_entropy(torch.zeros(3, 8), target).isfinite()


def test_one_hot_rows_are_never_pasted_like_pictures():
    rows = F.one_hot(torch.tensor([0, 1, 2]), 6).float()

    _, target = mix(numbered(3, 6, 4, 6), rows, half())
    assert isinstance(target, MixedTarget)
    assert target.dense().tolist()[0] == [0.5, 0.5, 0, 0, 0, 0]


@pytest.mark.parametrize("rows", [torch.rand(3, 7), torch.rand(3)])
def test_float_rows_become_own_partner_and_kept(rows):
    _, target = mix(numbered(3, 1, 4, 6), rows, half())

    assert torch.equal(target.own, rows)
    assert torch.equal(target.partner, rows.roll(-1, 0))


@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 1, 4, 6), (3, 2, 4, 6)])
def test_a_mask_is_pasted_by_the_same_plan_and_not_written_to(shape):
    mask = numbered(*shape, dtype=torch.int64)
    before = mask.clone()

    _, pasted = mix(numbered(3, 1, 4, 6), mask, half())
    expected = mask.clone()
    expected[..., :3] = mask.roll(-1, 0)[..., :3]
    assert torch.equal(pasted, expected)
    assert torch.equal(mask, before)


@given(plans())
def test_the_axes_of_the_plan_can_lie_anywhere_in_the_images(plan):
    images = numbered(plan.batch, 2, *plan.size)
    channels_last = images.movedim(1, -1).contiguous()

    mixed, _ = mix(images, torch.zeros(plan.batch), plan)
    moved, _ = mix(channels_last, torch.zeros(plan.batch), plan, spatial_dims=range(1, channels_last.ndim - 1))
    assert torch.equal(moved.movedim(-1, 1), mixed)
    assert moved.stride() == channels_last.stride()


@given(seeds)
def test_replaying_a_plan_gives_the_same_bytes(seed):
    plan = CutMix().draw((3, 1, 5, 7), generator=torch.Generator().manual_seed(seed))
    images = numbered(3, 1, 5, 7)

    assert torch.equal(mix(images, torch.arange(3), plan)[0], mix(images, torch.arange(3), plan)[0])


def test_where_the_targets_are_refused_nothing_is_written():
    images = numbered(3, 1, 4, 6)
    before = images.clone()

    with pytest.raises(TypeError, match=r"targets must be integer or floating point"):
        mix(images, torch.zeros(3, dtype=torch.bool), half(), out=images)
    assert torch.equal(images, before)


def test_an_in_memory_data_set_is_not_corrupted():
    pictures, labels = numbered(8, 3, 5, 7), torch.arange(8)
    before = pictures.clone()

    for start in range(0, 8, 4):
        CutMix(length=1.0)(pictures[start : start + 4], labels[start : start + 4])
    assert torch.equal(pictures, before)
