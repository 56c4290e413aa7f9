"""The triton backend gives the bytes of the reference: on a GPU where there is one, else in Triton's interpreter.

``conftest.py`` asks for the interpreter, which must be known before triton is imported.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("triton", reason="the package triton is not installed: make test installs it where there is one")

from triton import language as tl

from cutmix.backends import mix_images, mix_normalize, reference, triton
from cutmix.backends.triton_layout import launch_for
from cutmix.boxes import fixed
from cutmix.plans import Plan
from gpus import DEVICE, mixed_in_place, noise, normalized_in_steps, plan_of, same_bytes
from strategies import DTYPES, numbered, plans

FLOATS = [dtype for dtype in DTYPES if dtype.is_floating_point]
few = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True, scope="module")
def _rounding_as_a_gpu_does():
    """Let the interpreter round float32 to bfloat16 to the nearest, as a GPU does (cvt.rn): by itself it cuts off."""
    if not triton.INTERPRETED:
        yield
        return
    from triton.runtime import interpreter

    cast = interpreter.InterpreterBuilder.cast_impl

    def rounded(self, values, dtype):
        if (values.dtype.scalar, dtype.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, values, dtype)
        return interpreter.TensorHandle(
            torch.from_numpy(values.data).bfloat16().view(torch.uint16).numpy(), tl.bfloat16
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter.InterpreterBuilder, "cast_impl", rounded)
        yield


@few
@given(plan=plans(), dtype=st.sampled_from(DTYPES))
def test_what_is_pasted_has_the_bytes_of_the_reference(plan, dtype):
    images = numbered(plan.batch, 3, *plan.size, dtype=dtype)
    expected = reference.mix_images(images, plan)
    out = torch.full_like(images, 1, device=DEVICE)

    assert same_bytes(triton.mix_images(images.to(DEVICE), plan), expected)
    assert triton.mix_images(images.to(DEVICE), plan, out=out) is out
    assert same_bytes(out, expected)
    assert same_bytes(mixed_in_place(images, plan), expected)


@few
@given(plan=plans(opacities=st.floats(0.0, 1.0)), dtype=st.sampled_from(FLOATS))
def test_what_is_blended_has_the_bytes_of_the_reference(plan, dtype):
    images = noise(plan.batch, 3, *plan.size, dtype=dtype)
    expected = reference.mix_images(images, plan)

    assert same_bytes(triton.mix_images(images.to(DEVICE), plan), expected)
    assert same_bytes(mixed_in_place(images, plan), expected)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool, torch.complex64])
@pytest.mark.parametrize("boxes", [1, 3])
def test_every_dtype_is_pasted(dtype, boxes):
    images = noise(3, 2, 5, 9, dtype=torch.float32).to(dtype)
    plan = plan_of([1, 2, 0], ([1, 2], [4, 8]), (5, 9), boxes=boxes)

    assert same_bytes(triton.mix_images(images.to(DEVICE), plan), reference.mix_images(images, plan))


@pytest.mark.parametrize("opacity", [1.0, 0.3])
@pytest.mark.parametrize("boxes", [1, 3])
def test_pictures_larger_than_a_tile_are_mixed_in_all_their_tiles(boxes, opacity):
    images = noise(3, 2, 40, 41)
    plan = plan_of([2, 0, 1], ([3, 4], [33, 39]), (40, 41), boxes=boxes, opacity=opacity)
    expected = reference.mix_images(images, plan)

    assert same_bytes(triton.mix_images(images.to(DEVICE), plan), expected)
    assert same_bytes(mixed_in_place(images, plan), expected)


@pytest.mark.parametrize(
    "partners", [[1, 2, 3, 4, 0], [1, 0, 3, 4, 2], [0, 1, 2, 4, 3], [0, 1, 2, 3, 4], [2, 2, 2, 0, 0]]
)
@pytest.mark.parametrize("boxes", [1, 5])
def test_in_place_any_partners_do(partners, boxes):
    images = numbered(5, 2, 6, 7)
    plan = plan_of(partners, ([1, 1], [5, 6]), (6, 7), boxes=boxes)

    assert same_bytes(mixed_in_place(images, plan), reference.mix_images(images, plan))


def test_a_batch_too_large_for_one_program_is_mixed_in_place_too(monkeypatch):
    asked = []
    monkeypatch.setattr(triton, "HELD_BATCH", 3)
    monkeypatch.setattr(triton, "launch_for", lambda layout: asked.append(layout) or launch_for(layout))
    images = numbered(4, 2, 6, 7)
    plan = plan_of([1, 2, 3, 0], ([1, 1], [5, 6]), (6, 7))

    assert same_bytes(mixed_in_place(images, plan), reference.mix_images(images, plan))
    assert [layout.held for layout in asked] == [False]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("width", [8, 10])
def test_edges_may_cut_through_words_of_several_pixels_anywhere(dtype, layout, channels, width):
    images = numbered(8, channels, 2, width, dtype=dtype).contiguous(memory_format=layout)
    boxes = [fixed([0, start], [1 + start % 2, min(start + 1 + 3 * start % 8, width)], 1) for start in range(8)]
    partners, opaque = torch.arange(8).roll(3), torch.ones(1, dtype=torch.float64)

    for chosen in (torch.cat(boxes), boxes[2], boxes[5]):
        plan = Plan(partners, chosen, opaque, (2, width))
        expected = reference.mix_images(images, plan)
        assert same_bytes(triton.mix_images(images.to(DEVICE), plan), expected)
        assert same_bytes(mixed_in_place(images, plan), expected)


@pytest.mark.parametrize("first", range(9))
def test_samples_may_begin_within_words(first):
    memory = numbered(1, 1, 3, 40, dtype=torch.uint8).view(-1)
    images = memory[first : first + 96].view(4, 24)
    plan = plan_of([1, 2, 3, 0], ([5], [19]), (24,))
    expected = reference.mix_images(images, plan)

    whole = memory.to(DEVICE, copy=True)
    there = whole[first : first + 96].view(4, 24)
    assert same_bytes(triton.mix_images(there, plan), expected)
    assert same_bytes(triton.mix_images(there, plan, out=there), expected)
    assert same_bytes(whole[:first], memory[:first])
    assert same_bytes(whole[first + 96 :], memory[first + 96 :])


def layouts_of(plain):
    yield plain
    yield plain.to(memory_format=torch.channels_last)
    yield plain.transpose(0, 1).contiguous().transpose(0, 1)
    yield plain.transpose(2, 3).contiguous().transpose(2, 3)
    yield plain.repeat_interleave(2, -1)[..., ::2]
    yield torch.cat([plain, plain], 1)[:, : plain.shape[1]]
    yield plain[:1].expand_as(plain)


@pytest.mark.parametrize("layout", range(7))
@pytest.mark.parametrize("boxes", [1, 4])
@pytest.mark.parametrize("opacity", [1.0, 0.3])
def test_every_layout_is_kept_and_read_right(layout, boxes, opacity):
    images = list(layouts_of(noise(4, 3, 6, 10)))[layout]
    plan = plan_of([1, 2, 3, 0], ([1, 2], [4, 9]), (6, 10), boxes=boxes, opacity=opacity)
    expected = reference.mix_images(images, plan)
    there = list(layouts_of(noise(4, 3, 6, 10).to(DEVICE)))[layout]

    mixed = triton.mix_images(there, plan)
    assert mixed.stride() == torch.empty_like(there).stride()
    assert same_bytes(mixed, expected)
    *others, _ = layouts_of(torch.zeros_like(there.contiguous()))  # the last one has no memory of its own a pixel
    for out in others:
        assert same_bytes(triton.mix_images(there, plan, out=out), expected)
    if layout < len(others):
        assert same_bytes(triton.mix_images(there, plan, out=there), expected)


@pytest.mark.parametrize("size", [(7,), (6, 5), (3, 4, 5)])
@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (1,)])
def test_signals_pictures_and_volumes_are_cut_behind_any_number_of_other_axes(size, leading):
    images = numbered(3, *leading, *size)
    plan = plan_of([1, 2, 0], ([1] * len(size), [side - 1 for side in size]), size, boxes=3)
    expected = reference.mix_images(images, plan)

    assert same_bytes(triton.mix_images(images.to(DEVICE), plan), expected)
    assert same_bytes(mixed_in_place(images, plan), expected)


@pytest.mark.parametrize(("dtype", "opacity"), [(torch.float32, 1.0), (torch.float32, 0.3), (torch.uint8, 1.0)])
@pytest.mark.parametrize("boxes", [1, 4])
@pytest.mark.parametrize("width", [7, 8])
@pytest.mark.parametrize("first", [0, 1])
def test_partners_come_from_the_source(dtype, opacity, boxes, width, first):
    images = noise(4, 3, 6, width, dtype=dtype)
    memory = numbered(1, 4 * 3 * 6 * width + 1, 1, dtype=dtype).view(-1)
    source = memory[first : first + images.numel()].view(images.shape)
    plan = plan_of([1, 1, 3, 0], ([1, 1], [5, 6]), (6, width), boxes=boxes, opacity=opacity)
    expected = reference.mix_images(images, plan, source=source)

    there = images.to(DEVICE), memory.to(DEVICE, copy=True)[first : first + images.numel()].view(images.shape)
    assert same_bytes(triton.mix_images(there[0], plan, source=there[1]), expected)
    assert same_bytes(mixed_in_place(images, plan, source), expected)
    assert same_bytes(triton.mix_images(there[0], plan, source=there[1], out=there[1]), expected)


@pytest.mark.parametrize("in_place", [False, True])
def test_places_beyond_two_to_the_31_are_reached(in_place):
    memory = torch.empty(2**31 + 64, dtype=torch.uint8, device=DEVICE)
    images = memory.as_strided((2, 2, 5), (8, 2**31 + 16, 1))
    images.copy_(numbered(2, 2, 5, dtype=torch.uint8))
    plan = plan_of([1, 0], ([1], [4]), (5,))

    mixed = triton.mix_images(
        images, plan, out=images if in_place else torch.zeros(2, 2, 5, dtype=torch.uint8, device=DEVICE)
    )
    assert same_bytes(mixed, reference.mix_images(numbered(2, 2, 5, dtype=torch.uint8), plan))


def test_infinities_and_nans_are_copied():
    images = torch.tensor([[[torch.inf, 1.0, 2.0]], [[torch.nan, 3.0, 4.0]]])
    opacity = torch.tensor([1.0, 0.5], dtype=torch.float64)
    plan = Plan(torch.tensor([1, 0]), fixed([0], [1], 2), opacity, (3,))

    mixed = triton.mix_images(images.to(DEVICE), plan).cpu()
    assert mixed[0, 0].isnan().tolist() == [True, False, False]
    assert mixed[0, 0, 1:].tolist() == [1.0, 2.0]


def test_a_batch_without_pixels_is_left_as_it_is():
    images = torch.zeros(2, 0, 4, 5, device=DEVICE)

    assert triton.mix_images(images, plan_of([1, 0], ([0, 0], [2, 2]), (4, 5))).shape == images.shape


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("opacity", [1.0, 0.3])
@pytest.mark.parametrize("boxes", [1, 4])
@pytest.mark.parametrize("size", [(9,), (20, 26)])
def test_one_pass_gives_the_bytes_of_normalizing_and_mixing_in_steps(dtype, opacity, boxes, size):
    images = torch.randint(0, 256, (4, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    plan = plan_of([1, 3, 0, 2], ([1] * len(size), [side - 2 for side in size]), size, boxes=boxes, opacity=opacity)
    expected = reference.mix_images(normalized_in_steps(images, mean, std), plan).to(dtype)

    outs = in_both_formats(torch.empty_like(expected, device=DEVICE))
    for there, out in zip(in_both_formats(images.to(DEVICE)), outs, strict=True):
        assert mix_normalize(there, plan, mean.to(DEVICE), std.to(DEVICE), out=out, backend="triton") is out
        assert same_bytes(out, expected)


def test_channels_may_lie_in_strides():
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([[0.4, 9.0], [0.5, 9.0], [0.6, 9.0]])[:, 0], torch.tensor(0.25).expand(3)
    plan = plan_of([1, 0], ([1, 1], [3, 4]), (4, 5))
    expected = reference.mix_images(normalized_in_steps(images, mean, std), plan)

    there = mean.to(DEVICE), torch.tensor(0.25, device=DEVICE).expand(3)
    out = torch.empty(images.shape, device=DEVICE)
    assert same_bytes(triton.mix_normalize(images.to(DEVICE), plan, *there, out), expected)


def in_both_formats(images):
    return (images, images.movedim(1, -1).contiguous().movedim(-1, 1))


def test_it_is_had_by_its_name():
    images, plan = numbered(3, 2, 5, 9), plan_of([1, 2, 0], ([1, 2], [4, 8]), (5, 9))

    assert same_bytes(mix_images(images.to(DEVICE), plan, backend="triton"), reference.mix_images(images, plan))


def test_what_a_word_cannot_hold_is_refused():
    images, plan = torch.zeros(2, 1, 3, dtype=torch.complex128, device=DEVICE), plan_of([1, 0], ([0], [2]), (3,))

    with pytest.raises(TypeError, match=r"images must have pixels of at most 8 bytes .* got torch\.complex128"):
        triton.mix_images(images, plan)


def test_partners_that_are_not_there_are_refused():
    images = torch.zeros(2, 1, 3, device=DEVICE)

    with pytest.raises(ValueError, match=r"partners must lie in \[0, 2\), .* got \[1, 2\]"):
        mix_images(images, plan_of([1, 2], ([0], [2]), (3,)), backend="triton")


def test_images_that_require_grad_are_refused():
    images = torch.zeros(2, 1, 3, device=DEVICE, requires_grad=True)
    plan = plan_of([1, 0], ([0], [2]), (3,))

    with pytest.raises(ValueError, match=r"images must not require grad .* backend='eager'"):
        triton.mix_images(images, plan)
    with torch.no_grad():
        assert triton.mix_images(images, plan).shape == images.shape


def test_images_of_the_host_are_refused_where_nothing_interprets_the_kernel(monkeypatch):
    monkeypatch.setattr(triton, "INTERPRETED", False)

    with pytest.raises(ValueError, match=r"images must be on a GPU .* got cpu: move them with .cuda\(\)"):
        triton.mix_images(torch.zeros(2, 1, 3), plan_of([1, 0], ([0], [2]), (3,)))


ELSEWHERE = torch.device("cpu", 0)  # told apart from the host's own "cpu", and the same memory


@pytest.mark.parametrize("boxes", [1, 3])
def test_a_plan_of_the_host_goes_up_in_one_piece(boxes, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    plan = plan_of([1, 2, 0], ([1, 2], [4, 8]), (5, 9), boxes=boxes, opacity=0.3)

    moved = triton._on(ELSEWHERE, plan)
    assert len({there.untyped_storage().data_ptr() for there in moved}) == 1
    for name, there in zip(("partners", "boxes", "opacity"), moved, strict=True):
        assert same_bytes(there, getattr(plan, name).view(-1))


def test_a_plan_of_the_host_is_refused_where_a_graph_is_captured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)

    with pytest.raises(ValueError, match=r"plan must live on the images' device .* capture plan.to\('cpu:0'\)"):
        triton._on(ELSEWHERE, plan_of([1, 0], ([1, 2], [4, 8]), (5, 9)))
