import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import cutmix.functional as cf
from cutmix.algorithms import CutMix, MixUp, OneOf
from cutmix.draws import draw_from, draw_ring_in_each_class
from cutmix.trainer import Trainer
from strategies import numbered, seeds

SAME_CLASS = CutMix(pairing="same_class")
classes = st.lists(st.integers(-2, 4), min_size=1, max_size=40).map(torch.tensor)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(classes, seeds)
def test_a_ring_in_each_class_visits_all_of_the_class_and_nobody_else(labels, seed):
    partners = draw_ring_in_each_class(labels, seeded(seed))

    for start in range(len(labels)):
        members = (labels == labels[start]).nonzero().flatten().tolist()
        visited, sample = [], start
        for _ in members:
            sample = int(partners[sample])
            visited.append(sample)
        assert sorted(visited) == members
        assert sample == start


def test_every_ring_in_a_class_is_equally_likely():
    labels, generator = torch.tensor([7, 1, 7, 7, 1, 7]), seeded()
    drawn = [tuple(draw_ring_in_each_class(labels, generator).tolist()) for _ in range(6000)]

    counts = [drawn.count(ring) for ring in set(drawn)]
    assert len(counts) == 6
    assert chi_square(counts, 1000) < 20.5  # 5 degrees of freedom: 1 in 1000


def chi_square(counts, expected):
    return sum((count - expected) ** 2 / expected for count in counts)


@given(classes, seeds)
def test_ids_of_any_type_and_one_hot_rows_pair_alike(labels, seed):
    labels = labels + 2
    plan = SAME_CLASS.draw((len(labels), 3, 8, 12), generator=seeded(seed), labels=labels)

    for same in (labels.to(torch.uint8), labels.int(), F.one_hot(labels, 7).half()):
        assert SAME_CLASS.draw((len(labels), 3, 8, 12), generator=seeded(seed), labels=same) == plan


def test_smoothed_rows_are_paired_by_their_largest():
    rows = F.one_hot(torch.tensor([0, 1, 0, 1]), 1000).to(torch.bfloat16) * 0.9 + 0.0001
    plan = SAME_CLASS.draw((4, 3, 8, 12), labels=rows)

    assert plan.partners.tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize(
    "mix", [SAME_CLASS, OneOf([SAME_CLASS, MixUp()]), OneOf([SAME_CLASS, SAME_CLASS], per_sample=True)]
)
def test_a_mixer_takes_the_labels_from_the_targets(mix):
    images, labels = numbered(6, 1, 8, 12), torch.tensor([0, 1, 0, 1, 0, 2])
    for seed in range(20):
        _, target = mix(images, labels, generator=seeded(seed))
        if torch.equal(target.own, target.partner):
            return
    raise AssertionError(target)


def test_who_is_alone_in_its_class_stays_as_it_is():
    images, labels = numbered(3, 1, 8, 12), torch.tensor([0, 1, 0])
    mixed, target, _, _ = cf.cutmix_batch(images, labels, length=0.5, pairing="same_class")

    assert torch.equal(mixed[1], images[1])
    assert not torch.equal(mixed[0], images[0])
    assert torch.equal(target, labels)


def test_it_trains_on_rows_too():
    batches = [(torch.rand(6, 3, 8, 12), F.one_hot(torch.arange(6) % 3).float())]
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(288, 3))

    Trainer(model, batches, algorithms=SAME_CLASS, progress_bar=False).fit()


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (None, TypeError, r"labels must be a torch\.Tensor .* got NoneType: draw\(images\.shape, labels=target\)"),
        ([0, 1, 0, 1], TypeError, r"got list"),
        (torch.tensor([0, 1, 0]), ValueError, r"labels must be class ids \(4,\) .* got torch\.int64 of shape \(3,\)"),
        (torch.rand(4), ValueError, r"got torch\.float32 of shape \(4,\)"),
        (torch.zeros(4, 3, dtype=torch.int64), ValueError, r"got torch\.int64 of shape \(4, 3\)"),
        (torch.tensor([[1.0, 0], [0, 1], [1, 1], [1, 0]]), ValueError, r"got row 2 that does not: multi-label"),
        (torch.tensor([[1.5, -0.5], [0, 1], [1, 0], [1, 0]]), ValueError, r"got row 0 that does not"),
        (torch.full((4, 2), float("nan")), ValueError, r"got row 0 that does not"),
        (torch.tensor([True, False, True, False]), ValueError, r"got torch\.bool of shape \(4,\)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, error, words):
    with pytest.raises(error, match=words):
        SAME_CLASS.draw((4, 3, 8, 12), labels=labels)


@given(st.integers(1, 30), st.integers(1, 30), seeds)
def test_partners_from_another_batch_repeat_only_when_all_were_drawn(source, batch, seed):
    partners = draw_from(source, batch, seeded(seed))

    counts = partners.bincount(minlength=source)
    assert len(partners) == batch
    assert len(counts) == source
    assert counts.max() - counts.min() <= 1


def test_each_of_another_batch_is_drawn_equally_often_for_each_sample():
    generator = seeded()
    drawn = torch.stack([draw_from(5, 3, generator) for _ in range(5000)])

    for partners in drawn.T:
        assert chi_square(partners.bincount(minlength=5).tolist(), 1000) < 18.5  # 4 degrees of freedom: 1 in 1000


@pytest.mark.parametrize(
    "recipe", [CutMix(length=0.5), MixUp(mixing=0.3), OneOf([CutMix(length=0.5), MixUp(mixing=0.3)], per_sample=True)]
)
def test_a_batch_of_one_is_mixed_with_another_batch(recipe):
    plan = recipe.draw((1, 3, 8, 12), source=7, generator=seeded(3))

    assert plan.kept.item() < 1
    assert 0 <= plan.partners.item() < 7


def test_another_batch_has_no_classes_to_pair_by():
    with pytest.raises(ValueError, match=r"pairing must not be 'same_class' with source="):
        SAME_CLASS.draw((4, 3, 8, 12), labels=torch.arange(4), source=4)
    with pytest.raises(ValueError, match=r"source must hold at least one sample, got 0"):
        CutMix().draw((4, 3, 8, 12), source=0)
