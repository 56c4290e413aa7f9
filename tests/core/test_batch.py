"""Batches of every kind are read, replaced, cut and moved alike."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from cutmix.core.batch import get_item, num_samples, set_item, split, to_device
from cutmix.targets import MixedTarget
from cutmix.trees import leaves


class Pair(NamedTuple):
    image: torch.Tensor
    label: torch.Tensor


@dataclass(frozen=True)
class Record:
    image: torch.Tensor
    label: torch.Tensor


IMAGES = torch.arange(10.0).view(5, 2)
LABELS = torch.arange(5)
PAIR_OF_FUNCTIONS = (lambda batch: batch["deep"]["image"], lambda batch, value: {**batch, "deep": {"image": value}})
KINDS = {
    "tuple": ((IMAGES, LABELS), 0),
    "tuple from behind": ((IMAGES, LABELS), -2),
    "list": ([IMAGES, LABELS], 0),
    "dict": ({"image": IMAGES, "label": LABELS}, "image"),
    "named tuple by index": (Pair(IMAGES, LABELS), 0),
    "named tuple by name": (Pair(IMAGES, LABELS), "image"),
    "frozen dataclass": (Record(IMAGES, LABELS), "image"),
    "getter-setter pair": ({"deep": {"image": IMAGES}, "label": LABELS}, PAIR_OF_FUNCTIONS),
}
every_kind = pytest.mark.parametrize(("batch", "key"), KINDS.values(), ids=KINDS)


@every_kind
def test_an_item_is_read_and_replaced_in_a_batch_of_its_own(batch, key):
    fresh = set_item(batch, key, IMAGES + 1)

    assert type(fresh) is type(batch)
    assert get_item(fresh, key).equal(IMAGES + 1)
    assert get_item(batch, key) is IMAGES


@every_kind
def test_a_batch_is_cut_into_parts_of_at_most_the_size(batch, key):
    parts = split(batch, 2)

    assert [type(part) for part in parts] == [type(batch)] * 3
    assert [num_samples(part) for part in parts] == [2, 2, 1]
    assert torch.cat([get_item(part, key) for part in parts]).equal(IMAGES)


@every_kind
def test_a_moved_batch_has_containers_of_its_own(batch, key):
    moved = to_device(batch, torch.device("meta"))

    assert get_item(moved, key).is_meta
    assert get_item(batch, key) is IMAGES


def test_a_mixed_target_is_a_leaf_that_is_cut_field_by_field():
    target = MixedTarget(LABELS, LABELS.flip(0), torch.linspace(0, 1, 5, dtype=torch.float64))

    parts = split((IMAGES, target), 3)
    moved = to_device((IMAGES, target), torch.device("meta"))[1]

    assert [len(part[1].kept) for part in parts] == [3, 2]
    assert torch.cat([part[1].partner for part in parts]).equal(target.partner)
    assert leaves((IMAGES, target))[1] is target
    assert moved.own.is_meta
    assert not moved.kept.is_meta


def test_names_are_cut_with_the_samples_and_a_scale_is_not():
    batch = {"image": IMAGES, "name": list("abcde"), "scale": torch.tensor(2.0), "source": "here"}

    last = split(batch, 2)[-1]

    assert (last["name"], last["scale"], last["source"]) == (["e"], batch["scale"], "here")


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_as_many_tensors_as_there_are_samples_is_cut_as_a_list(kind):
    boxes = kind(torch.full((5, 4), float(number)) for number in range(5))

    parts = split((IMAGES, {"boxes": boxes}), 2)

    assert [type(part[1]["boxes"]) for part in parts] == [kind] * 3
    assert [[int(box[0, 0]) for box in part[1]["boxes"]] for part in parts] == [[0, 1], [2, 3], [4]]
    assert all(len(box) == 5 for part in parts for box in part[1]["boxes"])


def test_a_batch_of_as_many_parts_as_samples_is_cut_part_by_part():
    batch = [IMAGES[:2], Pair(IMAGES[2:4], LABELS[:2])]

    (images, pair), _ = split(batch, 1)

    assert images.equal(IMAGES[:1])
    assert pair.label.equal(LABELS[:1])


def test_a_tensor_of_another_length_cannot_be_cut_into_microbatches():
    with pytest.raises(ValueError, match=r"device_train_microbatch_size .* 5, got one of 3; leave it None"):
        split((IMAGES, torch.zeros(3)), 2)


@pytest.mark.parametrize(
    ("batch", "key", "said"),
    [
        ({"img": IMAGES}, 0, "a dict of 'img'"),
        ((IMAGES,), 1, "a tuple of 1"),
        ((IMAGES, LABELS), "image", "a tuple of 2"),
        (Record(IMAGES, LABELS), 0, "a Record of image, label"),
        (IMAGES, 0, "a Tensor"),
    ],
)
def test_a_key_that_the_batch_does_not_hold_is_named_with_what_it_holds(batch, key, said):
    with pytest.raises(ValueError, match="input_key or target_key") as caught:
        set_item(batch, key, IMAGES)

    assert repr(key) in str(caught.value)
    assert said in str(caught.value)


def test_an_object_with_a_move_of_its_own_is_moved_by_it():
    graph = SimpleNamespace(to=lambda device: f"on {device}")

    assert to_device(graph, torch.device("cpu")) == "on cpu"


def test_a_batch_without_samples_to_count_is_refused():
    with pytest.raises(TypeError, match="a batch must hold a tensor with an axis of samples, got a tuple of 2"):
        num_samples(("a", 3))
