"""The mixed cross entropy: what it costs, how often it can be derived, which labels it refuses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import grad, hessian, vmap
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from cutmix.crossentropy import log_softmax_at
from cutmix.targets import MixedTarget
from strategies import seeds

BATCH, CLASSES = 32, 5000


def target_for(each, batch=BATCH, classes=CLASSES, dtype=torch.int64):
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(batch, generator=generator, dtype=torch.float64)
    ids = torch.randint(classes, (2, batch), generator=generator).to(dtype)
    return MixedTarget(*ids, kept if each else kept[:1].expand(batch))


def peak_of(loss_fn, dtype):
    """The most bytes that forward and backward hold at once, beyond the logits."""
    logits = torch.randn(BATCH, CLASSES).to(dtype).requires_grad_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watch:
        loss_fn(logits).backward()
    held = most = 0
    for event in watch.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"weight": torch.ones(CLASSES)}])
@pytest.mark.parametrize("each", [False, True])
def test_it_holds_no_more_than_the_plain_cross_entropy_and_a_few_vectors(each, settings):
    target = target_for(each)

    plain = peak_of(lambda logits: F.cross_entropy(logits, target.own, **settings), torch.float32)
    assert plain >= 2 * BATCH * CLASSES * 4
    assert peak_of(lambda logits: F.cross_entropy(logits, target, **settings), torch.float32) <= plain + 64 * BATCH * 8


@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([0.0, 30.0, 1e4]), seeds)
def test_looking_a_class_up_finds_what_log_softmax_gives(batch, classes, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, 3, generator=generator) * spread + spread
    logits[0, 0] = -torch.inf if classes > 1 else 0.0
    ids = torch.randint(classes, (batch, 2, 3), generator=generator)

    torch.testing.assert_close(log_softmax_at(logits, ids), logits.log_softmax(1).gather(1, ids))


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # torch's own, in torch.func
def test_looking_a_class_up_can_be_derived_forward_and_backward_and_by_the_batch():
    logits, ids = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.randint(5, (4, 2))

    def found(logits):
        return log_softmax_at(logits, ids).square().sum()

    def expected(logits):
        return logits.log_softmax(1).gather(1, ids).square().sum()

    assert torch.autograd.gradcheck(found, logits, check_forward_ad=True, check_batched_grad=True)
    torch.testing.assert_close(hessian(found)(logits.detach()), hessian(expected)(logits.detach()))
    batch = torch.randn(3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(vmap(grad(found))(batch), vmap(grad(expected))(batch))


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.2}, {"weight": torch.rand(5).double()}])
def test_it_can_be_derived_twice(each, settings):
    target = target_for(each, 4, 5)
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)

    def loss_fn(logits):
        return F.cross_entropy(logits, target, **settings)

    assert torch.autograd.gradcheck(loss_fn, logits)
    assert torch.autograd.gradgradcheck(loss_fn, logits)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_logits_of_every_dtype_give_a_loss_of_float32_at_least_and_gradients_of_their_own(each, dtype):
    target, logits = target_for(each, 4, 5), torch.randn(4, 5, dtype=torch.float64).to(dtype).requires_grad_()

    loss = F.cross_entropy(logits, target)
    loss.backward()
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    assert logits.grad.dtype == dtype
    torch.testing.assert_close(loss, F.cross_entropy(logits.to(loss.dtype), target.dense(5, loss.dtype)))


@given(st.integers(1, 5), seeds, st.booleans())
def test_labels_of_more_axes_are_weighted_by_their_sample(batch, seed, rows):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 3, 2, 4, generator=generator, dtype=torch.float64)
    ids = torch.randint(3, (2, batch, 2, 4), generator=generator)
    kept = torch.rand(batch, generator=generator, dtype=torch.float64)
    labels = [F.one_hot(part, 3).movedim(-1, 1).double() for part in ids] if rows else ids

    losses = F.cross_entropy(logits, MixedTarget(*labels, kept), reduction="none")
    own, partner = (F.cross_entropy(logits, part, reduction="none") for part in ids)
    share = kept.view(-1, 1, 1)
    torch.testing.assert_close(losses, share * own + (1 - share) * partner)


def test_where_nothing_is_mixed_it_is_torchs_own_to_the_bit():
    own, logits = torch.randint(7, (9,)), torch.randn(9, 7)
    target = MixedTarget(own, own.roll(1), torch.ones(9, dtype=torch.float64))

    for settings in ({}, {"weight": torch.rand(7), "reduction": "sum"}, {"label_smoothing": 0.1, "ignore_index": 3}):
        assert torch.equal(F.cross_entropy(logits, target, **settings), F.cross_entropy(logits, own, **settings))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_nothing_of_an_impossible_class_is_nothing_beside_samples_that_are_mixed(reduction):
    logits = torch.tensor([[0.0, 1.0, -torch.inf], [0.0, 1.0, -torch.inf], [0.0, 2.0, 1.0]], requires_grad=True)
    kept = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    target = MixedTarget(torch.tensor([0, 2, 0]), torch.tensor([2, 1, 1]), kept)

    loss = F.cross_entropy(logits, target, reduction=reduction)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def through_cross_entropy(logits, target):
    return F.cross_entropy(logits, target)


def through_nll(logits, target):
    return F.nll_loss(logits.log_softmax(1), target)


def through_dense(logits, target):
    return target.dense(logits.shape[1]).sum()


def through_interpolation(logits, target):
    return target.interpolate(nn.CrossEntropyLoss(), logits)


@pytest.mark.parametrize("loss_fn", [through_cross_entropy, through_nll, through_dense, through_interpolation])
@pytest.mark.parametrize("wrong", [3, 7, -1, 255])
@pytest.mark.parametrize("side", ["own", "partner"])
def test_an_id_that_is_no_class_is_named(loss_fn, wrong, side):
    right, bad = torch.tensor([0, 2]), torch.tensor([1, wrong])
    kept = torch.tensor([0.5, 0.5], dtype=torch.float64)
    target = MixedTarget(bad, right, kept) if side == "own" else MixedTarget(right, bad, kept)

    with pytest.raises(
        ValueError, match=rf"{side} labels must be class ids in \[0, 3\), .* got {wrong}: count classes"
    ):
        loss_fn(torch.randn(2, 3), target)


@pytest.mark.parametrize("kept", [(1.0, 1.0), (0.5, 0.5), (0.1, 0.9)])
@pytest.mark.parametrize("loss_fn", [through_cross_entropy, through_nll, through_interpolation])
def test_floats_are_no_ids(loss_fn, kept):
    target = MixedTarget(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), torch.tensor(kept).double())

    with pytest.raises(
        ValueError, match=r"labels must be class ids, .* got torch\.float32 of shape \(2,\): .*\.long\(\)"
    ):
        loss_fn(torch.randn(2, 3), target)


def test_an_ignored_label_is_no_class_and_fine_but_cannot_be_a_row():
    target = MixedTarget(torch.tensor([-100, 1]), torch.tensor([1, -100]), torch.tensor([0.5, 0.5]).double())

    assert F.cross_entropy(torch.randn(2, 3), target).isfinite()
    with pytest.raises(
        ValueError, match=r"own labels must be class ids in \[0, 3\), .* got -100: .* with ignore_index"
    ):
        target.dense(3)


def test_beside_ignored_labels_others_below_0_are_still_named():
    target = MixedTarget(torch.tensor([-100, -5]), torch.tensor([1, 1]), torch.tensor([0.5, 0.5]).double())

    with pytest.raises(ValueError, match=r"own labels must be class ids in \[0, 3\), .* got -5"):
        F.cross_entropy(torch.randn(2, 3), target)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_small_integers_are_ids_of_many_classes(dtype):
    target = target_for(each=True, batch=4, classes=100, dtype=dtype)

    torch.testing.assert_close(
        F.cross_entropy(torch.ones(4, 1000), target), torch.tensor(1000.0).log(), rtol=1e-5, atol=1e-5
    )


def test_smoothing_is_no_setting_of_the_likelihoods_loss():
    with pytest.raises(TypeError, match="label_smoothing"):
        F.nll_loss(torch.randn(2, 3), target_for(each=True, batch=2, classes=3), label_smoothing=0.1)
