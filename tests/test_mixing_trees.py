"""Any tree of inputs and targets is mixed in one call, each leaf by its rule."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from cutmix import MixedTarget, Plan, mix
from cutmix.boxes import fixed
from cutmix.mixing import mix_by_mask
from cutmix.plans import OPAQUE
from cutmix.trees import named
from strategies import numbered, plans, seeds

SIZE = (4, 6)


class Heads(NamedTuple):
    label: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class Scene:
    colour: torch.Tensor
    depth: torch.Tensor


def half(batch=3, partners=None, opacity=OPAQUE):
    """The left half of each image comes from the next one."""
    partners = torch.arange(batch).roll(-1) if partners is None else torch.tensor(partners)
    return Plan(partners, fixed([0, 0], [4, 3], 1), opacity, SIZE)


def inputs_for(batch, size):
    return {"colour": numbered(batch, 3, *size), "more": [numbered(batch, 1, *size, dtype=torch.uint8)]}


def targets_for(batch, size):
    return (
        numbered(batch, dtype=torch.int32),
        {"rows": numbered(batch, 7), "age": numbered(batch)},
        Heads(numbered(batch, dtype=torch.uint8), -numbered(batch, 1, *size, dtype=torch.int64)),
    )


def assert_alike(one, other):
    if isinstance(one, MixedTarget):
        assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
    else:
        assert torch.equal(one, other)


@given(plans())
def test_a_tree_is_mixed_leaf_by_leaf(plan):
    images, targets = inputs_for(plan.batch, plan.size), targets_for(plan.batch, plan.size)

    # Rows of 7 and a signal of 7 look alike.
    mixed, labels = mix(images, targets, plan, kinds=({}, {"rows": "label"}, {}))
    ids = torch.zeros(plan.batch, dtype=torch.int64)
    for path, leaf in named(images, "").items():
        assert_alike(named(mixed, "")[path], mix(leaf, ids, plan)[0])
    for path, leaf in named(targets, "").items():
        kind = "label" if "rows" in path else None
        assert_alike(named(labels, "")[path], mix(images["colour"], leaf, plan, kinds=kind)[1])
    assert type(labels) is tuple
    assert type(labels[2]) is Heads
    assert (type(mixed), type(mixed["more"])) == (dict, list)


def test_a_frozen_dataclass_comes_back_as_one_and_the_given_one_stays():
    scene = Scene(numbered(3, 3, *SIZE), numbered(3, *SIZE))
    before = scene.depth.clone()

    mixed, _ = mix(scene, torch.arange(3), half())
    assert type(mixed) is Scene
    assert torch.equal(mixed.depth[..., :3], before.roll(-1, 0)[..., :3])
    assert torch.equal(scene.depth, before)


def test_ignored_pixels_and_flow_are_pasted_by_the_same_plan():
    targets = {"mask": torch.full((3, *SIZE), 255), "flow": numbered(3, 2, *SIZE)}
    targets["mask"][0] = 1

    _, mixed = mix(numbered(3, 3, *SIZE), targets, half())
    assert mixed["mask"][2, 0].tolist() == [1, 1, 1, 255, 255, 255]
    assert torch.equal(mixed["flow"][..., :3], targets["flow"].roll(-1, 0)[..., :3])


def test_all_labels_of_a_tree_share_what_is_kept():
    _, mixed = mix(numbered(3, 1, *SIZE), (torch.arange(3), torch.rand(3)), half())

    assert mixed[0].kept is mixed[1].kept


@given(plans(), st.integers(1, 5), seeds)
def test_partners_come_from_the_source(plan, samples, seed):
    torch.manual_seed(seed)
    partners = torch.randint(samples, (plan.batch,))
    plan = Plan(partners, plan.boxes, plan.opacity, plan.size)
    images, ids = {"x": torch.randn(plan.batch, 2, *plan.size)}, (torch.arange(plan.batch),)
    source = ({"x": torch.randn(samples, 2, *plan.size)}, (100 + torch.arange(samples),))

    mixed, (target,) = mix(images, ids, plan, source=source)
    both = torch.cat([images["x"], source[0]["x"]])
    behind = Plan(
        torch.cat([partners + plan.batch, torch.zeros(samples, dtype=torch.int64)]), plan.boxes[:1], OPAQUE, plan.size
    )
    assert torch.equal(target.partner, 100 + partners)
    assert torch.equal(target.own, ids[0])
    if len(plan.boxes) == 1:
        assert torch.equal(mixed["x"], mix(both, torch.zeros(len(both)), behind)[0][: plan.batch])


def test_masks_take_their_partners_from_the_source_too():
    images, mask = torch.zeros(2, 1, *SIZE), torch.zeros(2, *SIZE, dtype=torch.int64)
    source = torch.ones(5, 1, *SIZE), torch.ones(5, *SIZE, dtype=torch.int64)

    mixed, pasted = mix(images, mask, half(2, [4, 0]), source=source)
    assert (mixed[..., :3] == 1).all()
    assert (pasted[..., :3] == 1).all()
    assert (pasted[..., 3:] == 0).all()


def test_out_is_built_like_the_images():
    images = inputs_for(3, SIZE)
    expected, _ = mix(images, torch.arange(3), half())
    out = {"more": [torch.empty_like(images["more"][0])], "colour": torch.empty_like(images["colour"])}

    mixed, _ = mix(images, torch.arange(3), half(), out=out)
    mix(images, torch.arange(3), half(), out=images)
    for path, leaf in named(expected, "").items():
        assert named(mixed, "")[path] is named(out, "")[path]
        assert torch.equal(named(mixed, "")[path], leaf)
        assert torch.equal(named(images, "")[path], leaf)


def test_targets_in_the_memory_of_the_images_are_read_before_it_is_written():
    images = numbered(3, 2, *SIZE)
    expected = mix(images, images.clone(), half())[1]

    mixed, targets = mix(images, images, half(), out=images)
    assert mixed is images
    assert torch.equal(targets, expected)


def test_axes_can_be_told_for_each_of_the_images():
    images = {"last": numbered(3, *SIZE, 2), "first": numbered(3, 2, *SIZE)}

    mixed, _ = mix(images, torch.arange(3), half(), spatial_dims={"last": (1, 2)})
    assert torch.equal(mixed["last"][:, :, :3], images["last"].roll(-1, 0)[:, :, :3])
    assert torch.equal(mixed["first"][..., :3], images["first"].roll(-1, 0)[..., :3])


@pytest.mark.parametrize(("kind", "is_mixed"), [("label", True), ("mask", False)])
def test_what_shapes_cannot_tell_is_told(kind, is_mixed):
    plan = Plan(torch.tensor([1, 0]), fixed([0], [2], 1), OPAQUE, (5,))

    _, target = mix(numbered(2, 1, 5), numbered(2, 5), plan, kinds=kind)
    assert isinstance(target, MixedTarget) == is_mixed


def test_labels_of_more_axes_are_labels_when_told():
    ids, points = torch.zeros(3, 4, dtype=torch.int64), torch.rand(3, 17, 2)

    _, mixed = mix(numbered(3, 1, *SIZE), {"ids": ids, "points": points}, half(), kinds="label")
    assert mixed["ids"].own is ids
    assert mixed["points"].dense().shape == (3, 17, 2)


IMAGES = torch.zeros(3, 3, *SIZE)
IDS = torch.arange(3)


@pytest.mark.parametrize(
    ("images", "targets", "settings", "error", "words"),
    [
        ({"a": IMAGES, "b": IMAGES.numpy()}, IDS, {}, TypeError, r"images\['b'\] must be a torch\.Tensor, got ndarray"),
        ({"a": IMAGES, "b": IMAGES[:, :, :3]}, IDS, {}, ValueError, r"images\['b'\] must be what the plan was drawn for"),
        ([IMAGES, IMAGES[:2]], IDS, {}, ValueError, r"images\[1\] must have one entry an image"),
        (IMAGES, {"ids": IDS[:2]}, {}, ValueError, r"targets\['ids'\] must have one entry an image"),
        (IMAGES, Heads(IDS, None), {}, TypeError, r"targets\.mask must be a torch\.Tensor, got NoneType"),
        (IMAGES, {"names": ["a", "b", "c"]}, {}, TypeError, r"targets\['names'\] must be a torch\.Tensor, got list"),
        (IMAGES, {}, {}, ValueError, r"images and targets must hold a tensor each"),
        (IMAGES, [{"x": IDS > 1}], {}, TypeError, r"targets\[0\]\['x'\] must be integer or floating point"),
        (IMAGES, (torch.rand(3, 5, 2),), {}, ValueError, r"targets\[0\] must be class indices .* pass kinds='label'"),
        (IMAGES.to_sparse(), IDS, {}, TypeError, r"images must be dense, got torch\.sparse_coo"),
        (IMAGES, IDS, {"kinds": "id"}, ValueError, r"kinds must be one of \('label', 'mask'\), got 'id' for targets"),
        (IMAGES, IDS, {"kinds": "mask"}, ValueError, r"targets must be what the plan was drawn for"),
        (IMAGES, {"a": IDS}, {"kinds": {"b": "label"}}, ValueError, r"kinds must be one for all targets.*targets\['b'\]"),
        (IMAGES, IDS, {"out": {"a": IMAGES}}, ValueError, r"out must be built like the images, images, got images\['a'\]"),
        (IMAGES, IDS, {"out": "here"}, TypeError, r"out must be a torch\.Tensor, got str"),
        (IMAGES, IDS, {"out": torch.zeros(1).expand(3, 3, *SIZE)}, ValueError, r"out must have memory for every pixel"),
        (IMAGES, IDS, {"source": (IMAGES, {"a": IDS})}, ValueError, r"source must be built like the targets"),
        (IMAGES, IDS, {"source": (IMAGES.double(), IDS)}, ValueError, r"source must have samples like images"),
        (IMAGES, IDS, {"source": (IMAGES[..., :5], IDS)}, ValueError, r"source must have samples like images"),
        (IMAGES, IDS, {"source": (IMAGES[:2], IDS)}, ValueError, r"source must have as many targets as images"),
        (IMAGES, IDS, {"source": (IMAGES[:2], IDS[:2])}, ValueError, r"partners must lie in \[0, 2\)"),
        (IMAGES, IDS, {"source": IMAGES}, TypeError, r"source must be a pair \(images, targets\), got Tensor"),
    ],
)  # fmt: skip
def test_a_leaf_that_does_not_fit_is_named(images, targets, settings, error, words):
    with pytest.raises(error, match=words):
        mix(images, targets, half(), **settings)


@pytest.mark.parametrize("partners", [[1, 2, 3], [-1, 0, 1]])
def test_partners_outside_the_batch_are_refused(partners):
    with pytest.raises(
        ValueError, match=r"partners must (lie in \[0, 3\), the samples that there are|be 0 or more), got \["
    ):
        mix(IMAGES, IDS, half(partners=partners))


def test_integer_masks_are_not_blended_and_nothing_is_written():
    images = {"x": torch.rand(3, 1, *SIZE)}
    before = images["x"].clone()
    plan = half(opacity=torch.tensor([0.5], dtype=torch.float64))

    with pytest.raises(TypeError, match=r"targets\['mask'\] must be floating point to be blended, got torch\.int64"):
        mix(images, {"mask": torch.zeros(3, *SIZE, dtype=torch.int64)}, plan, out=images)
    assert torch.equal(images["x"], before)


@pytest.mark.parametrize("place", ["another image", "another out", "the source", "a label"])
def test_out_shares_nothing_with_what_is_read_or_written_elsewhere(place):
    memory, other = torch.rand(3, 1, *SIZE), torch.rand(3, 1, *SIZE)
    images, targets, source, out = [memory, other], IDS, None, [torch.empty_like(memory), torch.empty_like(other)]
    match place:
        case "another image":
            out[0] = other
        case "another out":
            out[1] = out[0]
        case "the source":
            source, out[0] = ([other.clone(), other], IDS), other
            source[0][0] = other
            images[1] = torch.rand(3, 1, *SIZE)
        case "a label":
            targets, images, out = memory.view(3, -1), [memory, other], [memory, other]
    before = memory.clone(), other.clone()

    with pytest.raises(ValueError, match=r"share no memory"):
        mix(images, targets, half(), source=source, out=out)
    assert torch.equal(memory, before[0])
    assert torch.equal(other, before[1])


def test_out_may_not_be_where_the_partners_come_from():
    images, source = torch.rand(3, 1, *SIZE), torch.rand(3, 1, *SIZE)

    with pytest.raises(ValueError, match=r"share no memory"):
        mix(images, IDS, half(), source=(source, IDS), out=source)


def test_a_source_that_is_the_batch_itself_is_mixed_in_place_as_the_batch_is():
    images = numbered(3, 1, *SIZE)
    expected, _ = mix(images, IDS, half())

    mix(images, IDS, half(), source=(images.view(images.shape), IDS), out=images)
    assert torch.equal(images, expected)


def test_the_same_image_twice_is_not_mixed_twice_in_place():
    with pytest.raises(ValueError, match=r"share no memory"):
        mix((IMAGES, IMAGES), IDS, half(), out=(IMAGES, IMAGES))


@st.composite
def shapes_of_any_form(draw):
    batch, size = draw(st.integers(1, 4)), draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    generator = torch.Generator().manual_seed(draw(seeds))
    mask = torch.rand(draw(st.sampled_from([1, batch])), *size, generator=generator) < draw(st.floats(0, 1))
    return mask, torch.randint(batch, (batch,), generator=generator)


@given(shapes_of_any_form())
def test_by_a_mask_of_any_form_labels_are_weighted_by_what_shows(form):
    mask, partners = form
    images, maps = numbered(len(partners), 2, *mask.shape[1:]), numbered(len(partners), 1, *mask.shape[1:])

    mixed, (target, pasted) = mix_by_mask(images, (torch.arange(len(partners)), maps), mask, partners)
    for sample, partner in enumerate(partners.tolist()):
        shown = mask[sample % len(mask)]
        assert torch.equal(mixed[sample], torch.where(shown, images[partner], images[sample]))
        assert torch.equal(pasted[sample], torch.where(shown, maps[partner], maps[sample]))
        assert target.kept[sample].item() == 1 - shown.sum().item() / shown.numel()
    assert torch.equal(target.partner, partners)


def test_a_mask_mixes_in_place_and_along_other_axes_too():
    images, mask = numbered(3, *SIZE, 2), torch.rand(1, *SIZE) < 0.5
    expected = torch.where(mask[..., None], images.roll(-1, 0), images)

    mixed, _ = mix_by_mask(images, IDS, mask, IDS.roll(-1), out=images, spatial_dims=(1, 2))
    assert mixed is images
    assert torch.equal(images, expected)


@given(plans())
def test_a_mask_of_boxes_mixes_as_their_plan_does(plan):
    marks = torch.zeros(plan.batch, *plan.size, dtype=torch.bool)
    for mark, (starts, stops) in zip(marks, plan.boxes.expand(plan.batch, -1, -1).tolist(), strict=True):
        mark[tuple(map(slice, starts, stops))] = True
    images = numbered(plan.batch, 2, *plan.size)

    by_plan, by_mask = mix(images, plan.partners, plan), mix_by_mask(images, plan.partners, marks, plan.partners)
    assert torch.equal(by_plan[0], by_mask[0])
    assert_alike(by_plan[1], by_mask[1])


@pytest.mark.parametrize(
    ("mask", "partners", "error", "words"),
    [
        (torch.zeros(1, *SIZE), IDS, TypeError, r"mask must be bool, got torch\.float32"),
        (torch.zeros(SIZE, dtype=torch.bool), IDS, ValueError, r"mask must be \(1, \*size\) or \(3, \*size\)"),
        (torch.zeros(1, 6, 4, dtype=torch.bool), IDS, ValueError, r"images must be what the plan was drawn for"),
        (torch.zeros(1, *SIZE, dtype=torch.bool), IDS.float(), ValueError, r"partners must be whole numbers, one a sample"),
        (torch.zeros(1, *SIZE, dtype=torch.bool), IDS + 1, ValueError, r"partners must lie in \[0, 3\)"),
        (torch.zeros(1, *SIZE, dtype=torch.bool), [0, 1, 2], TypeError, r"partners must be a torch\.Tensor, got list"),
        ([[True]], IDS, TypeError, r"mask must be a torch\.Tensor, got list"),
    ],
)  # fmt: skip
def test_a_mask_or_partners_that_do_not_fit_are_refused(mask, partners, error, words):
    with pytest.raises(error, match=words):
        mix_by_mask(IMAGES, IDS, mask, partners)


def test_pasted_masks_need_no_weighting_in_a_segmentation_loss():
    outputs, mask = torch.randn(3, 5, *SIZE), torch.randint(5, (3, *SIZE))

    _, pasted = mix(IMAGES, mask, half())
    assert F.cross_entropy(outputs, pasted).isfinite()
