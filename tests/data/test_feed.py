import pytest
import torch

from cutmix.data.feed import Standardise, loader


def pixels(*shape):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_standardised_images_have_mean_zero_and_deviation_one_in_each_channel():
    images = pixels(40, 3, 6, 8)
    images[:, 1] //= 3

    result = Standardise.fitted(images).of(images)

    assert result.dtype == torch.float32
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_what_is_measured_does_not_depend_on_the_order_of_the_images():
    images = pixels(40, 3, 6, 8)

    assert Standardise.fitted(images) == Standardise.fitted(images.flip(0))


def test_mean_and_deviation_are_shares_of_full_light():
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 4, 4)

    assert Standardise.fitted(images) == Standardise((0.5,) * 3, (0.5,) * 3)


def test_undoing_gives_the_pixels_back():
    images = pixels(8, 3, 16, 16)
    standardise = Standardise.fitted(images)

    assert torch.equal(standardise.undo(standardise.of(images)), images)


def test_a_channel_of_one_value_is_centred_and_not_scaled():
    images = torch.full((4, 3, 2, 2), 51, dtype=torch.uint8)

    standardise = Standardise.fitted(images)

    assert standardise.std == (1.0, 1.0, 1.0)
    assert standardise.of(images).abs().max() < 1e-6


def test_pixels_are_never_written_to():
    images = pixels(8, 3, 4, 4)
    before = images.clone()

    Standardise.fitted(images).of(images)

    assert torch.equal(images, before)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_gives_each_image_with_its_label_once(shuffle):
    labels = torch.arange(10)
    images = labels.float().reshape(10, 1, 1, 1).expand(10, 3, 4, 4)

    batches = list(loader(images, labels, 4, shuffle=shuffle))

    assert [len(batch) for _, batch in batches] == [4, 4, 2]
    assert all(torch.equal(batch[:, 0, 0, 0].long(), ids) for batch, ids in batches)
    assert sorted(torch.cat([ids for _, ids in batches]).tolist()) == list(range(10))
