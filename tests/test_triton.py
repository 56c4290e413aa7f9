"""The triton backend gives the bytes of the reference: on a GPU where there is one, else in Triton's interpreter.

``conftest.py`` asks for the interpreter, which must be known before triton is imported.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("triton", reason="the package triton is not installed: make test installs it where there is one")

from triton import language as tl

from cutmix import backends
from cutmix.backends import mix_images, mix_normalize, reference, triton
from cutmix.backends.triton_layout import programs_and_constants as constants_of
from cutmix.boxes import fixed
from cutmix.plans import Plan
from gpus import GPU, needs_gpu, waiting_refused
from strategies import DTYPES, numbered, plans

DEVICE = torch.device("cuda", 0) if GPU else torch.device("cpu")
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


def same_bytes(one, other):
    one, other = one.cpu().contiguous(), other.cpu().contiguous()
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def noise(*shape, dtype=torch.float32):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return (values if dtype.is_floating_point else values * 100).to(dtype)


def plan_of(partners, box, size, *, boxes=1, opacity=1.0):
    starts, stops = box
    moved = [fixed([start + i % 2 for start in starts], stops, 1) for i in range(boxes)]
    return Plan(torch.tensor(partners), torch.cat(moved), torch.full((boxes,), opacity, dtype=torch.float64), size)


def mixed_in_place(images, plan, source=None):
    out = images.to(DEVICE, copy=True)
    source = None if source is None else source.to(DEVICE)

    assert triton.mix_images(out, plan, source=source, out=out) is out
    return out


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
    monkeypatch.setattr(triton, "programs_and_constants", lambda batch: asked.append(batch) or constants_of(batch))
    images = numbered(4, 2, 6, 7)
    plan = plan_of([1, 2, 3, 0], ([1, 1], [5, 6]), (6, 7))

    assert same_bytes(mixed_in_place(images, plan), reference.mix_images(images, plan))
    assert [batch.held for batch in asked] == [False]


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

    there = memory.to(DEVICE, copy=True)[first : first + 96].view(4, 24)
    assert same_bytes(triton.mix_images(there, plan), expected)
    assert same_bytes(triton.mix_images(there, plan, out=there), expected)


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

    for out in [None, *(torch.zeros_like(other) for other in layouts_of(there.contiguous()))]:
        mixed = triton.mix_images(there, plan, out=out)
        assert mixed.stride() == (torch.empty_like(there) if out is None else out).stride()
        assert same_bytes(mixed, expected)


@pytest.mark.parametrize("size", [(7,), (6, 5), (3, 4, 5)])
@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (1,)])
def test_signals_pictures_and_volumes_are_cut_behind_any_number_of_other_axes(size, leading):
    images = numbered(3, *leading, *size)
    plan = plan_of([1, 2, 0], ([1] * len(size), [side - 1 for side in size]), size, boxes=3)
    expected = reference.mix_images(images, plan)

    assert same_bytes(triton.mix_images(images.to(DEVICE), plan), expected)
    assert same_bytes(mixed_in_place(images, plan), expected)


@pytest.mark.parametrize("opacity", [1.0, 0.3])
@pytest.mark.parametrize("boxes", [1, 4])
def test_partners_come_from_the_source(boxes, opacity):
    images, source = noise(4, 2, 6, 7), numbered(4, 2, 6, 7, dtype=torch.float32)
    plan = plan_of([1, 1, 3, 0], ([1, 1], [5, 6]), (6, 7), boxes=boxes, opacity=opacity)
    expected = reference.mix_images(images, plan, source=source)

    there = images.to(DEVICE), source.to(DEVICE)
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


def normalized_in_steps(images, mean, std):
    per_channel = (1, -1, *[1] * (images.ndim - 2))
    return (images.float() / 255 - mean.view(per_channel)) / std.view(per_channel)


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


def in_both_formats(images):
    return (images, images.movedim(1, -1).contiguous().movedim(-1, 1))


def test_it_is_had_by_its_name():
    images, plan = numbered(3, 2, 5, 9), plan_of([1, 2, 0], ([1, 2], [4, 8]), (5, 9))

    assert same_bytes(mix_images(images.to(DEVICE), plan, backend="triton"), reference.mix_images(images, plan))


@needs_gpu
def test_it_is_chosen_on_a_gpu_unless_a_gradient_is_asked_for():
    images, plan = torch.zeros(2, 1, 3, device=DEVICE), plan_of([1, 0], ([0], [2]), (3,))

    assert backends._candidates(images, plan, None, None) == ["triton"]
    assert backends._candidates(images.requires_grad_(), plan, None, None) == []


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


@needs_gpu
@pytest.mark.parametrize("boxes", [1, 512])
def test_a_gpu_is_never_waited_for(boxes):
    images = torch.randn(512, 3, 32, 32, device=DEVICE)
    plan = plan_of([*range(1, 512), 0], ([3, 4], [20, 30]), (32, 32), boxes=boxes)
    triton.mix_images(images, plan)
    triton.mix_images(images, plan, out=images)

    with waiting_refused():
        triton.mix_images(images, plan)
        triton.mix_images(images, plan, out=images)


@needs_gpu
@pytest.mark.parametrize("backend", ["auto", "eager", "triton"])
def test_bytes_are_normalized_on_a_gpu_as_on_the_host(backend):
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    plan, out = plan_of([1, 0], ([1, 2], [9, 8]), (16, 16)), torch.empty(images.shape, device=DEVICE)

    mix_normalize(images.to(DEVICE), plan, mean.to(DEVICE), std.to(DEVICE), out=out, backend=backend)
    assert same_bytes(out, reference.mix_images(normalized_in_steps(images, mean, std), plan))


@needs_gpu
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("boxes", [1, 6])
def test_a_captured_graph_mixes_by_the_plan_that_its_memory_holds(boxes, in_place):
    batches = [noise(6, 3, 32, 32), numbered(6, 3, 32, 32, dtype=torch.float32)]
    all_plans = [
        plan_of([1, 2, 3, 4, 5, 0], ([1, 1], [9, 31]), (32, 32), boxes=boxes),
        plan_of([5, 4, 3, 2, 1, 0], ([8, 2], [32, 20]), (32, 32), boxes=boxes, opacity=0.3),
    ]
    plan, images = all_plans[0].to(DEVICE), batches[0].to(DEVICE)
    out = images if in_place else torch.empty_like(images)
    triton.mix_images(images.clone(), plan, out=torch.empty_like(images))  # compiled before it is captured
    warm = images.clone()
    triton.mix_images(warm, plan, out=warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        triton.mix_images(images, plan, out=out)

    for batch, drawn in zip(batches, all_plans, strict=True):
        images.copy_(batch)
        for name in ("partners", "boxes", "opacity"):
            getattr(plan, name).copy_(getattr(drawn, name))
        graph.replay()
        assert same_bytes(out, reference.mix_images(batch, drawn))


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("batch", [2, 100, 128, 513, 4096])
def test_large_batches_have_the_bytes_of_the_reference(batch, dtype):
    images = noise(batch, 3, 64, 64, dtype=torch.float32).mul(50).to(dtype)
    partners = torch.randperm(batch, generator=torch.Generator().manual_seed(1)).tolist()
    for boxes in (1, batch):
        plan = plan_of(partners, ([5, 6], [50, 64]), (64, 64), boxes=boxes)
        expected = reference.mix_images(images, plan)
        assert same_bytes(triton.mix_images(images.to(DEVICE), plan), expected)
        assert same_bytes(mixed_in_place(images, plan), expected)
