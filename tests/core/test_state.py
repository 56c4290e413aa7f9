"""What a state lends."""

import pytest
import torch

from cutmix.core import State


def state(**settings):
    return State(model=torch.nn.Identity(), loss_fn=None, device=torch.device("cpu"), seed=0, **settings)


def test_memory_to_write_into_is_the_images_own_only_where_the_trainer_made_them():
    images = torch.rand(2, 3, 4, 5)

    assert state(owns_batch=True).writable(images) is images
    assert state().writable(images) is not images
    assert state().writable(images).shape == images.shape


def test_memory_like_what_is_no_tensor_is_refused_by_the_key_that_names_it():
    with pytest.raises(TypeError, match="images must be a tensor, got a list under input_key 'image'; stack them"):
        state(input_key="image").writable([torch.rand(3, 4, 5)])
