import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import cutmix.functional as cf
from cutmix.algorithms import CutMix, MixUp
from cutmix.draws import draw_betas_and_chances, draw_ring
from cutmix.trainer import Trainer
from strategies import numbered, seeds
from test_functional import the_authors_box, the_authors_mix

pictures = st.tuples(st.integers(2, 6), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(pictures, st.sampled_from([0.2, 1.0]), seeds)
def test_each_image_gets_the_bytes_of_the_authors_rule_with_a_box_of_its_own(shape, alpha, seed):
    images, labels = numbered(*shape, dtype=torch.float32), torch.arange(shape[0])
    mixed, perm, area, bbox = cf.cutmix_batch(images, labels, alpha=alpha, per_sample=True, generator=seeded(seed))

    draws = seeded(seed)
    partners, (lams, chances) = draw_ring(shape[0], draws), draw_betas_and_chances(alpha, shape[0], 2, draws)
    assert torch.equal(perm, labels[partners])
    for sample in range(shape[0]):
        centre = [int(side * chance) for side, chance in zip(shape[2:], chances[:, sample], strict=True)]
        box = the_authors_box(shape, lams[sample], centre)
        expected, kept = the_authors_mix(images, partners, box)
        assert torch.equal(mixed[sample], expected[sample])
        assert tuple(bbox[sample].tolist()) == tuple(box)
        assert area[sample].item() == pytest.approx(kept, abs=1e-7)


def test_the_shapes_are_those_of_the_batch():
    images = torch.zeros(5, 3, 8, 12)
    mixed = cf.cutmix_batch(images, torch.arange(5), per_sample=True)

    assert (mixed.area.shape, mixed.area.dtype, mixed.area.device) == ((5,), torch.float32, images.device)
    assert (mixed.bbox.shape, mixed.bbox.dtype) == ((5, 4), torch.int64)
    assert cf.cutmix_batch(images, torch.arange(5), per_sample=True, p=0).bbox.tolist() == [[0, 0, 0, 0]] * 5
    assert cf.mixup_batch(images, torch.arange(5), per_sample=True).mixing.shape == (5,)


@pytest.mark.parametrize("recipe", [CutMix(per_sample=True), MixUp(per_sample=True)])
def test_plans_of_one_batch_have_one_shape_so_that_a_graph_can_replay_any_into_the_same_memory(recipe):
    plan = recipe.draw((6, 3, 8, 12), generator=seeded())

    assert (plan.partners.shape, plan.opacity.shape, plan.boxes.shape) == ((6,), (6,), (6, 2, 2))


def test_the_share_of_mixed_samples_is_p():
    images, generator = torch.zeros(50, 1, 30, 40), seeded()
    areas = [
        cf.cutmix_batch(images, torch.arange(50), length=0.5, per_sample=True, p=0.3, generator=generator).area
        for _ in range(60)
    ]

    assert (torch.stack(areas) < 1).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert all(((area < 1).any() and (area == 1).any()) for area in areas)


def test_places_and_sizes_differ_between_samples():
    boxes = CutMix(per_sample=True).draw((64, 3, 32, 48), generator=seeded()).boxes

    assert len({tuple(box.flatten().tolist()) for box in boxes}) > 50


@given(seeds)
def test_each_sample_is_blended_by_a_weight_of_its_own(seed):
    samples, labels = torch.rand(4, 3, 5, dtype=torch.float64), torch.arange(4)
    mixed, partners, mixing = cf.mixup_batch(samples, labels, alpha=1.0, per_sample=True, generator=seeded(seed))

    weights = mixing.double().view(-1, 1, 1)
    torch.testing.assert_close(mixed, (1 - weights) * samples + weights * samples[partners], atol=1e-6, rtol=1e-6)
    assert (mixing <= 0.5).all()
    assert len(set(mixing.tolist())) == 4


def test_the_cards_loss_line_fails_loudly_and_the_one_per_sample_is_the_loss():
    images, labels = torch.rand(6, 3, 8, 12), torch.arange(6) % 4
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(288, 4))
    mixed, perm, area, _ = cf.cutmix_batch(images, labels, per_sample=True, generator=seeded())
    outputs = model(mixed)

    with pytest.raises(RuntimeError, match="scalar outputs"):
        (area * F.cross_entropy(outputs, labels) + (1 - area) * F.cross_entropy(outputs, perm)).backward()
    own, other = (F.cross_entropy(outputs, target, reduction="none") for target in (labels, perm))
    _, target = CutMix(per_sample=True)(images, labels, generator=seeded())
    torch.testing.assert_close((area * own + (1 - area) * other).mean(), F.cross_entropy(outputs, target))


@pytest.mark.parametrize("recipe", [CutMix(per_sample=True, p=0.7), MixUp(alpha=1.0, per_sample=True)])
def test_it_trains_and_microbatches_do_not_matter(recipe):
    images, labels = torch.rand(6, 3, 8, 12), torch.arange(6) % 4
    weights = []
    for size in (None, 2):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(288, 4))
        settings = {"device_train_microbatch_size": size, "seed": 1, "progress_bar": False}
        Trainer(model, [(images, labels)] * 3, algorithms=recipe, **settings).fit()
        weights.append(model[1].weight.detach())

    torch.testing.assert_close(*weights)


def test_a_loss_of_one_number_cannot_be_interpolated_sample_by_sample():
    batches = [(torch.rand(6, 3, 8, 12), torch.arange(6) % 4)]
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(288, 4))

    with pytest.raises(ValueError, match=r"pass it with reduction='none'"):
        Trainer(
            model,
            batches,
            algorithms=CutMix(per_sample=True, interpolate_loss=True),
            loss_fn=lambda outputs, ids: torch.nn.functional.cross_entropy(outputs, ids),  # noqa: PLW0108 - not torch's own
            progress_bar=False,
        ).fit()


def test_a_batch_of_one_is_left_as_it_is():
    images = torch.rand(1, 3, 8, 12)

    mixed = cf.cutmix_batch(images, torch.tensor([3]), per_sample=True)
    assert torch.equal(mixed.mixed, images)
    assert mixed.area.tolist() == [1.0]
