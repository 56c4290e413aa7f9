"""A loss of several heads works mixed, whatever its target is built of."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional as F

from cutmix import CutMix, LabelSmoothing, MixedTarget, Trainer, mix
from cutmix.core.batch import split
from cutmix.losses import mixed
from strategies import numbered, plans

CATS, DOGS = 4, 6


class Heads(NamedTuple):
    cat: object
    age: object


def heads(plan):
    """Outputs and mixed targets of a head for ids, one for a number and one for pixels."""
    batch, generator = plan.batch, torch.Generator().manual_seed(0)
    targets = {
        "cat": torch.randint(CATS, (batch,), generator=generator),
        "age": torch.rand(batch, generator=generator, dtype=torch.float64),
        "mask": torch.randint(DOGS, (batch, 1, *plan.size), generator=generator),
    }
    outputs = {
        "cat": torch.randn(batch, CATS, generator=generator, dtype=torch.float64),
        "age": torch.randn(batch, generator=generator, dtype=torch.float64),
        "mask": torch.randn(batch, DOGS, 1, *plan.size, generator=generator, dtype=torch.float64),
    }
    return outputs, mix(numbered(batch, 1, *plan.size), targets, plan)[1]


def by_head(outputs, target):
    """As people write it: cross entropy on some, something else on others."""
    return (
        F.cross_entropy(outputs["cat"], target["cat"])
        + F.mse_loss(outputs["age"], target["age"])
        + F.cross_entropy(outputs["mask"], target["mask"])
    )


@given(plans())
def test_a_loss_that_calls_cross_entropy_on_each_head_just_works(plan):
    outputs, target = heads(plan)

    expected = (
        F.cross_entropy(outputs["cat"], target["cat"].dense(CATS, torch.float64))
        + F.mse_loss(outputs["age"], target["age"].dense())
        + F.cross_entropy(outputs["mask"], target["mask"])
    )
    torch.testing.assert_close(mixed(by_head)(outputs, target), expected)


def test_ids_stay_ids_beside_a_number_that_is_blended():
    ids = MixedTarget(torch.tensor([0, -100]), torch.tensor([1, 2]), torch.tensor([0.25, 0.25]).double())
    target = {"cat": ids, "age": MixedTarget(torch.tensor([1.0, 3.0]), torch.tensor([3.0, 1.0]), ids.kept)}
    outputs = {"cat": torch.randn(2, CATS), "age": torch.tensor([2.5, 1.5])}

    def loss_fn(outputs, target):
        return F.cross_entropy(outputs["cat"], target["cat"]) + F.mse_loss(outputs["age"], target["age"])

    # Rows cannot say that a label is ignored.
    torch.testing.assert_close(mixed(loss_fn)(outputs, target), F.cross_entropy(outputs["cat"], ids))


@pytest.mark.parametrize("kind", [dict, Heads, tuple, list])
def test_losses_on_rows_get_as_many_classes_as_the_outputs_at_their_place_have(kind):
    ids = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0.25, 0.75]).double())
    dogs = MixedTarget(torch.tensor([5, 1]), torch.tensor([1, 2]), ids.kept)
    outputs, target = [torch.randn(2, CATS), torch.randn(2, DOGS)], [ids, dogs]
    if kind is dict:
        outputs, target = (dict(enumerate(parts)) for parts in (outputs, target))
    elif kind is not list:
        outputs, target = (kind(*parts) if kind is Heads else kind(parts) for parts in (outputs, target))

    def loss_fn(outputs, target):
        return sum(F.binary_cross_entropy_with_logits(outputs[head], target[head]) for head in (0, 1))

    expected = loss_fn([outputs[0], outputs[1]], [ids.dense(CATS), dogs.dense(DOGS)])
    torch.testing.assert_close(mixed(loss_fn)(outputs, target), expected)


def test_outputs_that_are_built_otherwise_cannot_tell_the_classes():
    ids = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0.25, 0.75]).double())

    with pytest.raises(ValueError, match=r"outputs must be a tensor for targets\['a'\] to tell .* that holds outputs:"):
        mixed(lambda out, target: F.mse_loss(out, target["a"]))(torch.randn(2, CATS), {"a": ids})


@given(plans())
def test_interpolation_calls_the_loss_with_all_own_and_all_partners(plan):
    outputs, target = heads(plan)

    def each(outputs, target):
        return (
            F.cross_entropy(outputs["cat"], target["cat"], reduction="none")
            + F.mse_loss(outputs["age"], target["age"], reduction="none")
            + F.cross_entropy(outputs["mask"], target["mask"], reduction="none").flatten(1).mean(1)
        )

    kept = target["cat"].kept
    own, partner = ({**target, "cat": target["cat"][side], "age": target["age"][side]} for side in (0, 1))
    expected = kept * each(outputs, own) + (1 - kept) * each(outputs, partner)
    torch.testing.assert_close(mixed(each, interpolate=True)(outputs, target), expected)
    torch.testing.assert_close(mixed(each, interpolate=True, reduction="mean")(outputs, target), expected.mean())
    if len(plan.boxes) == 1:
        one = mixed(lambda *pair: each(*pair).mean(), interpolate=True)(outputs, target)
        torch.testing.assert_close(one, expected.mean())


def test_targets_of_two_plans_are_not_interpolated_together():
    one, other = (MixedTarget(torch.rand(2), torch.rand(2), torch.full((2,), kept).double()) for kept in (0.1, 0.2))

    with pytest.raises(ValueError, match=r"targets must be mixed by one plan to be interpolated together"):
        mixed(lambda *_: torch.zeros(2), interpolate=True)(None, (one, other))


@pytest.mark.parametrize("target", [{"a": torch.tensor([1])}, (torch.tensor([1]), ["name"]), "whatever", object()])
def test_plain_targets_of_any_kind_pass_through(target):
    assert mixed(lambda outputs, given: given)(None, target) is target


def test_an_error_of_the_loss_itself_is_raised_and_comes_from_the_rows():
    ids = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0.25, 0.75]).double())

    def loss_fn(outputs, target):
        F.mse_loss(outputs["a"], target["a"])
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own") as caught:
        mixed(loss_fn)({"a": torch.randn(2, 3)}, {"a": ids})
    assert "interpolate=True" in "".join(caught.value.__notes__)


@given(plans())
def test_trees_of_mixed_targets_are_cut_into_microbatches(plan):
    _, target = heads(plan)
    parts = split((torch.zeros(plan.batch, 1), target), 2)

    assert sum(len(part[1]["cat"].kept) for part in parts) == plan.batch
    for field in range(3):
        pieces = torch.cat([part[1]["cat"][field] for part in parts])
        assert torch.equal(pieces, target["cat"][field])
    assert torch.equal(torch.cat([part[1]["mask"] for part in parts]), target["mask"])


def test_ids_of_pixels_become_rows_with_classes_on_the_second_axis():
    ids = torch.randint(CATS, (2, 3, 5, 7))
    target = MixedTarget(ids[0], ids[1], torch.rand(3).double())

    rows = target.dense(CATS, torch.float64)
    assert rows.shape == (3, CATS, 5, 7)
    outputs = torch.randn(3, CATS, 5, 7).double()
    torch.testing.assert_close(F.cross_entropy(outputs, rows), nn.CrossEntropyLoss()(outputs, target))


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.cat, self.dog = nn.Linear(72, CATS), nn.Linear(72, DOGS)

    def forward(self, images):
        flat = images["rgb"].flatten(1)
        return {"cat": self.cat(flat), "dog": self.dog(flat)}


def both(outputs, target):
    return F.cross_entropy(outputs["cat"], target["cat"]) + F.cross_entropy(outputs["dog"], target["dog"])


def trained(*algorithms, loss_fn=both, **settings):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 6, 4, generator=generator)
    batches = [
        ({"rgb": images[at : at + 4]}, {"cat": torch.arange(at, at + 4) % CATS, "dog": torch.arange(at, at + 4) % DOGS})
        for at in (0, 4)
    ]
    torch.manual_seed(0)
    model = TwoHeads()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    trainer = Trainer(
        model, batches, batches, algorithms=algorithms, loss_fn=loss_fn, optimizers=optimizer, seed=0,
        progress_bar=False, metrics={"whatever": Refusing()}, **settings,
    )  # fmt: skip
    trainer.fit()
    return torch.cat([parameter.flatten() for parameter in model.parameters()])


class Refusing:
    """A metric for plain targets."""

    def update(self, outputs, target):
        assert not any(isinstance(head, MixedTarget) for head in target.values())

    def compute(self):
        return 0.0

    def reset(self):
        pass


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_trainer_mixes_heads_whole_or_in_microbatches(per_sample):
    mix = CutMix(bbox=(0, 0, 3, 4), per_sample=per_sample)

    whole, parts = trained(mix), trained(mix, device_train_microbatch_size=2)
    torch.testing.assert_close(whole, parts)
    assert not torch.equal(whole, trained())


def test_the_trainer_smooths_several_heads():
    def smoothing(outputs, target):
        smoothed = 0.2 if torch.is_grad_enabled() else 0.0
        return sum(F.cross_entropy(outputs[head], target[head], label_smoothing=smoothed) for head in outputs)

    torch.testing.assert_close(trained(CutMix(), LabelSmoothing(0.2)), trained(CutMix(), loss_fn=smoothing))
