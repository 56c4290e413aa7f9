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


@given(plans(opacities=st.floats(0.0, 1.0)))
def test_a_plan_comes_back_from_json_as_it_was(plan):
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["[]", "{}", '{"partners": [0], "boxes": [], "opacity": [1.0]}'])
def test_json_of_something_else_is_no_plan(text):
    with pytest.raises(ValueError, match=r"text must hold partners, boxes, opacity, size, as plan\.to_json"):
        Plan.from_json(text)


def test_json_of_a_plan_that_breaks_the_rules_is_refused():
    with pytest.raises(ValueError, match=r"boxes must start and stop inside the image"):
        Plan.from_json(one_box().to_json().replace("[1, 2]", "[1, 7]"))


@given(plans())
def test_the_mask_covers_what_is_not_kept(plan):
    mask = plan.mask().expand(plan.batch, *plan.size)

    assert mask.dtype == torch.bool
    assert torch.allclose(1.0 - mask.flatten(1).double().mean(1), plan.kept, atol=1e-15)


def test_a_plan_reads_as_a_sentence():
    assert repr(one_box()) == "Plan(3 of 4x8, partners [1, 2, 0], box (1, 2, 3, 6), kept 0.75)"


def test_a_plan_of_many_shows_the_first_and_the_span_of_what_is_kept():
    boxes = torch.cat([fixed([0, 0], [0, 0], 1), fixed([0, 0], [4, 4], 9)])
    plan = Plan(torch.arange(10), boxes, torch.ones(10, dtype=torch.float64), (4, 8))

    assert repr(plan) == "Plan(10 of 4x8, partners [0, 1, 2, 3, 4, 5, 6, 7, ...], 10 boxes, kept 0.5 to 1)"


def test_a_plan_on_another_device_shows_what_can_be_known_there():
    assert repr(one_box().to("meta")) == "Plan(3 of 4x8 on meta)"


def test_boxes_scale_to_the_nearest_whole_pixel():
    scaled = one_box().scaled((2, 4))

    assert (scaled.bbox, scaled.size) == ((1, 1, 2, 3), (2, 4))
    assert scaled.partners is not None
    assert one_box().scaled((8, 16)).bbox == (2, 4, 6, 12)


@given(plans(), st.integers(1, 5))
def test_scaling_up_by_a_whole_number_keeps_as_much(plan, factor):
    scaled = plan.scaled([factor * side for side in plan.size])

    assert torch.equal(scaled.kept, plan.kept)
    assert scaled.scaled(plan.size) == plan


@given(plans(), st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_scaled_boxes_stay_inside(plan, sides):
    size = tuple(sides[: len(plan.size)])

    assert ((plan.scaled(size).boxes >= 0) & (plan.scaled(size).boxes <= torch.tensor(size))).all()


@pytest.mark.parametrize("size", [(4,), (4, 4, 4), (0, 4)])
def test_a_size_that_does_not_fit_the_plan_is_refused(size):
    with pytest.raises(ValueError, match=r"size must be 2 whole numbers of 1 or more"):
        one_box().scaled(size)


def test_a_moved_plan_keeps_its_numbers():
    moved = one_box().to("cpu")

    assert moved == one_box()
    assert one_box().to("meta").partners.device.type == "meta"
    assert one_box().to("meta").kept.device.type == "meta"


def test_plans_on_different_devices_are_not_equal():
    assert one_box() != one_box().to("meta")
