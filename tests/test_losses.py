from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from cutmix.losses import Mixed, cross_entropy, is_cross_entropy, mixed
from cutmix.targets import MixedTarget

CLASSES = 5
reductions = st.sampled_from(["mean", "sum", "none"])
smoothings = st.sampled_from([0.0, 0.1, 1.0])


@st.composite
def mixed_ids(draw, same_kept=True, least=0):
    batch = draw(st.integers(1, 6))
    ids = st.lists(st.integers(least, CLASSES - 1), min_size=batch, max_size=batch).map(torch.tensor)
    kept = draw(st.lists(st.floats(0.0, 1.0), min_size=batch, max_size=batch))
    kept = torch.tensor(kept, dtype=torch.float64)
    kept = kept[:1].expand(batch) if same_kept else kept
    return MixedTarget(draw(ids), draw(ids), kept)


def logits_for(target, *more, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(target.kept), CLASSES, *more, generator=generator, dtype=dtype).requires_grad_()


def loss_and_gradient(loss_fn, logits):
    loss = loss_fn(logits)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return loss, gradient


def assert_same(one, other):
    for left, right in zip(one, other, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@given(mixed_ids(), reductions, smoothings)
def test_cross_entropy_interpolated_on_rows_and_direct_agree_in_loss_and_gradient(target, reduction, smoothing):
    logits = logits_for(target)
    settings = {"reduction": reduction, "label_smoothing": smoothing}
    plain = nn.CrossEntropyLoss(**settings)

    direct = loss_and_gradient(lambda out: F.cross_entropy(out, target, **settings), logits)
    rows = loss_and_gradient(lambda out: F.cross_entropy(out, target.dense(CLASSES, torch.float64), **settings), logits)
    assert_same(direct, loss_and_gradient(lambda out: target.interpolate(plain, out), logits))
    assert_same(direct, rows)
    assert_same(direct, loss_and_gradient(lambda out: plain(out, target), logits))
    assert_same(direct, loss_and_gradient(lambda out: cross_entropy(out, target, **settings), logits))
    assert_same(direct, loss_and_gradient(lambda out: mixed(plain)(out, target), logits))


@given(mixed_ids(same_kept=False), smoothings)
def test_dense_rows_as_targets_give_the_loss_of_the_indices(target, smoothing):
    logits = logits_for(target)
    own, partner = (F.one_hot(labels, CLASSES).double() for labels in target[:2])

    of_rows = cross_entropy(logits, MixedTarget(own, partner, target.kept), label_smoothing=smoothing)
    assert_same([of_rows], [cross_entropy(logits, target, label_smoothing=smoothing)])


@given(mixed_ids(same_kept=False), reductions, smoothings)
def test_class_weights_count_as_on_rows(target, reduction, smoothing):
    logits, weight = logits_for(target), torch.linspace(0.5, 2.0, CLASSES, dtype=torch.float64)
    settings = {"weight": weight, "label_smoothing": smoothing}

    losses = cross_entropy(logits, target, reduction="none", **settings)
    rows = F.cross_entropy(logits, target.dense(CLASSES, torch.float64), reduction="none", **settings)
    counts = target.kept * weight[target.own] + (1 - target.kept) * weight[target.partner]
    expected = {"none": losses, "sum": losses.sum(), "mean": losses.sum() / counts.sum()}[reduction]
    assert_same([losses], [rows])
    assert_same([cross_entropy(logits, target, reduction=reduction, **settings)], [expected])


@pytest.mark.parametrize("settings", [{}, {"weight": torch.rand(CLASSES).double()}, {"ignore_index": 2}])
def test_one_share_for_the_whole_batch_takes_a_short_way_to_the_same_mean(settings):
    own, kept = torch.tensor([0, 2, 4, 1]), torch.tensor([0.3], dtype=torch.float64)
    one, each = (MixedTarget(own, own.roll(1), share) for share in (kept.expand(4), kept.repeat(4)))
    logits = logits_for(one)

    short = loss_and_gradient(lambda out: F.cross_entropy(out, one, **settings), logits)
    long = loss_and_gradient(lambda out: F.cross_entropy(out, each, **settings), logits)
    assert_same(short, long)
    two_calls = nn.CrossEntropyLoss(**settings)
    assert_same(short, loss_and_gradient(lambda out: one.interpolate(two_calls, out), logits))


def test_the_mean_is_over_the_labels_that_count_for_their_share():
    own, partner = torch.tensor([-100, 1, 2]), torch.tensor([1, 1, 0])
    one, each = (
        MixedTarget(own, partner, share)
        for share in (torch.tensor([0.25]).double().expand(3), torch.tensor([0.25] * 3).double())
    )
    logits = logits_for(one)

    counted = 0.25 * 2 + 0.75 * 3
    assert_same([F.cross_entropy(logits, one)], [F.cross_entropy(logits, one, reduction="sum") / counted])
    assert_same([F.cross_entropy(logits, one)], [F.cross_entropy(logits, each)])


@given(mixed_ids(least=-1), smoothings)
def test_ignored_labels_count_for_nothing(target, smoothing):
    logits = logits_for(target)
    settings = {"ignore_index": -1, "label_smoothing": smoothing}

    losses = cross_entropy(logits, target, reduction="none", **settings)
    own, partner = (F.cross_entropy(logits, labels, reduction="none", **settings) for labels in target[:2])
    assert_same([losses], [target.kept * own + (1 - target.kept) * partner])


@pytest.mark.parametrize(
    "settings", [{}, {"weight": torch.rand(CLASSES)}, {"ignore_index": 2}, {"label_smoothing": 0.1}]
)
def test_labels_kept_whole_give_the_plain_cross_entropy(settings):
    own = torch.tensor([0, 2, 4, 1])
    target = MixedTarget(own, own.roll(1), torch.ones(4, dtype=torch.float64))
    logits = torch.randn(4, CLASSES)

    torch.testing.assert_close(F.cross_entropy(logits, target, **settings), F.cross_entropy(logits, own, **settings))


def test_labels_a_pixel_are_weighted_by_their_sample():
    own, partner = torch.randint(CLASSES, (2, 3, 4, 6))
    target = MixedTarget(own, partner, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    logits = torch.randn(3, CLASSES, 4, 6, dtype=torch.float64)

    kept = target.kept.view(-1, 1, 1)
    expected = kept * F.cross_entropy(logits, own, reduction="none") + (1 - kept) * F.cross_entropy(
        logits, partner, reduction="none"
    )
    assert_same([F.cross_entropy(logits, target)], [expected.mean()])


@pytest.mark.parametrize("integers", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_class_indices_of_any_integer_dtype_are_taken(integers):
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.full((2,), 0.3, dtype=torch.float64))
    logits = torch.randn(2, CLASSES)

    small = MixedTarget(target.own.to(integers), target.partner.to(integers), target.kept)
    assert torch.equal(F.cross_entropy(logits, small), F.cross_entropy(logits, target))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_a_float32_loss(half):
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.full((2,), 0.3, dtype=torch.float64))
    logits = torch.randn(2, CLASSES).to(half)

    assert F.cross_entropy(logits, target).dtype == torch.float32
    assert torch.equal(F.cross_entropy(logits, target), F.cross_entropy(logits.float(), target))


def test_plain_targets_pass_through_untouched():
    outputs, labels = torch.randn(3, CLASSES), torch.tensor([0, 1, 2])

    assert torch.equal(mixed(F.cross_entropy)(outputs, labels), F.cross_entropy(outputs, labels))
    assert torch.equal(cross_entropy(outputs, labels), F.cross_entropy(outputs, labels))
    assert mixed(F.mse_loss)(outputs, outputs).item() == 0


def test_a_loss_on_rows_gets_the_blended_rows():
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.full((2,), 0.3, dtype=torch.float64))
    outputs = torch.randn(2, CLASSES)

    assert torch.equal(mixed(F.mse_loss)(outputs, target), F.mse_loss(outputs, target.dense(CLASSES)))


