import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F

import cutmix.functional as cf
import test_pages
from cutmix import CutMix, MixUp, OneOf, mix
from cutmix.losses import mixed

STEPS = 50
IMAGES, LABELS = torch.rand(6, 3, 10, 14), torch.arange(6) % 5
RECIPES = [
    CutMix(),
    CutMix(alpha=0.5, p=0.5),
    CutMix(uniform_sampling=True),
    CutMix(length=0.5),
    CutMix(per_sample=True, p=0.5),
    CutMix(pairing="shuffle", min_max=(0.2, 0.8)),
    CutMix(pairing="same_class"),
    MixUp(),
    MixUp(per_sample=True),
    OneOf([MixUp(0.8), CutMix()], per_sample=True),
]


@pytest.fixture
def counter():
    torch._dynamo.reset()
    return CompileCounterWithBackend("aot_eager")


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_step_takes_every_plan_with_one_compilation(counter, per_sample):
    network = model()

    def loss_of(images, labels, plan):
        images, target = mix(images, labels, plan)
        return F.cross_entropy(network(images), target)

    step = torch.compile(loss_of, fullgraph=True, backend=counter)
    for number in range(STEPS):
        plan = CutMix(alpha=0.1 + number, per_sample=per_sample).draw(IMAGES.shape)
        loss = step(IMAGES, LABELS, plan)
        loss.backward()
        assert loss.item() == pytest.approx(loss_of(IMAGES, LABELS, plan).item(), rel=1e-5)
    assert counter.frame_count == 1


def test_a_step_that_has_seen_a_paste_blends_what_comes_after(counter):
    step = torch.compile(lambda images, plan: mix(images, LABELS, plan)[0], fullgraph=True, backend=counter)
    for recipe in (CutMix(), MixUp(1.0), CutMix(), MixUp(1.0)):
        plan = recipe.draw(IMAGES.shape)

        assert torch.allclose(step(IMAGES, plan), mix(IMAGES, LABELS, plan)[0])
    assert counter.frame_count == 1


def test_indices_may_be_handed_in(counter):
    step = torch.compile(
        lambda indices: cf.cutmix_batch(IMAGES, LABELS, indices=indices), fullgraph=True, backend=counter
    )

    assert torch.equal(step(torch.tensor([1, 0, 3, 2, 5, 4])).target_perm, LABELS[[1, 0, 3, 2, 5, 4]])


def test_an_uneven_last_batch_costs_one_compilation_more(counter):
    step = torch.compile(lambda images, plan: mix(images, LABELS[: len(images)], plan), fullgraph=True, backend=counter)
    for size in [6] * 5 + [4] + [6] * 5 + [4]:
        step(IMAGES[:size], CutMix().draw(IMAGES[:size].shape))

    assert counter.frame_count == 2


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_a_plan_is_drawn_inside_with_one_compilation(counter, recipe):
    network = model()

    @torch.compile(fullgraph=True, backend=counter)
    def step(images, labels):
        mixed_images, target = recipe(images, labels)
        return F.cross_entropy(network(mixed_images), target), mixed_images, target

    seen = set()
    for _ in range(STEPS if recipe == RECIPES[0] else 5):
        loss, images, target = step(IMAGES, LABELS)
        loss.backward()
        seen.add(target.kept.sum().item())
        assert loss.item() == pytest.approx(F.cross_entropy(network(images), target).item(), rel=1e-5)
    assert counter.frame_count == 1
    assert len(seen) > 1 or recipe.length


def test_a_changing_alpha_enters_as_a_tensor(counter):
    samples = torch.arange(len(IMAGES))
    step = torch.compile(lambda alpha: cf.cutmix_batch(IMAGES, samples, alpha=alpha), fullgraph=True, backend=counter)
    for number in range(STEPS):
        images, partners, area, bbox = step(torch.tensor(0.1 + number))
        top, left, bottom, right = bbox.tolist()
        assert area.item() == pytest.approx(1 - (bottom - top) * (right - left) / 140)
        expected = IMAGES.clone()
        expected[..., top:bottom, left:right] = IMAGES[partners][..., top:bottom, left:right]
        assert torch.equal(images, expected)

    assert counter.frame_count == 1


def test_a_changing_p_enters_as_a_tensor(counter):
    step = torch.compile(lambda p: CutMix(length=0.5, p=p)(IMAGES, LABELS)[1].kept, fullgraph=True, backend=counter)
    mixed_batches = [sum((step(torch.tensor(p)) < 1).all().item() for _ in range(20)) for p in (0.0, 0.5, 1.0)]

    assert mixed_batches[0] == 0
    assert 0 < mixed_batches[1] < 20
    assert mixed_batches[2] == 20
    assert counter.frame_count == 1


def test_partners_of_another_batch_are_drawn_inside(counter):
    others = (-1 - torch.rand(9, 3, 10, 14), torch.arange(9) + 10)
    step = torch.compile(lambda: CutMix(length=0.5)(IMAGES, LABELS, source=others), fullgraph=True, backend=counter)
    seen = [step() for _ in range(5)]

    assert all((target.partner >= 10).all() and (images < 0).any() for images, target in seen)
    assert len({tuple(target.partner.tolist()) for _, target in seen}) > 1
    assert counter.frame_count == 1


def test_a_choice_for_the_whole_batch_is_refused_inside_with_the_remedy(counter):
    step = torch.compile(OneOf([MixUp(0.8), CutMix()]), fullgraph=True, backend=counter)

    with pytest.raises(Exception, match=r"(?s)OneOf must choose.*draw there and hand the plan in"):
        step(IMAGES, LABELS)


def test_the_cards_line_runs_inside(counter):
    network = model()

    @torch.compile(fullgraph=True, backend=counter)
    def step(images, labels):
        images, perm, area, _ = cf.cutmix_batch(images, labels, alpha=0.2)
        outputs = network(images)
        return area * F.cross_entropy(outputs, labels) + (1 - area) * F.cross_entropy(outputs, perm)

    for _ in range(5):
        step(IMAGES, LABELS).backward()
    assert counter.frame_count == 1


@pytest.mark.parametrize("loss_fn", [nn.CrossEntropyLoss(label_smoothing=0.1), mixed(nn.BCEWithLogitsLoss())])
def test_every_loss_takes_its_target_inside(counter, loss_fn):
    outputs = torch.randn(6, 5)

    def loss_of(plan):
        return loss_fn(outputs, mix(IMAGES, LABELS, plan)[1])

    plan = CutMix(per_sample=True).draw(IMAGES.shape)
    assert torch.compile(loss_of, fullgraph=True, backend=counter)(plan).item() == pytest.approx(loss_of(plan).item())


def test_out_is_written_inside(counter):
    out, plan = torch.zeros_like(IMAGES), CutMix().draw(IMAGES.shape)
    step = torch.compile(lambda images, out: mix(images, LABELS, plan, out=out)[0], fullgraph=True, backend=counter)

    step(IMAGES, out)
    assert torch.equal(out, mix(IMAGES, LABELS, plan)[0])


def test_a_generator_is_refused_inside_with_the_remedy(counter):
    generator = torch.Generator()
    step = torch.compile(lambda images: CutMix()(images, LABELS, generator=generator), fullgraph=True, backend=counter)

    with pytest.raises(Exception, match=r"(?s)generator must be left out inside torch\.compile.*draw outside"):
        step(IMAGES)


def test_the_code_in_the_page_about_it_runs():
    test_pages.run(test_pages.COMPILED)
