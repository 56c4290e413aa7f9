import pickle
from dataclasses import FrozenInstanceError, dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from cutmix.algorithms import CutMix, MixUp
from cutmix.keys import generator_for
from cutmix.losses import mixed
from cutmix.mixing import mix as mix_by_plan
from cutmix.targets import MixedTarget
from cutmix.trainer import Trainer
from strategies import numbered

IMAGES, LABELS = numbered(4, 3, 6, 9), torch.arange(4)


class Named(NamedTuple):
    picture: torch.Tensor
    label: torch.Tensor


@dataclass
class Record:
    picture: torch.Tensor
    label: torch.Tensor


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("mix", [CutMix(alpha=1.0), MixUp(alpha=0.2)])
def test_it_mixes_in_a_plain_loop(mix):
    images, target = mix(IMAGES, LABELS, generator=seeded())

    assert not torch.equal(images, IMAGES)
    assert isinstance(target, MixedTarget)
    assert (target.kept < 1).all()


@pytest.mark.parametrize(
    ("batch", "keys"),
    [
        ((IMAGES, LABELS), (None, None)),
        ([IMAGES, LABELS, "more"], (None, None)),
        ({"x": IMAGES, "y": LABELS}, ("x", "y")),
        (Named(IMAGES, LABELS), ("picture", "label")),
        (Record(IMAGES, LABELS), ("picture", "label")),
    ],
)
def test_a_batch_is_mixed_at_its_keys_and_returned_anew(batch, keys):
    mixed = CutMix(input_key=keys[0], target_key=keys[1])(batch, generator=seeded())
    images, target = CutMix()(IMAGES, LABELS, generator=seeded())

    assert type(mixed) is type(batch)
    assert mixed is not batch
    first, second = (keys[0] or 0, keys[1] or 1)
    read = getattr if isinstance(batch, Record | Named) else lambda where, key: where[key]
    assert torch.equal(read(mixed, first), images)
    assert torch.equal(read(mixed, second).partner, target.partner)
    assert torch.equal(read(batch, first), IMAGES)


@pytest.mark.parametrize("mix", [CutMix(alpha=0.5, p=0.5), MixUp()])
def test_it_survives_pickling_and_compares_by_value(mix):
    assert pickle.loads(pickle.dumps(mix)) == mix
    assert pickle.loads(pickle.dumps(mix.collate())) == mix.collate()


@pytest.mark.parametrize("workers", [0, 2])
def test_it_collates_in_a_loader_also_in_spawned_workers(workers):
    context = "spawn" if workers else None
    loader = DataLoader(
        TensorDataset(IMAGES, LABELS),
        batch_size=4,
        collate_fn=CutMix(length=0.5).collate(),
        num_workers=workers,
        multiprocessing_context=context,
    )
    ((images, target),) = list(loader)

    assert isinstance(target, MixedTarget)
    assert (target.kept < 1).all()
    assert not torch.equal(images, IMAGES)


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        CutMix().alpha = 2.0


def test_the_positions_of_composers_arguments_are_kept():
    assert CutMix(0.5, True, True, "x", "y") == CutMix(
        alpha=0.5, interpolate_loss=True, uniform_sampling=True, input_key="x", target_key="y"
    )
    assert MixUp(0.5, True, "x", "y") == MixUp(alpha=0.5, interpolate_loss=True, input_key="x", target_key="y")


def test_a_keyed_loop_on_two_ranks_draws_different_plans_and_repeats_them():
    def drawn(rank):
        return [CutMix().draw((4, 3, 32, 48), generator=generator_for(0, step, rank)) for step in range(200)]

    one, other = drawn(0), drawn(1)
    assert sum(left != right for left, right in zip(one, other, strict=True)) >= 198
    assert drawn(0) == one


def test_shuffled_pairs_may_pair_with_themselves():
    labels = torch.arange(3)
    targets = [CutMix(pairing="shuffle")(IMAGES[:3], labels, generator=generator_for(0, step))[1] for step in range(50)]

    assert any((target.own == target.partner).any() for target in targets)
    assert all(sorted(target.partner.tolist()) == [0, 1, 2] for target in targets)


def trainer_with(*algorithms, **settings):
    model = nn.Sequential(nn.Flatten(), nn.Linear(162, 4))
    batches = [(IMAGES.float(), LABELS)] * 2
    return Trainer(model, batches, algorithms=list(algorithms), progress_bar=False, seed=1, **settings)


def test_in_the_trainer_the_loss_takes_mixed_targets_and_is_wrapped_once():
    trainer = trainer_with(CutMix(interpolate_loss=True))
    trainer.fit()
    wrapped = trainer.state.loss_fn
    trainer.fit(duration="1ep")

    assert wrapped == mixed(F.cross_entropy, interpolate=True)
    assert trainer.state.loss_fn is wrapped


def test_interpolated_and_on_rows_the_trainer_comes_to_the_same_loss():
    losses = []
    for interpolate in (True, False):
        torch.manual_seed(0)
        trainer = trainer_with(CutMix(interpolate_loss=interpolate), loss_fn=nn.CrossEntropyLoss())
        trainer.fit()
        losses.append(trainer.state.train_metrics["train/loss"])

    torch.testing.assert_close(*losses)


def test_a_mixer_s_keys_go_before_the_trainer_s():
    batches = [{"x": IMAGES.float(), "y": LABELS, "other": IMAGES.float()}]
    model = nn.Sequential(nn.Flatten(), nn.Linear(162, 4))
    trainer = Trainer(
        model, batches, algorithms=CutMix(input_key="other"), input_key="x", target_key="y", progress_bar=False
    )
    trainer.fit()

    assert torch.equal(trainer.state.batch["x"], IMAGES.float())
    assert not torch.equal(trainer.state.batch["other"], IMAGES.float())


@pytest.mark.parametrize("mix", [CutMix(spatial_dims=(1, 2)), MixUp(alpha=1.0, spatial_dims=(1, 2))])
def test_a_mixer_cuts_the_axes_that_it_is_told(mix):
    last = IMAGES.movedim(1, -1)
    images, target = mix(last, LABELS, generator=seeded())
    plan = mix.draw(last.shape, generator=seeded())

    assert plan.size == (6, 9)
    assert torch.equal(images.movedim(-1, 1), mix_by_plan(IMAGES, LABELS, plan)[0])
    assert torch.equal(target.kept, plan.kept)
