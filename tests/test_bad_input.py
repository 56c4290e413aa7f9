"""Every refusal names the argument, the value, the rule and the remedy, and touches nothing."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch

import cutmix.functional as cf
from cutmix import CutMix, MixUp, mix

IMAGES = torch.zeros(4, 3, 8, 12)
LABELS = torch.arange(4)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"alpha": -1.0}, ValueError, r"alpha must lie in \[0, inf\], got -1\.0"),
        ({"alpha": float("nan")}, ValueError, r"alpha must lie in \[0, inf\], got nan"),
        ({"alpha": float("inf")}, ValueError, r"alpha must be 0 .* got inf: .* use p"),
        ({"alpha": 0.001}, ValueError, r"at least 0\.01, got 0\.001"),
        ({"alpha": "1"}, TypeError, r"alpha must be a number, got '1'"),
        ({"alpha": True}, TypeError, r"alpha must be a number, got True"),
        ({"p": 1.5}, ValueError, r"p must lie in \[0, 1\], got 1\.5"),
        ({"length": 0}, ValueError, r"length must lie in \(0, 1\], got 0"),
        ({"length": 16}, ValueError, r"length must lie in \[0, 1\], got 16: .* for k pixels of n pass k / n"),
        ({"length": 0.5, "bbox": (0, 0, 1, 1)}, ValueError, r"at most one of length, bbox and min_max"),
        (
            {"bbox": (0, 0, 99, 99)},
            ValueError,
            r"bbox must be whole numbers.*inside the image of size \(8, 12\), got \(0, 0, 99, 99\)",
        ),
        ({"bbox": (3, 0, 1, 9)}, ValueError, r"bbox must be whole numbers"),
        ({"bbox": (0.0, 0.0, 1.0, 1.0)}, ValueError, r"bbox must be whole numbers"),
        ({"bbox": (0, 1)}, ValueError, r"bbox must be whole numbers"),
        (
            {"indices": torch.tensor([0, 1])},
            ValueError,
            r"indices must be 4 whole numbers in \[0, 4\).*torch\.randperm\(4\)",
        ),
        ({"indices": torch.tensor([0, 1, 2, 4])}, ValueError, r"indices must be 4 whole numbers"),
        ({"indices": torch.tensor([0, 1, 2, -1])}, ValueError, r"indices must be 4 whole numbers"),
        ({"indices": torch.rand(4)}, ValueError, r"indices must be 4 whole numbers"),
        ({"indices": [1, 0, 3, 2]}, TypeError, r"indices must be a torch\.Tensor, got list"),
        ({"spatial_dims": 2}, TypeError, r"spatial_dims must be a tuple of axes, got 2"),
        ({"uniform_sampling": "no"}, TypeError, r"uniform_sampling must be True or False, got 'no'"),
        ({"generator": 3}, TypeError, r"generator must be a torch\.Generator, got 3"),
        ({"spatial_dims": (0, 1)}, ValueError, r"spatial_dims must name different axes .* not its first, the batch"),
        ({"spatial_dims": (2, 2)}, ValueError, r"spatial_dims must name different axes"),
        ({"spatial_dims": (2, 4)}, ValueError, r"spatial_dims must name different axes"),
        ({"spatial_dims": ()}, ValueError, r"spatial_dims must name different axes"),
        ({"out": torch.zeros(4, 3, 8, 11)}, ValueError, r"out must be like the images.*torch\.empty_like"),
        ({"out": torch.zeros(4, 3, 8, 12, dtype=torch.float64)}, ValueError, r"out must be like the images"),
        (
            {"out": torch.zeros(4, 3, 8, 12, requires_grad=True)},
            ValueError,
            r"out must not be a leaf that requires grad",
        ),
    ],
)
def test_a_setting_out_of_its_rule_is_refused(settings, error, words):
    with pytest.raises(error, match=words):
        cf.cutmix_batch(IMAGES, LABELS, **settings)


@pytest.mark.parametrize(
    ("images", "labels", "error", "words"),
    [
        (IMAGES.numpy(), LABELS, TypeError, r"images must be a torch\.Tensor, got ndarray"),
        (IMAGES, [0, 1, 2, 3], TypeError, r"targets must be a torch\.Tensor, got list: convert with torch\.as_tensor"),
        (IMAGES, LABELS[:3], ValueError, r"targets must have one entry an image"),
        (IMAGES[:0], LABELS[:0], ValueError, r"targets must have one entry an image, and at least one"),
        (torch.zeros(4, 3, 50), LABELS, ValueError, r"pass spatial_dims=\(2,\) for signals"),
        (torch.zeros(4, 32, 48, 3), LABELS, ValueError, r"\(1, 2\) for grey or channels-last pictures"),
        (torch.zeros(4, 2, 5, 6, 7), LABELS, ValueError, r"\(2, 3, 4\) for volumes"),
    ],
)
def test_data_that_do_not_fit_are_refused(images, labels, error, words):
    with pytest.raises(error, match=words):
        cf.cutmix_batch(images, labels)


@pytest.mark.parametrize("settings", [{"interpolate_loss": "no"}, {"spatial_dims": 2}, {"spatial_dims": (2.0, 3.0)}])
@pytest.mark.parametrize("recipe", [CutMix, MixUp])
def test_a_recipe_of_the_wrong_types_is_refused_when_it_is_made(recipe, settings):
    with pytest.raises(TypeError, match=r"interpolate_loss must be True or False|spatial_dims must be a tuple of axes"):
        recipe(**settings)


def test_numpys_numbers_are_numbers():
    assert CutMix(alpha=np.float32(1.0), p=np.float64(0.5), bbox=(np.int64(0), 0, 1, 1)).draw(IMAGES.shape).batch == 4


def test_a_batch_that_is_mixed_already_is_refused():
    images, target = CutMix()(IMAGES, LABELS)

    with pytest.raises(ValueError, match=r"the batch has met two mixers, perhaps one in the loader's collate_fn"):
        CutMix()(images, target)


def test_samples_without_an_axis_of_their_own_are_refused():
    with pytest.raises(ValueError, match=r"samples must have an axis behind the batch, got shape \(4,\)"):
        cf.mixup_batch(torch.zeros(4), LABELS)


def test_narrow_channels_first_pictures_are_no_mistake():
    assert cf.cutmix_batch(torch.zeros(2, 3, 224, 3), torch.arange(2)).mixed.shape == (2, 3, 224, 3)


@pytest.mark.parametrize("shift", [1, 3 * 8 * 12])
def test_out_that_overlaps_the_images_is_refused_and_nothing_is_written(shift):
    memory = torch.arange(5 * 3 * 8 * 12, dtype=torch.float32)
    images, out = (memory[start : start + 4 * 3 * 8 * 12].view(4, 3, 8, 12) for start in (0, shift))
    before = memory.clone()

    with pytest.raises(ValueError, match=r"share no memory with them, got another view"):
        cf.cutmix_batch(images, LABELS, out=out)
    assert torch.equal(memory, before)


def test_out_in_the_other_half_of_a_buffer_is_taken():
    buffer = torch.rand(8, 3, 8, 12)

    assert cf.cutmix_batch(buffer[:4], LABELS, out=buffer[4:]).mixed is not None


def test_integers_cannot_be_blended():
    with pytest.raises(TypeError, match=r"images must be floating point to be blended, got torch\.uint8.*\.float\(\)"):
        cf.mixup_batch(IMAGES.to(torch.uint8), LABELS)
    assert cf.mixup_batch(IMAGES.to(torch.uint8), LABELS, p=0).mixing == 0


@pytest.mark.parametrize(
    ("targets", "error", "words"),
    [
        (torch.zeros(4, dtype=torch.bool), TypeError, r"targets must be integer or floating point, got torch\.bool"),
        (torch.zeros(4, 5, dtype=torch.int64), ValueError, r"integer rows need \.float\(\)"),
        (torch.zeros(4, 8, 11), ValueError, r"targets must be class indices"),
    ],
)
def test_targets_without_a_rule_are_refused(targets, error, words):
    with pytest.raises(error, match=words):
        CutMix()(IMAGES, targets)


def test_rows_as_long_as_a_signal_are_ambiguous():
    signals = torch.zeros(4, 3, 10)

    with pytest.raises(ValueError, match=r"can be label rows or a signal as long as the images"):
        CutMix(spatial_dims=(2,))(signals, torch.zeros(4, 10))


def test_integer_masks_are_never_blended():
    with pytest.raises(TypeError, match=r"targets must be floating point to be blended"):
        MixUp()(IMAGES, torch.zeros(4, 8, 12, dtype=torch.int64))


def test_a_plan_for_another_batch_is_refused():
    plan = CutMix().draw((4, 3, 8, 12))

    with pytest.raises(
        ValueError, match=r"images must be what the plan was drawn for, a batch of 4 with size \(8, 12\)"
    ):
        mix(torch.zeros(4, 3, 12, 8), LABELS, plan)
    with pytest.raises(ValueError, match=r"images must be what the plan was drawn for"):
        mix(torch.zeros(3, 3, 8, 12), LABELS[:3], plan)


def test_images_without_an_axis_for_the_batch_are_refused():
    plan = CutMix(spatial_dims=(2, 3)).draw((4, 3, 4, 8))

    with pytest.raises(ValueError, match=r"spatial_dims must name different axes of shape \(4, 8\), not its first"):
        mix(torch.zeros(4, 8), LABELS, plan)


@pytest.mark.parametrize("batch", [(IMAGES,), (), (IMAGES, LABELS, LABELS)])
def test_a_mixer_needs_images_and_targets(batch):
    with pytest.raises(TypeError, match=r"call mix\(images, targets\) or mix\(batch\)"):
        CutMix()(*batch)


@pytest.mark.parametrize("recipe", [CutMix, MixUp])
def test_an_unknown_pairing_is_refused(recipe):
    with pytest.raises(ValueError, match=r"pairing must be one of \('ring', 'shuffle', 'same_class'\), got 'random'"):
        recipe(pairing="random")
    with pytest.raises(ValueError, match=r"got \[\]"):
        recipe(pairing=[])


def test_a_mixing_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"mixing must lie in \[0, 1\], got 1\.5: it is the partner's weight"):
        cf.mixup_batch(IMAGES, LABELS, mixing=1.5)


def test_a_generator_of_another_device_is_refused():
    elsewhere = Mock(spec=torch.Generator, device=torch.device("cuda"))

    with pytest.raises(ValueError, match=r"generator must live on the CPU, .* got one on cuda: pass torch\.Generator"):
        CutMix().draw(IMAGES.shape, generator=elsewhere)