def test_a_loss_that_takes_indices_only_says_what_to_set():
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.full((2,), 0.3, dtype=torch.float64))
    outputs = torch.randn(2, CLASSES)

    with pytest.raises(RuntimeError) as raised:
        mixed(F.multi_margin_loss)(outputs, target)
    assert "interpolate_loss=True" in "".join(raised.value.__notes__)
    interpolated = mixed(F.multi_margin_loss, interpolate=True)(outputs, target)
    assert_same(
        [interpolated],
        [0.3 * F.multi_margin_loss(outputs, target.own) + 0.7 * F.multi_margin_loss(outputs, target.partner)],
    )


def through_a_lambda(**settings):
    return lambda outputs, target: F.cross_entropy(outputs, target, **settings)


class Scaled(nn.CrossEntropyLoss):
    """A loss of one's own on top of torch's."""

    def forward(self, outputs, target):
        return 2 * super().forward(outputs, target) / 2


@pytest.mark.parametrize("make", [through_a_lambda, lambda **settings: partial(F.cross_entropy, **settings), Scaled])
@pytest.mark.parametrize("settings", [{"weight": torch.rand(CLASSES).double()}, {"ignore_index": 2}])
def test_whatever_comes_to_cross_entropy_in_the_end_is_cross_entropy(make, settings):
    own = torch.tensor([0, 2, 4, 1])
    target = MixedTarget(own, own.roll(1), torch.tensor([0.3], dtype=torch.float64).expand(4))
    logits = torch.randn(4, CLASSES, dtype=torch.float64)

    assert_same([mixed(make(**settings))(logits, target)], [F.cross_entropy(logits, target, **settings)])


