"""What the op allocates, counted; nothing here is timed."""

import tracemalloc

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import cutmix.functional as cf
from cutmix import CutMix
from cutmix.backends import mix_images

LIMIT = 8 * 2**20
IMAGES = torch.zeros(16, 3, 512, 384)


def allocated(call):
    """How many bytes torch and numpy ask for in all while ``call`` runs, which is no less than at any one time."""
    call()  # what is compiled or kept for ever is not the op's
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        tracemalloc.start()
        call()
        _, by_numpy = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return sum(max(0, event.self_cpu_memory_usage) for event in recorded.events()) + by_numpy


@pytest.mark.parametrize("backend", ["auto", "ring", "compiled"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_in_place_no_more_than_a_box_of_a_sample_or_8_mb_is_allocated(backend, per_sample):
    plan = CutMix(bbox=(4, 4, 500, 380), per_sample=per_sample).draw(IMAGES.shape)

    assert allocated(lambda: mix_images(IMAGES, plan, out=IMAGES, backend=backend)) <= LIMIT
    assert allocated(lambda: mix_images(IMAGES, plan, out=IMAGES, backend="eager")) > LIMIT


def test_in_place_the_whole_call_stays_within_it():
    labels = torch.arange(16)

    assert allocated(lambda: cf.cutmix_batch(IMAGES, labels, out=IMAGES)) <= LIMIT


@pytest.mark.parametrize("backend", ["auto", "ring", "compiled"])
def test_a_buffer_takes_the_result_without_any_copy_beside_it(backend):
    out, plan = torch.zeros_like(IMAGES), CutMix(bbox=(4, 4, 500, 380)).draw(IMAGES.shape)

    assert allocated(lambda: mix_images(IMAGES, plan, out=out, backend=backend)) <= LIMIT


def test_a_fresh_result_is_all_that_is_allocated():
    plan = CutMix(bbox=(4, 4, 500, 380)).draw(IMAGES.shape)

    assert allocated(lambda: mix_images(IMAGES, plan)) <= IMAGES.nbytes + LIMIT


def test_of_larger_samples_no_more_than_a_box_is_saved():
    images = torch.zeros(3, 3, 1024, 1024)
    plan = CutMix(bbox=(0, 0, 512, 512)).draw(images.shape)

    assert allocated(lambda: mix_images(images, plan, out=images, backend="compiled")) <= images[0].nbytes // 4 + 2**16
