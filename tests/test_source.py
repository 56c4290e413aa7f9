from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cutmix.functional as cf
from cutmix.algorithms import CutMix, MixUp, OneOf
from cutmix.trainer import Trainer
from strategies import numbered, seeds


class Pair(NamedTuple):
    images: Any
    labels: Any


IMAGES, LABELS = numbered(4, 3, 8, 12), torch.arange(4)
OTHERS = (-1 - numbered(7, 3, 8, 12), torch.arange(7) + 10)
RECIPES = [CutMix(length=0.5), MixUp(mixing=0.3), OneOf([CutMix(per_sample=True), MixUp(1.0)], per_sample=True)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(st.sampled_from(RECIPES), st.integers(1, 4), st.integers(1, 7), seeds)
def test_what_a_sample_shows_of_its_partner_comes_from_the_other_batch(recipe, batch, others, seed):
    images, labels, source = IMAGES[:batch], LABELS[:batch], (OTHERS[0][:others], OTHERS[1][:others])
    plan = recipe.draw(images.shape, source=others, generator=seeded(seed))
    mixed, target = recipe(images, labels, source=source, generator=seeded(seed))

    assert torch.equal(target.own, labels)
    assert torch.equal(target.partner, source[1][plan.partners])
    assert torch.equal(target.kept, plan.kept)
    for sample, (start, stop) in enumerate(plan.boxes.expand(batch, 2, 2).tolist()):
        cut = (sample, slice(None), *map(slice, start, stop))
        expected = images.clone()
        expected[cut].lerp_(source[0][plan.partners[sample]][cut[1:]], plan.opacity.expand(batch)[sample].item())
        torch.testing.assert_close(mixed[sample], expected[sample])


@pytest.mark.parametrize("wrap", [tuple, list, lambda pair: Pair(*pair), lambda pair: {0: pair[0], 1: pair[1]}])
def test_another_batch_is_read_by_the_keys_of_the_first(wrap):
    mixed = CutMix(length=0.5)(wrap((IMAGES, LABELS)), source=wrap(OTHERS), generator=seeded())
    images, target = CutMix(length=0.5)(IMAGES, LABELS, source=OTHERS, generator=seeded())

    assert type(mixed) is type(wrap((IMAGES, LABELS)))
    assert torch.equal(mixed[0], images)
    assert torch.equal(mixed[1].partner, target.partner)


@pytest.mark.parametrize("function", [cf.cutmix_batch, cf.mixup_batch])
@pytest.mark.parametrize("per_sample", [False, True])
def test_the_functions_of_the_card_take_another_batch(function, per_sample):
    mixed, perm, *_ = function(IMAGES, LABELS, alpha=1.0, per_sample=per_sample, source=OTHERS, generator=seeded(1))

    assert (perm >= 10).all()
    assert len(set(perm.tolist())) == 4
    assert (mixed != IMAGES).any()
    assert function(IMAGES[:1], LABELS[:1], alpha=1.0, source=OTHERS, generator=seeded(1))[1].item() >= 10


def test_given_partners_are_positions_in_the_other_batch():
    mixed, perm, _, _ = cf.cutmix_batch(
        IMAGES, LABELS, bbox=(0, 0, 8, 12), indices=torch.tensor([6, 6, 0, 5]), source=OTHERS
    )

    assert perm.tolist() == [16, 16, 10, 15]
    assert torch.equal(mixed, OTHERS[0][[6, 6, 0, 5]])
    with pytest.raises(ValueError, match=r"indices must be 4 whole numbers in \[0, 7\)"):
        cf.cutmix_batch(IMAGES, LABELS, indices=torch.tensor([7, 0, 0, 0]), source=OTHERS)


def test_in_place_the_other_batch_stays_as_it_is():
    images, others = IMAGES.clone(), OTHERS[0].clone()
    mixed = cf.cutmix_batch(images, LABELS, length=0.5, source=(others, OTHERS[1]), out=images).mixed

    assert mixed is images
    assert (images < 0).any()
    assert torch.equal(others, OTHERS[0])


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (OTHERS[0], TypeError, r"source must be a pair \(images, targets\), got Tensor"),
        ((OTHERS[0], OTHERS[1][:3]), ValueError, r"source's targets must have one entry an image.*got shape \(3,\)"),
        ((OTHERS[0].numpy(), OTHERS[1]), TypeError, r"source's images must be a torch\.Tensor, got ndarray"),
        (
            (OTHERS[0][:0], OTHERS[1][:0]),
            ValueError,
            r"source's targets must have one entry an image, and at least one",
        ),
        ((OTHERS[0].float(), OTHERS[1]), ValueError, r"source must have samples like images"),
        ((OTHERS[0][..., :6], OTHERS[1]), ValueError, r"source must have samples like images, \(3, 8, 12\)"),
    ],
)
def test_another_batch_that_does_not_fit_is_refused(source, error, words):
    images = IMAGES.clone()
    for mix in (CutMix(), lambda images, labels, source: cf.cutmix_batch(images, labels, out=images, source=source)):
        with pytest.raises(error, match=words):
            mix(images, LABELS, source=source)
    assert torch.equal(images, IMAGES)


TREE = {"rgb": IMAGES.float(), "depth": numbered(4, 8, 12, dtype=torch.float32)}
HEADS = {"kind": LABELS % 2, "map": numbered(4, 8, 12, dtype=torch.int64)}


def test_trees_of_images_and_targets_are_mixed_by_one_plan():
    images, targets = CutMix(length=0.5)(TREE, HEADS, generator=seeded())
    plan = CutMix(length=0.5).draw(TREE["rgb"].shape, generator=seeded())
    top, left, bottom, right = plan.bbox

    box = (slice(top, bottom), slice(left, right))
    for mixed, own in ((images["rgb"], TREE["rgb"]), (images["depth"], TREE["depth"]), (targets["map"], HEADS["map"])):
        assert torch.equal(mixed[..., *box], own[plan.partners][..., *box])
        assert not torch.equal(mixed, own)
    assert torch.equal(targets["kind"].partner, HEADS["kind"][plan.partners])


def test_in_a_tree_of_targets_the_class_is_the_one_tensor_of_ids():
    mixed = CutMix(pairing="same_class")(TREE, HEADS)[1]["kind"]

    assert torch.equal(mixed.own, mixed.partner)
    with pytest.raises(
        ValueError, match=r"got targets\['a'\] and targets\['b'\] of targets\['a'\], targets\['b'\]: say"
    ):
        CutMix(pairing="same_class")(IMAGES, {"a": LABELS, "b": LABELS})
    with pytest.raises(ValueError, match=r"got none of targets\['map'\]: say"):
        CutMix(pairing="same_class")(IMAGES, {"map": HEADS["map"]})


def test_the_trainer_mixes_trees():
    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, images):
            return self.weight * images["rgb"].mean((2, 3)) + images["depth"].mean((1, 2))[:, None]

    Trainer(Both(), [(TREE, LABELS % 3)] * 2, algorithms=CutMix(), progress_bar=False, seed=0).fit()
