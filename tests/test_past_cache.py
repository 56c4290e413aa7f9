"""A buffer that no cache holds is written past it, with the bytes of the reference, and only where that can be done."""

import math
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix import CutMix
from cutmix.backends import mix_images
from cutmix.backends.kernels import PAST_CACHE, paste
from strategies import DTYPES, plans

dtypes = st.sampled_from(DTYPES)


def drawn(*shape, dtype):
    """Images of which no two are alike, whatever the dtype holds."""
    return (256 * torch.rand(shape, generator=torch.Generator().manual_seed(0))).to(dtype)


def same_bytes(one, other):
    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("size", [(32, 72), (16, 100), (96,), (8, 4, 80)])
@given(
    dtype=dtypes,
    per_sample=st.booleans(),
    seed=st.integers(0, 2**32),
    is_last=st.booleans(),
)
def test_a_buffer_larger_than_the_cache_is_filled_past_it_with_the_same_bytes(size, dtype, per_sample, seed, is_last):
    images = drawn(4, 4, *size, dtype=dtype)
    if is_last:
        images = images.movedim(1, -1).contiguous().movedim(-1, 1)
    recipe = CutMix(per_sample=per_sample, spatial_dims=tuple(range(2, images.ndim)))
    plan = recipe.draw(images.shape, generator=torch.Generator().manual_seed(seed))
    with (
        patch("cutmix.backends.compiled._cache_bytes", return_value=0.0),
        patch("cutmix.backends.compiled.paste", wraps=paste) as called,
    ):
        mixed = mix_images(images, plan, out=torch.empty_like(images), backend="compiled")

    *_, way, _, _ = called.call_args.args
    assert way == PAST_CACHE
    assert same_bytes(mixed, mix_images(images, plan, backend="reference"))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("way", ["contiguous", "apart", "cut out", "transposed"])
@given(plan=plans(), dtype=dtypes, has_source=st.booleans(), data=st.data())
def test_a_buffer_is_filled_wherever_it_begins_and_however_it_lies(threads, way, plan, dtype, has_source, data):
    shape, start = (plan.batch, data.draw(st.sampled_from([1, 16, 64])), *plan.size), data.draw(st.sampled_from([0, 1]))
    images, out = drawn(*shape, dtype=dtype), torch.empty(math.prod(shape) + start, dtype=dtype)[start:].view(shape)
    if way == "apart":
        images, out = (
            torch.empty(plan.batch, part[0].numel() + 1, dtype=dtype)[:, :-1].unflatten(1, shape[1:]).copy_(part)
            for part in (images, out)
        )
    elif way == "cut out":
        images = torch.empty(*shape[:-1], shape[-1] + 1, dtype=dtype)[..., :-1].copy_(images)
    elif way == "transposed":
        images, out = (part.view(shape[1], shape[0], *shape[2:]).transpose(0, 1) for part in (images, out))
    source = drawn(*shape, dtype=dtype).flip(0) if has_source else None
    torch.set_num_threads(threads)
    try:
        with (
            patch("cutmix.backends.compiled._cache_bytes", return_value=0.0),
            patch("cutmix.backends.compiled.BYTES_A_THREAD", 1),
        ):
            mixed = mix_images(images, plan, source=source, out=out)
    finally:
        torch.set_num_threads(1)

    assert same_bytes(mixed, mix_images(images, plan, source=source, backend="reference"))
