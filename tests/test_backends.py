import sys
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad

from cutmix import CutMix, backends
from cutmix.backends import mix_images
from cutmix.boxes import fixed
from cutmix.plans import Plan
from strategies import DTYPES, numbered, permutations, plans

OPAQUE_ONLY = ["ring", "compiled"]
OTHERS = ["eager", *OPAQUE_ONLY]
dtypes = st.sampled_from(DTYPES)


def one_box_plan(count=1, **changes):
    """A plan of one box, or of the same box for each sample."""
    boxes, opacity = fixed([1, 2], [4, 6], count), torch.ones(count, dtype=torch.float64)
    return replace(Plan(torch.tensor([1, 2, 3, 0]), boxes, opacity, (6, 10)), **changes)


def layouts(images):
    """The same pixels, lying in memory in all the ways that people have them."""
    batch, channels, height, width = images.shape
    yield images
    yield images.contiguous(memory_format=torch.channels_last)
    yield images.transpose(0, 1).contiguous().transpose(0, 1)
    yield torch.zeros(batch, channels, height, 2 * width)[..., :width].copy_(images)
    yield torch.zeros(batch, channels, height, 2 * width)[..., ::2].copy_(images)
    yield torch.zeros(batch, channels + 2, 2 * height, width)[:, 1:-1, ::2].copy_(images)
    yield images.transpose(2, 3).contiguous().transpose(2, 3)


def expanded(images):
    """The first channel, or row, seen as if there were more of them: they all lie in the same memory."""
    yield images[:, :1].expand(images.shape)
    yield images[:, :, :1].expand(images.shape)
    yield images[:1].expand(images.shape)


def same_bytes(one, other):
    return one.dtype == other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


@pytest.mark.parametrize("backend", OTHERS)
@given(plan=plans(), dtype=dtypes)
def test_every_backend_gives_the_bytes_of_the_reference(backend, plan, dtype):
    images = numbered(plan.batch, 3, *plan.size, dtype=dtype)

    assert same_bytes(mix_images(images, plan, backend=backend), mix_images(images, plan, backend="reference"))


@given(plan=plans(opacities=st.floats(0.0, 1.0)), dtype=dtypes.filter(lambda dtype: dtype.is_floating_point))
def test_eager_blends_to_the_bytes_of_the_reference(plan, dtype):
    images = torch.randn(plan.batch, 3, *plan.size, generator=torch.Generator().manual_seed(0)).to(dtype)

    assert same_bytes(mix_images(images, plan, backend="eager"), mix_images(images, plan, backend="reference"))


@pytest.mark.parametrize("backend", ["reference", *OTHERS])
@given(plan=plans())
def test_a_pixel_is_its_own_outside_the_box_and_its_partners_inside(backend, plan):
    images = numbered(plan.batch, 3, *plan.size)

    mixed = mix_images(images, plan, backend=backend)
    for sample, (starts, stops) in enumerate(plan.boxes.expand(plan.batch, -1, -1).tolist()):
        inside = torch.zeros(plan.size, dtype=torch.bool)
        inside[tuple(map(slice, starts, stops))] = True
        partner = images[plan.partners[sample]]
        assert torch.equal(mixed[sample], torch.where(inside, partner, images[sample]))


@pytest.mark.parametrize("backend", ["reference", *OTHERS])
@given(plan=plans())
def test_the_images_are_not_written_to(backend, plan):
    images = numbered(plan.batch, 3, *plan.size)
    before = images.clone()

    mixed = mix_images(images, plan, backend=backend)
    assert torch.equal(images, before)
    assert mixed.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()


@pytest.mark.parametrize("backend", ["reference", *OTHERS])
@given(plan=plans(), dtype=dtypes)
def test_out_receives_what_a_fresh_result_would_hold(backend, plan, dtype):
    images = numbered(plan.batch, 3, *plan.size, dtype=dtype)
    out = torch.full_like(images, 7)

    assert mix_images(images, plan, out=out, backend=backend) is out
    assert same_bytes(out, mix_images(images, plan, backend="reference"))


