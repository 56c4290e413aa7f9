import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import cutmix.functional as cf
from cutmix.algorithms import CutMix
from cutmix.draws import draw_betas_and_chances, draw_ring
from strategies import DTYPES, numbered, seeds

pictures = st.tuples(st.integers(2, 6), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))
alphas = st.sampled_from([0.2, 1.0, 3.0])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def the_authors_box(shape, lam, centre):
    """``rand_bbox`` of github.com/clovaai/CutMix-PyTorch, train.py, with its draws handed in; W is its name for axis 2."""
    cut_rat = np.sqrt(1.0 - lam)
    cut_w, cut_h = int(shape[2] * cut_rat), int(shape[3] * cut_rat)
    cx, cy = centre
    bbx1, bbx2 = np.clip([cx - cut_w // 2, cx + cut_w // 2], 0, shape[2])
    bby1, bby2 = np.clip([cy - cut_h // 2, cy + cut_h // 2], 0, shape[3])
    return bbx1, bby1, bbx2, bby2


def the_authors_mix(images, partners, box):
    bbx1, bby1, bbx2, bby2 = box
    images = images.clone()
    images[:, :, bbx1:bbx2, bby1:bby2] = images[partners, :, bbx1:bbx2, bby1:bby2]
    lam = 1 - ((bbx2 - bbx1) * (bby2 - bby1) / (images.size()[-1] * images.size()[-2]))
    return images, lam


@given(pictures, alphas, seeds)
def test_it_gives_the_bytes_of_the_authors_rule(shape, alpha, seed):
    images, labels = numbered(*shape, dtype=torch.float32), torch.arange(shape[0])
    mixed, target_perm, area, bbox = cf.cutmix_batch(images, labels, alpha=alpha, generator=seeded(seed))

    draws = seeded(seed)
    partners, ((lam,), chances) = draw_ring(shape[0], draws), draw_betas_and_chances(alpha, 1, 2, draws)
    centre = [int(side * chance) for side, (chance,) in zip(shape[2:], chances, strict=True)]
    box = the_authors_box(shape, lam, centre)
    expected, expected_area = the_authors_mix(images, partners, box)
    assert torch.equal(mixed, expected)
    assert torch.equal(target_perm, labels[partners])
    assert bbox == tuple(box)
    assert area == expected_area


@given(pictures, alphas, seeds, st.booleans())
def test_each_pixel_is_own_outside_the_box_and_the_partners_inside(shape, alpha, seed, uniform):
    images, labels = numbered(*shape), torch.arange(shape[0])
    mixed, partners, area, (top, left, bottom, right) = cf.cutmix_batch(
        images, labels, alpha=alpha, uniform_sampling=uniform, generator=seeded(seed)
    )

    inside = torch.zeros(shape[2:], dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert torch.equal(mixed, torch.where(inside, images[partners], images))
    assert torch.equal((mixed != images).any(1).any(0), inside)
    assert area == 1 - inside.sum().item() / inside.numel()


def test_height_comes_before_width():
    mixed = cf.cutmix_batch(numbered(2, 1, 4, 9), torch.tensor([0, 1]), bbox=(1, 5, 3, 9)).mixed

    assert (mixed != numbered(2, 1, 4, 9))[0, 0].nonzero().tolist() == [
        [row, column] for row in (1, 2) for column in range(5, 9)
    ]


@given(pictures, seeds)
def test_the_same_generator_state_gives_the_same_result_and_the_global_one_is_untouched(shape, seed):
    images, labels = numbered(*shape), torch.arange(shape[0])
    before = torch.get_rng_state()

    one, other = (cf.cutmix_batch(images, labels, alpha=0.5, p=0.7, generator=seeded(seed)) for _ in range(2))
    assert torch.equal(one.mixed, other.mixed)
    assert one[2:] == other[2:]
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_it_draws_from_torchs_default():
    torch.manual_seed(3)
    one = cf.cutmix_batch(numbered(4, 1, 8, 9), torch.arange(4))
    torch.manual_seed(3)

    assert cf.cutmix_batch(numbered(4, 1, 8, 9), torch.arange(4)).bbox == one.bbox


def test_the_mean_replaced_share_is_the_papers_at_alpha_1():
    recipe, generator = CutMix(alpha=1.0), seeded()
    kept = [recipe.draw((2, 1, 32, 32), generator=generator).kept[0] for _ in range(40_000)]

    assert 1 - torch.stack(kept).mean().item() == pytest.approx(0.2993, abs=0.003)


@given(st.integers(2, 9), seeds)
def test_nobody_is_its_own_partner(batch, seed):
    labels = torch.arange(batch)

    assert (cf.cutmix_batch(torch.zeros(batch, 1, 4, 5), labels, generator=seeded(seed)).target_perm != labels).all()


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_the_applied_rate_is_p(p):
    images, labels, generator = torch.zeros(2, 1, 1000, 1000), torch.tensor([0, 1]), seeded()
    applied = [cf.cutmix_batch(images, labels, length=0.1, p=p, generator=generator).area < 1 for _ in range(300)]

    assert np.mean(applied) == pytest.approx(p, abs=4 * (p * (1 - p) / 300) ** 0.5)


def test_uniform_sampling_replaces_every_pixel_equally_often():
    images, labels, generator = numbered(2, 1, 4, 6), torch.tensor([0, 1]), seeded()
    replaced = torch.zeros(4, 6)
    for _ in range(4000):
        mixed = cf.cutmix_batch(images, labels, length=0.5, uniform_sampling=True, generator=generator).mixed
        replaced += mixed[0, 0] != images[0, 0]

    share = replaced / 4000
    assert share.min() > share.max() - 0.05
    assert share.mean().item() == pytest.approx(2 / 5 * 3 / 8, abs=0.01)


@pytest.mark.parametrize(("length", "sides"), [(0.25, (2, 5)), (1.0, (8, 20)), (0.5, (4, 10))])
def test_a_length_is_a_share_of_each_side(length, sides):
    images, generator = torch.zeros(2, 1, 8, 20), seeded()
    boxes = [cf.cutmix_batch(images, torch.arange(2), length, generator=generator).bbox for _ in range(300)]

    assert max(bottom - top for top, _, bottom, _ in boxes) == sides[0]
    assert max(right - left for _, left, _, right in boxes) == sides[1]


def test_the_partners_can_be_given():
    labels = torch.arange(3)
    mixed = cf.cutmix_batch(numbered(3, 1, 2, 3), labels, indices=torch.tensor([2, 2, 0]), bbox=(0, 0, 2, 3))

    assert mixed.target_perm.tolist() == [2, 2, 0]
    assert torch.equal(mixed.mixed, numbered(3, 1, 2, 3)[[2, 2, 0]])
    assert mixed.area == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("in_place", [True, False])
def test_out_receives_the_result_in_every_dtype(dtype, in_place):
    images = numbered(4, 3, 6, 9, dtype=dtype)
    fresh = cf.cutmix_batch(images, torch.arange(4), generator=seeded()).mixed
    out = images if in_place else torch.zeros_like(images)

    mixed = cf.cutmix_batch(images, torch.arange(4), out=out, generator=seeded()).mixed
    assert mixed is out
    assert torch.equal(out, fresh)


@pytest.mark.parametrize("nothing", [{"alpha": 0}, {"p": 0}, {"bbox": (2, 2, 2, 2)}])
def test_where_nothing_is_mixed_the_result_is_still_new_memory(nothing):
    images = numbered(4, 1, 6, 9)

    mixed, _, area, _ = cf.cutmix_batch(images, torch.arange(4), **nothing)
    assert area == 1
    assert torch.equal(mixed, images)
    assert mixed.data_ptr() != images.data_ptr()


def test_a_batch_of_one_is_left_as_it_is():
    images = numbered(1, 1, 6, 9)

    mixed, target_perm, area, bbox = cf.cutmix_batch(images, torch.tensor([7]), bbox=(0, 0, 3, 3))
    assert (target_perm.item(), area, bbox) == (7, 1, (0, 0, 0, 0))
    assert torch.equal(mixed, images)
    assert mixed.data_ptr() != images.data_ptr()


@pytest.mark.parametrize(
    ("shape", "spatial_dims"),
    [
        ((4, 3, 50), (2,)),
        ((4, 20, 30), (1, 2)),
        ((4, 20, 30, 3), (1, 2)),
        ((4, 2, 5, 6, 7), (2, 3, 4)),
        ((4, 5, 3, 8), (-1, 1)),
    ],
)
def test_any_axes_can_be_cut(shape, spatial_dims):
    images = numbered(*shape)
    mixed, partners, area, bbox = cf.cutmix_batch(
        images, torch.arange(4), spatial_dims=spatial_dims, generator=seeded(4)
    )

    axes = len(spatial_dims)
    moved, expected = (batch.movedim(spatial_dims, tuple(range(-axes, 0))) for batch in (mixed, images.clone()))
    box = (..., *map(slice, bbox[:axes], bbox[axes:]))
    expected[box] = images[partners].movedim(spatial_dims, tuple(range(-axes, 0)))[box]
    cut = np.prod([stop - start for start, stop in zip(bbox[:axes], bbox[axes:], strict=True)])
    assert cut > 0
    assert area == 1 - cut / np.prod([shape[axis] for axis in spatial_dims])
    assert torch.equal(moved, expected)
    assert mixed.stride() == images.stride()


def test_the_cards_loop_trains():
    torch.manual_seed(0)
    images, labels = torch.randn(16, 3, 8, 12), torch.arange(16) % 4
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(288, 4))
    optimizer = torch.optim.Adam(model.parameters())
    losses = []
    for _ in range(200):
        mixed, perm, area, _ = cf.cutmix_batch(images, labels, alpha=0.2)
        outputs = model(mixed)
        loss = area * F.cross_entropy(outputs, labels) + (1 - area) * F.cross_entropy(outputs, perm)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    assert np.mean(losses[-20:]) < 0.5 * losses[0]


def test_pairs_can_be_shuffled_as_composer_does():
    partners = [
        mix(torch.zeros(3, 1, 4, 5), torch.arange(3), pairing="shuffle", generator=seeded(seed)).target_perm.tolist()
        for seed in range(40)
        for mix in (cf.cutmix_batch, cf.mixup_batch)
    ]

    assert [0, 1, 2] in partners
    assert all(sorted(permutation) == [0, 1, 2] for permutation in partners)


@given(pictures, st.floats(0.0, 1.0))
def test_mixup_blends_with_the_partners_weight(shape, mixing):
    images, labels = numbered(*shape), torch.arange(shape[0])

    mixed, partners, weight = cf.mixup_batch(images, labels, mixing)
    assert weight == mixing
    torch.testing.assert_close(mixed, (1 - mixing) * images + mixing * images[partners])


def test_mixup_keeps_the_own_sample_the_main_one():
    images, labels, generator = torch.zeros(4, 2), torch.arange(4), seeded()
    drawn = [cf.mixup_batch(images, labels, alpha=1.0, generator=generator).mixing for _ in range(2000)]

    assert max(drawn) <= 0.5
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.02)


def test_mixup_takes_samples_of_any_shape_and_partners_that_are_given():
    for shape in [(3, 5), (3, 2, 5), (3, 2, 4, 5), (3, 2, 3, 4, 5)]:
        mixed = cf.mixup_batch(numbered(*shape), torch.arange(3), 0.25, indices=torch.tensor([1, 2, 0])).mixed

        torch.testing.assert_close(mixed, 0.75 * numbered(*shape) + 0.25 * numbered(*shape)[[1, 2, 0]])


def test_mixup_that_mixes_nothing_says_so():
    assert cf.mixup_batch(torch.rand(4, 3), torch.arange(4), p=0).mixing == 0
    assert cf.mixup_batch(torch.rand(4, 3), torch.arange(4), alpha=0).mixing == 0


def test_a_partner_that_weighs_nothing_leaves_no_trace():
    samples = torch.tensor([[torch.inf, 1.0], [2.0, 3.0]])

    assert torch.equal(cf.mixup_batch(samples, torch.arange(2), mixing=0.0).mixed, samples)
    assert cf.mixup_batch(samples.nan_to_num().byte(), torch.arange(2), mixing=0.0).mixing == 0


def test_mixup_in_place():
    images = torch.rand(4, 3, 5, 6)
    fresh = cf.mixup_batch(images, torch.arange(4), generator=seeded()).mixed

    assert cf.mixup_batch(images, torch.arange(4), out=images, generator=seeded()).mixed is images
    assert torch.equal(images, fresh)
