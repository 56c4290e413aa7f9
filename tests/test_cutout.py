import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cutmix.functional as cf
from cutmix.algorithms import CutMix, CutOut
from cutmix.keys import generator_for
from cutmix.trainer import Trainer
from strategies import DTYPES, numbered, seeds

pictures = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(pictures, st.integers(1, 3), st.floats(0.01, 1.0), st.booleans(), seeds)
def test_the_holes_are_filled_and_all_else_stays(shape, num_holes, length, uniform, seed):
    images = numbered(*shape) + 1
    cutout = CutOut(num_holes, length, uniform, fill=-7.0)

    cut = cutout(images, generator=seeded(seed))
    inside = torch.zeros(shape[2:], dtype=torch.bool)
    for (top, left), (bottom, right) in cutout.draw(shape, generator=seeded(seed)).tolist():
        inside[top:bottom, left:right] = True
        assert max(bottom - top, right - left) <= length * min(shape[2:]) + 1e-6
    assert torch.equal(cut, torch.where(inside, -7.0, images))
    assert torch.equal(images, numbered(*shape) + 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("in_place", [True, False])
def test_out_receives_the_result_in_every_dtype(dtype, in_place):
    images = numbered(2, 3, 6, 9, dtype=dtype) + 1
    fresh = cf.cutout_batch(images, generator=seeded())
    out = images if in_place else torch.zeros_like(images)

    assert cf.cutout_batch(images, out=out, generator=seeded()) is out
    assert torch.equal(out, fresh)
    assert (out == 0).any()


def test_any_axes_can_be_cut():
    images = numbered(2, 20, 30, 3) + 1

    cut = cf.cutout_batch(images, length=0.5, uniform_sampling=True, spatial_dims=(1, 2), generator=seeded(1))
    assert ((cut == 0).all(-1) == (cut == 0).any(-1)).all()
    assert (cut == 0).any()
    assert cut.stride() == images.stride()


def test_the_applied_rate_is_p():
    generator, images = seeded(), torch.ones(1, 1, 9, 9)
    cut = [(cf.cutout_batch(images, p=0.3, uniform_sampling=True, generator=generator) == 0).any() for _ in range(500)]

    assert torch.stack(cut).float().mean().item() == pytest.approx(0.3, abs=0.08)


def test_in_the_trainer_it_cuts_before_or_after_mixing_and_leaves_the_labels():
    images, labels = numbered(4, 3, 6, 9).float() + 1, torch.arange(4)
    for algorithms in ([CutOut(), CutMix()], [CutMix(), CutOut()], [CutOut()]):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(162, 4))
        trainer = Trainer(model, [(images, labels)] * 2, algorithms=algorithms, progress_bar=False, seed=3)
        trainer.fit()
        left, target = trainer.state.batch

        assert (left == 0).any()
        assert torch.equal(target if len(algorithms) == 1 else target.own, labels)
    assert torch.equal(images, numbered(4, 3, 6, 9).float() + 1)


def test_in_the_trainer_its_holes_are_drawn_by_a_key_of_their_own():
    images, cutout = torch.ones(2, 3, 32, 48), CutOut()
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4608, 4))
    trainer = Trainer(model, [(images, torch.arange(2))], algorithms=cutout, progress_bar=False, seed=3)
    trainer.fit()

    expected = cutout(images, generator=generator_for(3, 0, purpose="cutout"))
    assert torch.equal(trainer.state.batch[0], expected)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"num_holes": 0}, ValueError, r"num_holes must be a whole number, 1 or more, got 0"),
        ({"length": 0}, ValueError, r"length must lie in \(0, 1\], got 0"),
        ({"length": 16}, ValueError, r"length must lie in \[0, 1\], got 16"),
        ({"p": 2}, ValueError, r"p must lie in \[0, 1\], got 2"),
        ({"out": torch.zeros(2, 3, 6, 8)}, ValueError, r"out must be like the images"),
        ({"generator": 3}, TypeError, r"generator must be a torch\.Generator, got 3"),
    ],
)
def test_a_setting_out_of_its_rule_is_refused(settings, error, words):
    with pytest.raises(error, match=words):
        cf.cutout_batch(torch.zeros(2, 3, 6, 9), **settings)


def test_what_the_images_cannot_hold_is_refused():
    with pytest.raises(
        TypeError, match=r"fill must be a whole number in \[0, 255\] for images of torch\.uint8, got 0\.5"
    ):
        cf.cutout_batch(torch.zeros(2, 3, 6, 9, dtype=torch.uint8), fill=0.5)
    with pytest.raises(TypeError, match=r"images must be a torch\.Tensor, got list"):
        CutOut()([1, 2])
