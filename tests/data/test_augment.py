from types import SimpleNamespace

import pytest
import torch

from cutmix.core.event import Event
from cutmix.core.state import State
from cutmix.core.time import Timestamp
from cutmix.core.world import World
from cutmix.data.augment import Augment, cropped, flipped


def numbered(*shape, dtype=torch.float32):
    """Images whose pixels are all different, and none zero."""
    return torch.arange(1, 1 + torch.Size(shape).numel()).reshape(shape).to(dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def moved(image, down, right):
    """Move an image by whole pixels; what comes in is zero."""
    result = torch.zeros_like(image)
    height, width = image.shape[-2:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = image[:, row - down, column - right]
    return result


def test_each_image_is_moved_by_up_to_an_eighth_of_its_side():
    images = numbered(64, 3, 16, 24)

    result = cropped(images, seeded())

    seen = set()
    for before, after in zip(images, result, strict=True):
        ways = [(down, right) for down in range(-2, 3) for right in range(-3, 4)]
        (way,) = [way for way in ways if torch.equal(moved(before, *way), after)]
        seen.add(way)
    assert {down for down, _ in seen} == {-2, -1, 0, 1, 2}
    assert {right for _, right in seen} == {-3, -2, -1, 0, 1, 2, 3}


def test_about_half_of_the_images_are_mirrored_left_to_right():
    images = numbered(1000, 3, 4, 6)

    result = flipped(images, seeded())

    same = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 430 < int(mirrored.sum()) < 570


@pytest.mark.parametrize("change", [cropped, flipped])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_images_keep_their_kind_and_are_never_written_to(change, dtype):
    images = numbered(8, 3, 16, 16, dtype=dtype)
    before = images.clone()

    result = change(images, seeded())

    assert (result.dtype, result.shape) == (images.dtype, images.shape)
    assert torch.equal(images, before)
    assert result.data_ptr() != images.data_ptr()


def test_images_too_small_to_move_stay_as_they_are():
    images = numbered(4, 3, 7, 7)

    assert torch.equal(cropped(images, seeded()), images)


def state_at(step, *, seed=0, rank=0):
    state = State(
        model=torch.nn.Identity(),
        loss_fn=torch.nn.functional.cross_entropy,
        device=torch.device("cpu"),
        seed=seed,
        world=World(rank=rank),
        timestamp=Timestamp(batch=step),
    )
    state.batch = (numbered(16, 3, 16, 16), torch.arange(16))
    return state


def augmented(algorithm, **at):
    state = state_at(**at)
    algorithm.apply(Event.AFTER_DATALOADER, state, SimpleNamespace())
    return state.batch


def test_it_acts_on_the_batch_after_the_data_loader_only():
    assert [event for event in Event if Augment().match(event, state_at(0))] == [Event.AFTER_DATALOADER]


def test_the_step_the_seed_and_the_rank_decide_and_nothing_else():
    first, _ = augmented(Augment(), step=3)
    torch.rand(5)

    assert torch.equal(first, augmented(Augment(), step=3)[0])
    for other in ({"step": 4}, {"step": 3, "seed": 1}, {"step": 3, "rank": 1}):
        assert not torch.equal(first, augmented(Augment(), **other)[0])


def test_labels_stay_as_they_are_and_the_global_generator_too():
    before = torch.get_rng_state()

    _, labels = augmented(Augment(), step=0)

    assert torch.equal(labels, torch.arange(16))
    assert torch.equal(torch.get_rng_state(), before)


def test_crop_and_flip_are_switched_off_one_by_one():
    images = numbered(16, 3, 16, 16)

    assert torch.equal(augmented(Augment(crop=False, flip=False), step=0)[0], images)
    only_flipped, _ = augmented(Augment(crop=False), step=0)
    assert ((only_flipped == images) | (only_flipped == images.flip(-1))).all()
    only_moved, _ = augmented(Augment(flip=False), step=0)
    assert (only_moved == 0).any()
