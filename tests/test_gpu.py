"""On a GPU a batch becomes what it becomes on the host, and nobody waits for it."""

import pytest
import torch
from torch.nn import functional as F

import cutmix.functional as cf
from cutmix import mix
from cutmix.algorithms import CutMix, CutOut, LabelSmoothing, MixUp
from cutmix.losses import mixed
from cutmix.metrics import accuracy, ceiling
from cutmix.mixing import mix_by_mask
from gpus import needs_gpu, waiting_refused

pytestmark = needs_gpu

BATCH, CLASSES = 16, 5
LABELS = {
    "ids": torch.arange(BATCH) % CLASSES,
    "short ids": (torch.arange(BATCH) % CLASSES).short(),
    "rows": torch.rand(BATCH, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1),
}
RECIPES = {
    "CutMix": CutMix(),
    "CutMix, a box a sample": CutMix(per_sample=True),
    "MixUp": MixUp(),
    "MixUp, a weight a sample": MixUp(per_sample=True),
}


def seeded():
    return torch.Generator().manual_seed(3)


def pictures(**settings):
    return torch.randn(BATCH, 3, 12, 10, generator=torch.Generator().manual_seed(1)).to(**settings)


def without_waiting(call):
    """Return what ``call`` returns when it has no kernel to compile any more, and may not wait."""
    call()
    with waiting_refused():
        return call()


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_mixes_there_to_the_same_bytes(recipe, labels):
    images, targets, draw = pictures(), LABELS[labels], RECIPES[recipe]
    there = images.cuda(), targets.cuda()

    expected, target = draw(images, targets, generator=seeded())
    got, mixed_there = without_waiting(lambda: draw(*there, generator=seeded()))
    assert torch.equal(got.cpu(), expected)
    assert torch.equal(mixed_there.partner.cpu(), target.partner)
    assert torch.equal(mixed_there.kept, target.kept)


@pytest.mark.parametrize("out", [False, True])
def test_the_functions_of_the_method_card_wait_for_nothing(out):
    images, ids = pictures(device="cuda"), LABELS["ids"].cuda()
    where = {"out": images} if out else {}

    def call():
        mixed_images, partners, area, _ = cf.cutmix_batch(images, ids, alpha=1.0, **where)
        blended, others, weight = cf.mixup_batch(images, ids, **where)
        holes = CutOut()(images, **where)
        rows = cf.smooth_labels(images[:, :, 0, 0], ids % 3)
        return mixed_images, partners, blended, others, holes, rows, area, weight

    assert all(value.is_cuda for value in without_waiting(call)[:-2])


def test_a_mask_of_the_host_goes_there_without_waiting():
    images, ids = pictures(), LABELS["ids"]
    mask = torch.rand(BATCH, 12, 10, generator=torch.Generator().manual_seed(2)) > 0.5
    partners = torch.arange(BATCH).roll(1)

    expected, _ = mix_by_mask(images, ids, mask, partners)
    there = images.cuda(), ids.cuda()
    got, _ = without_waiting(lambda: mix_by_mask(*there, mask, partners))
    assert torch.equal(got.cpu(), expected)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"reduction": "none"}, {"ignore_index": 2}])
@pytest.mark.parametrize("classes", [CLASSES, 70_000 // BATCH])
def test_the_loss_and_its_gradient_are_those_of_the_host_without_waiting(recipe, labels, settings, classes):
    logits = torch.randn(BATCH, classes, generator=torch.Generator().manual_seed(4))
    targets = LABELS[labels]
    if labels == "rows":
        targets = F.pad(targets, (0, classes - CLASSES))
        settings = {name: value for name, value in settings.items() if name != "ignore_index"}
    _, target = RECIPES[recipe](pictures(), targets, generator=seeded())
    weight = torch.linspace(0.5, 1.5, classes)

    def on(device):
        own, mixed_target = logits.to(device).requires_grad_(), target.to(device)
        scale = weight.to(device)

        def call():
            loss = F.cross_entropy(own, mixed_target, scale, **settings)
            return loss.detach(), torch.autograd.grad(loss.sum(), own)[0]

        return call

    found = without_waiting(on("cuda"))
    torch.testing.assert_close([value.cpu() for value in found], list(on("cpu")()))


def test_any_loss_is_interpolated_there_without_waiting():
    _, target = RECIPES["CutMix, a box a sample"](pictures(), LABELS["ids"], generator=seeded())
    loss_fn = mixed(lambda outputs, ids: F.multi_margin_loss(outputs, ids, reduction="none"), interpolate=True)
    logits, there = torch.randn(BATCH, CLASSES, generator=seeded()), target.to("cuda")
    device_logits = logits.cuda()

    got = without_waiting(lambda: loss_fn(device_logits, there))
    torch.testing.assert_close(got.cpu(), loss_fn(logits, target))


def test_accuracy_is_measured_there_without_waiting():
    _, target = RECIPES["CutMix"](pictures(), LABELS["ids"], generator=seeded())
    logits, there = torch.randn(BATCH, CLASSES, generator=seeded()), target.to("cuda")
    device_logits = logits.cuda()

    got = without_waiting(lambda: (accuracy(device_logits, there), ceiling(there)))
    torch.testing.assert_close([value.cpu() for value in got], [accuracy(logits, target), ceiling(target)])


def test_label_smoothing_before_mixing_is_the_same_there():
    logits, ids = pictures().flatten(1)[:, :CLASSES], LABELS["ids"]
    smooth = LabelSmoothing(0.2)

    there = logits.cuda(), ids.cuda()
    got = without_waiting(lambda: smooth(*there))
    torch.testing.assert_close(got.cpu(), smooth(logits, ids))


def test_a_plan_on_the_gpu_mixes_as_on_the_host():
    images, ids = pictures(), LABELS["ids"]
    plan = CutMix(per_sample=True).draw(images.shape, generator=seeded())
    there, moved = (images.cuda(), ids.cuda()), plan.to("cuda")

    expected, target = mix(images, ids, plan)
    got, mixed_there = without_waiting(lambda: mix(*there, moved))
    assert torch.equal(got.cpu(), expected)
    assert torch.equal(mixed_there.partner.cpu(), target.partner)
    assert torch.equal(mixed_there.kept.cpu(), target.kept)