@pytest.mark.parametrize("backend", ["auto", "reference", *OTHERS])
@given(plan=plans(pairings=permutations), dtype=dtypes, outers=st.lists(st.integers(1, 3), max_size=2))
def test_in_place_gives_the_bytes_of_a_fresh_result(backend, plan, dtype, outers):
    images = numbered(plan.batch, *outers, *plan.size, dtype=dtype)
    fresh = mix_images(images, plan, backend="reference")

    assert mix_images(images, plan, out=images, backend=backend) is images
    assert same_bytes(images, fresh)


@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
@given(plan=plans(opacities=st.sampled_from([0.3, 1.0])))
def test_in_place_any_partners_may_be_pasted(backend, plan):
    images = numbered(plan.batch, 3, *plan.size)
    fresh = mix_images(images, plan, backend="reference")

    assert torch.equal(mix_images(images, plan, out=images, backend=backend), fresh)


@pytest.mark.parametrize("backend", OPAQUE_ONLY)
def test_in_place_a_walk_needs_each_sample_to_be_a_partner_once(backend):
    plan = one_box_plan(partners=torch.tensor([1, 1, 3, 0]))
    images = numbered(4, 3, 6, 10)
    before = images.clone()

    with pytest.raises(ValueError, match=r"partners must be a permutation .* got \[1, 1, 3, 0\]"):
        mix_images(images, plan, out=images, backend=backend)
    assert torch.equal(images, before)


@pytest.mark.parametrize("backend", ["auto", "reference", *OTHERS])
@given(plan=plans(), in_place=st.booleans(), more=st.integers(0, 2))
def test_partners_may_come_from_another_batch(backend, plan, in_place, more):
    images, source = numbered(plan.batch, 3, *plan.size), -numbered(plan.batch + more, 3, *plan.size)
    expected = torch.where(plan.mask()[:, None], source[plan.partners], images)

    mixed = mix_images(images, plan, source=source, out=images if in_place else None, backend=backend)
    assert torch.equal(mixed, expected)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_every_layout_gives_the_bytes_of_the_reference(backend, per_sample, in_place):
    plan = one_box_plan(count=4 if per_sample else 1)
    for images in layouts(numbered(4, 3, 6, 10, dtype=torch.float32)):
        expected = mix_images(images, plan, backend="reference")
        if backend == "compiled" and images.stride(-1) not in (1, 3):
            with pytest.raises(ValueError, match=r"must lie in memory alike, in runs along the last axis"):
                mix_images(images, plan, backend=backend)
        else:
            mixed = mix_images(images, plan, out=images if in_place else None, backend=backend)
            assert torch.equal(mixed, expected)


@pytest.mark.parametrize("backend", ["auto", *OTHERS])
@pytest.mark.parametrize("count", [1, 4])
def test_images_that_share_their_own_memory_are_read_where_it_is(backend, count):
    plan = one_box_plan(count=count)
    for images in expanded(torch.rand(4, 3, 6, 10)):
        mixed = mix_images(images, plan, backend=backend)

        assert torch.equal(mixed, mix_images(images.contiguous(), plan, backend="reference"))


@pytest.mark.parametrize("pairing", ["shuffle", "ring"])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_that_are_in_different_cycles_save_apart(pairing, threads):
    images = torch.rand(64, 3, 64, 48)
    recipe = CutMix(per_sample=True, pairing=pairing)
    plans = [recipe.draw(images.shape, generator=torch.Generator().manual_seed(seed)) for seed in range(20)]
    torch.set_num_threads(threads)
    try:
        with patch("cutmix.backends.compiled.BYTES_A_THREAD", 1):
            mixed = [mix_images(batch := images.clone(), plan, out=batch, backend="compiled") for plan in plans]
    finally:
        torch.set_num_threads(1)

    assert all(
        torch.equal(one, mix_images(images, plan, backend="ring")) for one, plan in zip(mixed, plans, strict=True)
    )


@pytest.mark.parametrize("lazily", [torch.conj, lambda batch: torch.conj(batch).imag])
def test_what_torch_conjugates_or_negates_lazily_is_not_lost(lazily):
    images = lazily(torch.randn(4, 3, 6, 10, dtype=torch.complex64))

    assert torch.equal(
        mix_images(images, one_box_plan()), mix_images(images.resolve_conj().resolve_neg(), one_box_plan())
    )