def test_a_loss_that_reads_the_outputs_works_mixed_too():
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.full((2,), 0.3, dtype=torch.float64))
    outputs = SimpleNamespace(logits=torch.randn(2, CLASSES))

    loss = mixed(lambda out, labels: F.cross_entropy(out.logits, labels))(outputs, target)
    assert torch.equal(loss, F.cross_entropy(outputs.logits, target))


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda outputs, target: (outputs - target.float()).abs().mean(),
        lambda outputs, target: (outputs - target).abs().mean(),
    ],
)
def test_a_loss_of_ones_own_gets_the_blended_rows(loss_fn):
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.full((2,), 0.3, dtype=torch.float64))
    outputs = torch.randn(2, CLASSES)

    assert torch.equal(mixed(loss_fn)(outputs, target), loss_fn(outputs, target.dense(CLASSES)))


@pytest.mark.parametrize("share", [torch.ones(2).double(), torch.ones(1).double().expand(2)])
def test_a_partner_that_weighs_nothing_may_be_impossible(share):
    logits = torch.tensor([[0.0, 1.0, -torch.inf], [2.0, 0.0, -torch.inf]], dtype=torch.float64)
    own, partner = torch.tensor([0, 1]), torch.tensor([2, 2])
    target = MixedTarget(own, partner, share)

    assert_same([F.cross_entropy(logits, target)], [F.cross_entropy(logits, own)])
    assert_same([target.interpolate(F.cross_entropy, logits)], [F.cross_entropy(logits, own)])


@pytest.mark.parametrize(
    "loss_fn", [F.cross_entropy, nn.CrossEntropyLoss(), partial(F.cross_entropy, weight=None), mixed(cross_entropy)]
)
def test_cross_entropy_is_known_in_all_its_forms(loss_fn):
    assert is_cross_entropy(loss_fn)
    assert not is_cross_entropy(F.mse_loss)


def test_a_loss_is_wrapped_once():
    once = mixed(F.cross_entropy)

    assert mixed(once, interpolate=True) == Mixed(F.cross_entropy, interpolate=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reduction": "max"}, "reduction must be one of"),
        ({"label_smoothing": 1.5}, r"label_smoothing must lie in \[0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    target = MixedTarget(torch.tensor([0]), torch.tensor([1]), torch.ones(1, dtype=torch.float64))

    with pytest.raises(ValueError, match=words):
        F.cross_entropy(torch.randn(1, CLASSES), target, **settings)
