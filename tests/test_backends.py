import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutmix.backends import mix_images
from cutmix.boxes import fixed
from cutmix.plans import Plan
from strategies import DTYPES, numbered, plans

OTHERS = ["eager"]
dtypes = st.sampled_from(DTYPES)


def same_bytes(one, other):
    return one.dtype == other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


@pytest.mark.parametrize("backend", OTHERS)
@given(plan=plans(), dtype=dtypes)
def test_every_backend_gives_the_bytes_of_the_reference(backend, plan, dtype):
    images = numbered(plan.batch, 3, *plan.size, dtype=dtype)

    assert same_bytes(mix_images(images, plan, backend=backend), mix_images(images, plan, backend="reference"))


@pytest.mark.parametrize("backend", OTHERS)
@given(plan=plans(opacities=st.floats(0.0, 1.0)), dtype=dtypes.filter(lambda dtype: dtype.is_floating_point))
def test_every_backend_blends_to_the_bytes_of_the_reference(backend, plan, dtype):
    images = torch.randn(plan.batch, 3, *plan.size, generator=torch.Generator().manual_seed(0)).to(dtype)

    assert same_bytes(mix_images(images, plan, backend=backend), mix_images(images, plan, backend="reference"))


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
@given(plan=plans(opacities=st.sampled_from([0.3, 1.0])))
def test_the_images_are_not_written_to(backend, plan):
    images = numbered(plan.batch, 3, *plan.size)
    before = images.clone()

    mixed = mix_images(images, plan, backend=backend)
    assert torch.equal(images, before)
    assert mixed.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()


@pytest.mark.parametrize("backend", ["reference", *OTHERS])
@given(plan=plans(opacities=st.sampled_from([0.3, 1.0])), in_place=st.booleans())
def test_out_receives_what_a_fresh_result_would_hold(backend, plan, in_place):
    images = numbered(plan.batch, 3, *plan.size)
    fresh = mix_images(images, plan, backend=backend)
    out = images if in_place else torch.full_like(images, -1.0)

    assert mix_images(images, plan, out=out, backend=backend) is out
    assert torch.equal(out, fresh)


@pytest.mark.parametrize("backend", ["reference", *OTHERS])
@pytest.mark.parametrize("boxes", [1, 4])
def test_shape_strides_and_dtype_are_kept(backend, boxes):
    plan = Plan(
        torch.tensor([1, 2, 3, 0]),
        fixed([1, 2], [4, 6], 1).expand(boxes, -1, -1).contiguous(),
        torch.ones(boxes, dtype=torch.float64),
        (6, 10),
    )
    plain = numbered(4, 3, 6, 10, dtype=torch.float32)
    layouts = [plain, plain.to(memory_format=torch.channels_last), plain.transpose(0, 1).contiguous().transpose(0, 1)]
    layouts += [numbered(4, 3, 6, 20, dtype=torch.float32)[..., ::2]]

    for images in layouts:
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


@pytest.mark.parametrize("backend", ["reference", *OTHERS])
def test_a_full_opacity_copies_also_beside_samples_that_are_blended(backend):
    opacity = torch.tensor([1.0, 0.5], dtype=torch.float64)
    plan = Plan(torch.tensor([1, 0]), fixed([0], [2], 1).repeat(2, 1, 1), opacity, (2,))
    images = torch.tensor([[[torch.inf, 1.0]], [[2.0, 3.0]]])

    mixed = mix_images(images, plan, backend=backend)
    assert mixed[0, 0].tolist() == [2.0, 3.0]
    assert mixed[1, 0].tolist() == [torch.inf, 2.0]