@pytest.mark.parametrize("backend", ["auto", "eager", "ring"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 2, 1, 3, 4), (0, 3, 4, 1, 2), (0, 3, 4, 2, 1), (1, 0, 2, 3, 4)])
def test_out_may_lie_in_memory_in_another_way_than_the_images(backend, order):
    images, plan = numbered(4, 2, 3, 6, 10), one_box_plan()
    back = [order.index(axis) for axis in range(5)]
    out = torch.empty_like(images.permute(order), memory_format=torch.contiguous_format).permute(back)

    mixed = mix_images(images, plan, out=out, backend=backend)
    assert torch.equal(mixed, mix_images(images, plan, backend="reference"))


@pytest.mark.parametrize("backend", ["auto", "reference", *OTHERS])
@pytest.mark.parametrize("channels", [(0,), (2, 0), (0, 2)])
@pytest.mark.parametrize("in_place", [False, True])
def test_images_without_a_channel_stay_so(backend, channels, in_place):
    images = torch.zeros(4, *channels, 6, 10)

    mixed = mix_images(images, one_box_plan(), out=images if in_place else None, backend=backend)
    assert mixed.shape == images.shape


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("threads", [2, 3, 7])
@given(plan=plans(pairings=permutations))
def test_the_compiled_loops_give_the_same_bytes_in_any_number_of_threads(in_place, threads, plan):
    images = numbered(plan.batch, 3, *plan.size, dtype=torch.float32)
    expected = mix_images(images, plan, backend="reference")
    torch.set_num_threads(threads)
    try:
        with patch("cutmix.backends.compiled.BYTES_A_THREAD", 1):
            mixed = mix_images(images, plan, out=images if in_place else None, backend="compiled")
    finally:
        torch.set_num_threads(1)

    assert torch.equal(mixed, expected)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("size", [(160, 120), (30, 20, 40), (20000,)])
def test_samples_of_many_rows_are_walked_some_rows_at_a_time(threads, per_sample, size):
    images = torch.rand(6, 3, *size)
    plan = CutMix(per_sample=per_sample, spatial_dims=tuple(range(2, images.ndim))).draw(images.shape)
    expected = mix_images(images, plan, backend="reference")
    torch.set_num_threads(threads)
    try:
        with patch("cutmix.backends.compiled.BYTES_A_THREAD", 1):
            fresh = mix_images(images, plan, backend="compiled")
            mix_images(images, plan, out=images, backend="compiled")
    finally:
        torch.set_num_threads(1)

    assert torch.equal(fresh, expected)
    assert torch.equal(images, expected)


@pytest.mark.parametrize("backend", OPAQUE_ONLY)
def test_a_backend_that_pastes_refuses_what_it_cannot_do(backend):
    blending = one_box_plan(opacity=torch.tensor([0.5], dtype=torch.float64))

    with pytest.raises(ValueError, match=rf"backend '{backend}' pastes opaque boxes only.*use backend='eager'"):
        mix_images(torch.zeros(4, 3, 6, 10), blending, backend=backend)
    with pytest.raises(ValueError, match=rf"backend '{backend}' copies plain memory .* requires_grad=True"):
        mix_images(torch.zeros(4, 3, 6, 10, requires_grad=True), one_box_plan(), backend=backend)
    with pytest.raises(ValueError, match=rf"backend '{backend}' copies plain memory of the host, got meta"):
        mix_images(torch.zeros(4, 3, 6, 10, device="meta"), one_box_plan(), backend=backend)


def test_without_numba_large_pictures_are_mixed_by_copies_and_small_ones_at_once():
    large, small = torch.zeros(2, 3, 128, 128), torch.zeros(2, 3, 8, 8)
    with patch("cutmix.backends._has_numba", return_value=False), patch("cutmix.backends.ring.mix_images") as ring:
        mix_images(large, one_box_plan(size=(128, 128), partners=torch.tensor([1, 0])))
        assert ring.call_count == 1
        mix_images(small, one_box_plan(size=(8, 8), partners=torch.tensor([1, 0])))
        assert ring.call_count == 1


def test_where_numba_finds_no_place_to_keep_its_loops_torch_does_the_work():
    with patch.dict("sys.modules", {"cutmix.backends.kernels": None}):
        assert not backends._has_numba.__wrapped__()


