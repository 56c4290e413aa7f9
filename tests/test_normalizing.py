import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix import CutMix, MixUp, mix
from cutmix.backends import mix_images
from cutmix.backends import mix_normalize as normalize_images
from cutmix.boxes import fixed
from cutmix.normalizing import mix_normalize
from cutmix.plans import Plan
from strategies import seeds

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LABELS = torch.arange(4)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FORMATS = [torch.contiguous_format, torch.channels_last]


def bytes_of(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def in_steps(images, plan, dtype):
    """What people write by hand."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    normalized = (images.float() / 255 - mean) / std
    return mix_images(normalized, plan, backend="reference").to(dtype)


@pytest.mark.parametrize("backend", ["eager", "compiled", "auto"])
@pytest.mark.parametrize("memory_format", FORMATS)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(st.integers(1, 5), st.just(3), st.integers(1, 9), st.integers(1, 9)),
    per_sample=st.booleans(),
    seed=seeds,
)
def test_one_pass_gives_the_bytes_of_the_steps(backend, memory_format, dtype, shape, per_sample, seed):
    images = bytes_of(*shape, seed=seed).contiguous(memory_format=FORMATS[seed % 2])
    plan = CutMix(per_sample=per_sample).draw(images.shape, generator=torch.Generator().manual_seed(seed))
    out = torch.empty_like(images, dtype=dtype, memory_format=memory_format)

    normalize_images(images, plan, torch.tensor(MEAN), torch.tensor(STD), out=out, backend=backend)
    assert torch.equal(out, in_steps(images, plan, dtype))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_the_samples(threads, monkeypatch):
    monkeypatch.setattr("cutmix.backends.compiled.BYTES_A_THREAD", 1)
    images = bytes_of(4, 3, 8, 12)
    plan = CutMix().draw(images.shape)
    torch.set_num_threads(threads)

    mixed, _ = mix_normalize(images, LABELS, plan, MEAN, STD)
    torch.set_num_threads(1)
    assert torch.equal(mixed, in_steps(images, plan, torch.float32))


@given(plan_seed=seeds, dtype=st.sampled_from(DTYPES))
def test_a_blend_is_made_after_the_bytes_are_normalized(plan_seed, dtype):
    images = bytes_of(4, 3, 8, 12)
    plan = MixUp(alpha=1.0).draw(images.shape, generator=torch.Generator().manual_seed(plan_seed))

    assert torch.equal(mix_normalize(images, LABELS, plan, MEAN, STD, dtype=dtype)[0], in_steps(images, plan, dtype))


def test_targets_are_mixed_as_by_mix():
    images, plan = bytes_of(4, 3, 8, 12), CutMix().draw((4, 3, 8, 12))
    targets = {"label": LABELS, "mask": bytes_of(4, 8, 12)}

    _, mixed = mix_normalize(images, targets, plan, MEAN, STD)
    expected = mix(images, targets, plan)[1]
    assert torch.equal(mixed["mask"], expected["mask"])
    assert all(torch.equal(one, other) for one, other in zip(mixed["label"], expected["label"], strict=True))


def test_the_result_lies_in_memory_as_asked():
    images, plan = bytes_of(4, 3, 8, 12), CutMix().draw((4, 3, 8, 12))
    out = torch.empty(4, 3, 8, 12)

    mixed, _ = mix_normalize(images, LABELS, plan, MEAN, STD, dtype=torch.bfloat16, memory_format=torch.channels_last)
    assert (mixed.dtype, mixed.stride()) == (torch.bfloat16, (288, 1, 36, 3))
    assert mix_normalize(images, LABELS, plan, MEAN, STD, out=out)[0] is out


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"images": torch.zeros(4, 3, 8, 12)}, TypeError, r"images must be .* of torch\.uint8, got torch\.float32"),
        ({"images": bytes_of(4, 8, 12)}, TypeError, r"images must be \(batch, channels, height, width\)"),
        ({"images": bytes_of(4, 3, 8, 11)}, ValueError, r"what the plan was drawn for"),
        ({"targets": LABELS[:3]}, ValueError, r"targets must have one entry an image"),
        ({"mean": (0.5, 0.5)}, ValueError, r"mean must be 3 numbers, one a channel, got \(0\.5, 0\.5\)"),
        ({"std": (0.5, 0.0, 0.5)}, ValueError, r"std must lie in \(0, 1\], got \[0\.5, 0\.0"),
        ({"dtype": torch.int64}, TypeError, r"dtype must be floating point, got torch\.int64"),
        ({"out": torch.zeros(4, 3, 8, 12, dtype=torch.float64)}, ValueError, r"out must be like the images"),
        ({"out": torch.zeros(4, 3, 1, 12).expand(4, 3, 8, 12)}, ValueError, r"out must have memory for every pixel"),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, words):
    plan = Plan(torch.tensor([1, 2, 3, 0]), fixed([1, 2], [4, 6], 1), torch.ones(1, dtype=torch.float64), (8, 12))
    arguments = {"images": bytes_of(4, 3, 8, 12), "targets": LABELS, "plan": plan, "mean": MEAN, "std": STD}

    with pytest.raises(error, match=words):
        mix_normalize(**(arguments | changes))


def test_out_in_the_memory_of_the_bytes_is_refused():
    memory = bytes_of(4 * 3 * 8 * 12 * 4)
    images, out = memory[:1152].view(4, 3, 8, 12), memory.view(torch.float32).view(4, 3, 8, 12)

    with pytest.raises(ValueError, match=r"out must share no memory with the images"):
        mix_normalize(images, LABELS, CutMix().draw(images.shape), MEAN, STD, out=out)


def test_a_backend_that_does_not_normalize_is_refused():
    images = bytes_of(4, 3, 8, 12)

    with pytest.raises(ValueError, match=r"backend must be one of .* here, got 'ring'"):
        normalize_images(
            images,
            CutMix().draw(images.shape),
            torch.tensor(MEAN),
            torch.tensor(STD),
            out=torch.zeros(4, 3, 8, 12),
            backend="ring",
        )
