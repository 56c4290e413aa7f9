from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.boxes import fixed
from cutmix.plans import Plan
from strategies import plans


def one_box(**changes):
    plan = Plan(torch.tensor([1, 2, 0]), fixed([1, 2], [3, 6], 1), torch.ones(1, dtype=torch.float64), (4, 8))
    return replace(plan, **changes)


@given(plans(opacities=st.floats(0.0, 1.0)))
def test_what_is_kept_lies_between_nothing_and_all(plan):
    assert plan.kept.shape == (plan.batch,)
    assert plan.kept.dtype == torch.float64
    assert ((plan.kept >= 0.0) & (plan.kept <= 1.0)).all()


@given(plans())
def test_what_is_kept_is_the_share_of_pixels_outside_the_box(plan):
    for kept, box in zip(plan.kept, plan.boxes.expand(plan.batch, -1, -1).tolist(), strict=True):
        outside = torch.ones(plan.size, dtype=torch.float64)
        outside[tuple(slice(start, stop) for start, stop in zip(*box, strict=True))] = 0

        assert kept.item() == pytest.approx(outside.mean().item(), abs=1e-15)


def test_a_blend_keeps_what_its_opacity_leaves():
    plan = one_box(boxes=fixed([0, 0], [4, 8], 1), opacity=torch.tensor([0.25], dtype=torch.float64))

    assert plan.kept.tolist() == [0.75, 0.75, 0.75]


def test_the_box_of_a_batch_reads_top_left_bottom_right():
    assert one_box().bbox == (1, 2, 3, 6)


def test_a_plan_with_a_box_a_sample_has_no_single_box():
    plan = one_box(boxes=one_box().boxes.expand(3, -1, -1))

    with pytest.raises(ValueError, match=r"use plan\.boxes"):
        _ = plan.bbox


def test_plans_are_equal_when_all_they_hold_is():
    assert one_box() == one_box()
    assert one_box() != one_box(partners=torch.tensor([2, 0, 1]))
    assert one_box() != one_box(size=(4, 9))
    assert one_box() != one_box(opacity=torch.tensor([0.5], dtype=torch.float64))
    assert one_box() != "a plan"


@pytest.mark.parametrize("box", [[[0, 0], [99, 8]], [[3, 0], [1, 8]], [[-1, 0], [2, 8]]])
def test_a_box_that_leaves_the_image_or_ends_before_it_starts_is_refused(box):
    with pytest.raises(ValueError, match=r"boxes must start and stop inside the image of size \(4, 8\)"):
        one_box(boxes=torch.tensor([box]))


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_an_opacity_outside_its_range_is_refused(opacity):
    with pytest.raises(ValueError, match=r"opacity must lie in \[0, 1\]"):
        one_box(opacity=torch.tensor([opacity], dtype=torch.float64))


def test_a_plan_does_not_change():
    with pytest.raises(FrozenInstanceError):
        one_box().size = (1, 1)