@pytest.mark.parametrize("in_dims", [0, 1])
def test_a_vectorised_map_over_batches_mixes_each(in_dims):
    images, plan = torch.rand(5, 4, 3, 6, 10).movedim(0, in_dims), one_box_plan()

    mapped = torch.func.vmap(lambda batch: mix_images(batch, plan), in_dims=in_dims)(images)
    assert torch.equal(mapped, torch.stack([mix_images(batch, plan) for batch in images.unbind(in_dims)]))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, in jvp
def test_a_forward_derivative_flows_through():
    images, tangent, plan = torch.rand(4, 3, 6, 10), torch.rand(4, 3, 6, 10), one_box_plan()

    _, derivative = torch.func.jvp(lambda batch: mix_images(batch, plan), (images,), (tangent,))
    assert torch.equal(derivative, mix_images(tangent, plan))
    with forward_ad.dual_level():
        mixed = mix_images(forward_ad.make_dual(images, tangent), plan)
        assert torch.equal(forward_ad.unpack_dual(mixed).tangent, derivative)


@pytest.mark.parametrize("backend", ["reference", *OTHERS])
@pytest.mark.parametrize("boxes", [1, 4])
def test_shape_strides_and_dtype_are_kept(backend, boxes):
    plan = one_box_plan(count=boxes)
    for images in layouts(numbered(4, 3, 6, 10, dtype=torch.float32)):
        if backend == "compiled" and images.stride(-1) not in (1, 3):
            continue
        mixed = mix_images(images, plan, backend=backend)
        assert mixed.stride() == torch.empty_like(images).stride()
        assert (mixed.shape, mixed.dtype) == (images.shape, images.dtype)


@pytest.mark.parametrize("backend", ["reference", *OTHERS])
@pytest.mark.parametrize("boxes", [1, 2])
def test_a_full_opacity_copies_infinities_and_nans(backend, boxes):
    plan = Plan(
        torch.tensor([1, 0]),
        fixed([0], [2], 1).expand(boxes, -1, -1).contiguous(),
        torch.ones(boxes, dtype=torch.float64),
        (3,),
    )
    images = torch.tensor([[[torch.inf, 1.0, 2.0]], [[torch.nan, 3.0, 4.0]]])

    mixed = mix_images(images, plan, backend=backend)
    assert mixed[0, 0].isnan().tolist() == [True, False, False]
    assert mixed[1, 0].tolist() == [torch.inf, 1.0, 4.0]


@settings(max_examples=20)
@given(plan=plans(opacities=st.sampled_from([0.3, 1.0])))
def test_gradients_flow_to_own_and_partner(plan):
    images = torch.randn(plan.batch, 1, *plan.size, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda batch: mix_images(batch, plan), images)


def test_an_unknown_backend_is_refused_with_the_choices():
    plan = Plan(torch.tensor([0]), fixed([0], [1], 1), torch.ones(1, dtype=torch.float64), (3,))

    with pytest.raises(ValueError, match=r"backend must be one of .*'reference'.*'numpy'"):
        mix_images(torch.zeros(1, 1, 3), plan, backend="numpy")


@pytest.mark.parametrize("backend", ["reference", "eager"])
def test_a_full_opacity_copies_also_beside_samples_that_are_blended(backend):
    opacity = torch.tensor([1.0, 0.5], dtype=torch.float64)
    plan = Plan(torch.tensor([1, 0]), fixed([0], [2], 1).repeat(2, 1, 1), opacity, (2,))
    images = torch.tensor([[[torch.inf, 1.0]], [[2.0, 3.0]]])

    mixed = mix_images(images, plan, backend=backend)
    assert mixed[0, 0].tolist() == [2.0, 3.0]
    assert mixed[1, 0].tolist() == [torch.inf, 2.0]


def test_triton_says_what_it_needs_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr(backends, "_optional", backends._optional.__wrapped__)  # which another test may have asked
    monkeypatch.delattr(backends, "triton", raising=False)
    for name in ("cutmix.backends.triton", "cutmix.backends.triton_kernel"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    with pytest.raises(ModuleNotFoundError, match=r"backend 'triton' needs the package triton, .* pip install triton"):
        mix_images(numbered(4, 1, 6, 10), one_box_plan(), backend="triton")
