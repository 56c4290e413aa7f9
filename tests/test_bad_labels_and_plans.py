"""What mixed labels, losses, plans and backends refuse; the arguments of the op are in ``test_bad_input.py``."""

import jaxtyping
import numpy as np
import pytest
import torch
from torch.nn import functional as F

import cutmix.functional as cf
from bad_input import Case, check_refused, ids
from cutmix import CutMix, LabelSmoothing, MixedTarget, MixUp, Plan, losses, mix
from cutmix.backends import mix_images

SHAPE = (4, 3, 8, 12)
IMAGES = torch.rand(SHAPE)
IDS = torch.arange(4)
ROWS = torch.rand(4, 5)
OUTPUTS = torch.randn(4, 5)
KEPT = torch.tensor([0.1, 0.2, 0.3, 1.0], dtype=torch.float64)
TARGET = MixedTarget(IDS, IDS.flip(0), KEPT)
BYTES = torch.tensor([0, 1, 2, 200], dtype=torch.uint8)
NAN = float("nan")


def called(call, error, argument, *words):
    return Case(call, error, argument, words, reads=(IMAGES, IDS, ROWS, OUTPUTS, KEPT))


def target(own, partner, kept, argument, *words):
    """A mixed target put together by hand, which rows and losses refuse alike."""
    made = MixedTarget(own, partner, kept)
    return [
        called(lambda: made.dense(5), ValueError, argument, *words),
        called(lambda: F.cross_entropy(OUTPUTS, made), ValueError, argument, *words),
        called(lambda: losses.cross_entropy(OUTPUTS, made), ValueError, argument, *words),
        called(lambda: made.interpolate(F.cross_entropy, OUTPUTS), ValueError, argument, *words),
    ]


def dense(argument, value, error, *words, made=TARGET):
    settings = {"num_classes": 5, argument: value}
    return called(lambda: made.dense(**settings), error, argument, *words)


def loss(argument, value, error, *words, outputs=OUTPUTS, made=TARGET):
    settings = {} if argument == "labels" else {argument: value}
    return called(lambda: losses.cross_entropy(outputs, made, **settings), error, argument, *words)


def converted(argument, value, error, *words):
    settings = {"loss_fn": F.mse_loss, argument: value}
    return called(lambda: losses.mixed(**settings), error, argument, *words)


def smoothed(argument, value, error, *words):
    settings = {"logits": OUTPUTS, "target": IDS, "smoothing": 0.1, argument: value}
    return called(lambda: cf.smooth_labels(**settings), error, argument, *words)


LABELS = [
    *target(IDS, IDS[:3], KEPT, "partner", "torch.int64 of shape (4,), got torch.int64 of shape (3,): "),
    *target(IDS, ROWS, KEPT, "partner", "torch.int64 of shape (4,), got torch.float32 of shape (4, 5): "),
    *target(ROWS, ROWS[:, :1], KEPT, "partner", "of shape (4, 5), got torch.float32 of shape (4, 1): "),
    *target(IDS, IDS, KEPT[:3], "kept", "must be float numbers (4,), one a sample, got tensor([0.1", "plan.kept"),
    *target(IDS, IDS, KEPT[:1], "kept", "must be float numbers (4,), one a sample, got tensor([0.1"),
    *target(IDS, IDS, 0.5, "kept", "must be float numbers (4,), one a sample, got 0.5: take plan.kept"),
    *target(IDS, IDS, IDS, "kept", "must be float numbers (4,), one a sample, got tensor([0, 1, 2, 3]): "),
    *target(IDS, IDS, KEPT + 1, "kept", "must lie in [0, 1], got tensor([1.1", "take plan.kept"),
    *target(ROWS, ROWS, -KEPT, "kept", "must lie in [0, 1], got tensor([-0.1", "take plan.kept"),
    *target(IDS, IDS, KEPT * NAN, "kept", "must lie in [0, 1], got tensor([nan", "take plan.kept"),
    *target(IDS + 3, IDS, KEPT, "own labels", "must be class ids in [0, 5)", "got 5: count classes from 0"),
    *target(IDS, IDS - 1, KEPT, "partner labels", "must be class ids in [0, 5)", "got -1: ", "ignore_index"),
    *target(BYTES, BYTES, KEPT, "own labels", "must be class ids in [0, 5)", "got 200: "),
    *target(IDS > 1, IDS > 1, KEPT, "own labels", "must be class ids", "got torch.bool of shape (4,): convert"),
    *target(IDS + 0j, IDS + 0j, KEPT, "own labels", "must be class ids", "got torch.complex64", "convert"),
    dense("num_classes", None, ValueError, "must be given for class indices, got None: pass"),
    dense("num_classes", 5.0, TypeError, "must be a whole number, got 5.0: pass outputs.shape[1]"),
    dense("num_classes", True, TypeError, "must be a whole number, got True: pass outputs.shape[1]"),
    dense(
        "num_classes",
        4,
        ValueError,
        "must be the length of the rows, (5,), got 4: ",
        made=MixedTarget(ROWS, ROWS, KEPT),
    ),
    dense("num_classes", 5, ValueError, "the rows, (), got 5: ", made=MixedTarget(IDS.half(), IDS.half(), KEPT)),
    dense("dtype", torch.int64, TypeError, "must be floating point, got torch.int64: "),
    loss(
        "labels", None, ValueError, "got torch.float16 of shape (4,): ", made=MixedTarget(IDS.half(), IDS.half(), KEPT)
    ),
    loss(
        "labels",
        None,
        ValueError,
        "torch.float32 of shape (4, 5): ",
        outputs=ROWS[:, :4],
        made=MixedTarget(ROWS, ROWS, KEPT),
    ),
    loss("labels", None, ValueError, "each of the outputs (8, 5)", "got shape (4,): ", outputs=torch.ones(8, 5)),
    loss("labels", None, ValueError, "each of the outputs (4, 5, 2)", "got shape (4,): ", outputs=torch.ones(4, 5, 2)),
    loss("weight", torch.ones(6), ValueError, "must be (5,), one a class, got shape (6,): "),
    loss("weight", torch.ones(1), ValueError, "must be (5,), one a class, got shape (1,): "),
    loss("reduction", "avg", ValueError, "must be one of ('none', 'mean', 'sum'), got 'avg'"),
    loss("label_smoothing", 1.5, ValueError, "must lie in [0, 1], got 1.5: "),
    loss("label_smoothing", NAN, ValueError, "must lie in [0, 1], got nan: "),
    converted("loss_fn", "mse", TypeError, "must be a function (outputs, target), got 'mse': "),
    converted("interpolate", "no", TypeError, "must be True or False, got 'no': "),
    converted("reduction", "sum", ValueError, "must come with interpolate=True, got 'sum' alone: bind it"),
    smoothed("smoothing", 2, ValueError, "must lie in [0, 1], got 2: "),
    smoothed("smoothing", True, TypeError, "must be a number, got True: "),
    smoothed("target", None, TypeError, "must be a torch.Tensor, got NoneType: convert"),
    smoothed(
        "target", IDS.float(), ValueError, "rows like the logits, (4, 5), got torch.float32 of shape (4,): ids need"
    ),
    smoothed("target", IDS[:3], ValueError, "got torch.int64 of shape (3,): "),
    smoothed("logits", 5, TypeError, "must be a torch.Tensor, got int: convert"),
    called(lambda: cf.smooth_labels(OUTPUTS, IDS + 3), ValueError, "labels", "must be class ids in [0, 5)", "got 5: "),
    called(lambda: LabelSmoothing("a"), TypeError, "smoothing", "must be a number, got 'a': "),
    called(
        lambda: TARGET.interpolate(F.multi_margin_loss, OUTPUTS, reduction="avg"),
        ValueError,
        "reduction",
        "got 'avg': ",
    ),
]


def plan(error, argument, *words, **changes):
    """A plan with one part that breaks its rule."""
    parts = {
        "partners": IDS,
        "boxes": torch.tensor([[[0, 0], [4, 6]]]),
        "opacity": torch.ones(1, dtype=torch.float64),
        "size": (8, 12),
        **changes,
    }
    return called(lambda: Plan(**parts), error, argument, *words)


def json(text, *words):
    return called(lambda: Plan.from_json(text), ValueError, "text", "must hold partners, boxes, opacity, size", *words)


def scaled(size):
    call = CutMix(length=0.5).draw(SHAPE).scaled
    return called(lambda: call(size), ValueError, "size", "must be 2 whole numbers of 1 or more", f"got {size!r}: ")


def backend(argument, value, error, *words, name=None):
    settings = {"images": IMAGES, "plan": CutMix(length=0.5).draw(SHAPE), argument: value}
    return called(lambda: mix_images(**settings), error, name or argument, *words)


PLANS = [
    plan(
        TypeError, "partners", "must be a torch.Tensor of torch.int64, got torch.float32: convert", partners=IDS.float()
    ),
    plan(TypeError, "partners", "must be a torch.Tensor of torch.int64, got list: ", partners=[0, 1]),
    plan(TypeError, "boxes", "must be a torch.Tensor of torch.int64, got torch.float32: ", boxes=torch.zeros(1, 2, 2)),
    plan(TypeError, "opacity", "must be a torch.Tensor of torch.float64, got torch.float32: ", opacity=torch.ones(1)),
    plan(ValueError, "partners", "must be 0 or more, got [0, -1, -2, -3]: ", partners=-IDS),
    plan(ValueError, "partners", "got (0,) and (1, 2, 2) and (1,): ", partners=IDS[:0]),
    plan(ValueError, "boxes", "got (4,) and (3, 2, 2) and (1,): ", boxes=torch.zeros(3, 2, 2, dtype=torch.int64)),
    plan(
        ValueError,
        "boxes",
        "must start and stop inside the image of size (8, 12)",
        boxes=torch.tensor([[[0, 0], [9, 9]]]),
    ),
    plan(ValueError, "boxes", "starts before stops, got [[[5, 0], [4, 6]]]: ", boxes=torch.tensor([[[5, 0], [4, 6]]])),
    plan(ValueError, "opacity", "got (4,) and (1, 2, 2) and (3,): ", opacity=torch.ones(3, dtype=torch.float64)),
    plan(ValueError, "opacity", "must lie in [0, 1], got [nan]: ", opacity=torch.tensor([NAN], dtype=torch.float64)),
    plan(ValueError, "size", "must be whole numbers of 1 or more", "got (8.0, 12)", size=(8.0, 12)),
    plan(ValueError, "size", "must be whole numbers of 1 or more", "got (0, 12)", size=(0, 12)),
    plan(ValueError, "size", "got (4,) and (1, 2, 2) and (1,): ", size=(8, 12, 3)),
    plan(ValueError, "partners", "must lie on one device, got several: plan.to(device)", partners=IDS.to("meta")),
    json("", "got '': Expecting value"),
    json(None, "got None: "),
    json("[1]", "got '[1]': "),
    json('{"partners": [0], "boxes": [[[0, 0], [9, 9]]], "opacity": [1.0], "size": [9, 9], "p": 1}', "'p'"),
    json('{"partners": [0.5], "boxes": [[[0, 0], [9, 9]]], "opacity": [1.0], "size": [9, 9]}', "got torch.float32"),
    json('{"partners": [0], "boxes": [[[0, 0], [9.9, 9]]], "opacity": [1.0], "size": [9, 9]}', "got torch.float32"),
    json('{"partners": [-1], "boxes": [[[0, 0], [9, 9]]], "opacity": [1.0], "size": [9, 9]}', "must be 0 or more"),
    json('{"partners": [0], "boxes": [[[0, 0], [9]]], "opacity": [1.0], "size": [9, 9]}', "expected sequence"),
    json('{"partners": [0], "boxes": [[[0, 0], [9, 9]]], "opacity": [NaN], "size": [9, 9]}', "got [nan]"),
    json('{"partners": [0], "boxes": [[[0, 0], [9, 9]]], "opacity": [1.0], "size": 9}', "not iterable"),
    *map(scaled, [(4,), (0, 4), (4.5, 6.2), (True, 4), "46", 4]),
    called(
        lambda: CutMix(length=0.5, per_sample=True).draw(SHAPE, generator=torch.Generator()).bbox,
        ValueError,
        "bbox",
        "4",
    ),
    backend("backend", "cuda", ValueError, "must be one of ('auto', 'reference', ", "got 'cuda'"),
    backend(
        "plan", CutMix().draw((3, 3, 8, 12)), ValueError, "(3, ..., 8, 12), got shape (4, 3, 8, 12): ", name="images"
    ),
    backend(
        "plan", CutMix().draw((4, 3, 8, 11)), ValueError, "(4, ..., 8, 11), got shape (4, 3, 8, 12): ", name="images"
    ),
    backend("images", IMAGES[0], ValueError, "must be what the plan was drawn for", "got shape (3, 8, 12): "),
    backend("source", IMAGES[:, :2], ValueError, "must have samples like the images", "got (2, 8, 12)", "prepare"),
    backend("source", IMAGES.double(), ValueError, "must have samples like the images", "torch.float64", "prepare"),
    backend("source", IMAGES[:2], ValueError, "must lie in [0, 2)", "got [", "source=", name="partners"),
    backend("out", IMAGES.double(), ValueError, "must be like the images", "torch.float64", "empty_like"),
    backend("out", torch.zeros(4, 3, 8, 11), ValueError, "must be like the images", "got (4, 3, 8, 11)"),
    backend("out", np.zeros(SHAPE), TypeError, "torch.Tensor, got ndarray: "),
]


@pytest.fixture
def without_the_shape_hook(monkeypatch):
    """Let checks of our own speak: the hook of the test run comes first otherwise."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("without_the_shape_hook")
@pytest.mark.parametrize("case", [*LABELS, *PLANS], ids=ids)
def test_bad_labels_losses_and_plans_are_refused_and_nothing_is_touched(case):
    check_refused(case)


def test_integers_are_not_blended_by_any_backend():
    plan = MixUp(mixing=0.3).draw(SHAPE)

    for name in ("auto", "reference", "eager"):
        with pytest.raises(TypeError, match=r"images must be floating point to be blended, got torch\.uint8: convert"):
            mix_images(torch.zeros(SHAPE, dtype=torch.uint8), plan, backend=name)


def test_a_gradient_that_needs_what_was_overwritten_fails():
    images, weight = torch.rand(SHAPE), torch.ones((), requires_grad=True)
    loss = (weight * images).sum()
    cf.cutmix_batch(images, IDS, bbox=(0, 0, 4, 6), out=images)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, in jvp
@pytest.mark.parametrize("recipe", [CutMix(length=0.5), CutMix(length=0.5, per_sample=True), MixUp(mixing=0.3)])
def test_a_plan_mixes_inside_of_functional_transforms(recipe):
    plan, cotangent = recipe.draw(SHAPE), torch.rand(SHAPE)
    images = IMAGES.clone().requires_grad_()
    (mixed(images, plan) * cotangent).sum().backward()

    assert torch.equal(torch.func.grad(lambda batch: (mixed(batch, plan) * cotangent).sum())(IMAGES), images.grad)
    assert torch.equal(
        torch.func.jvp(lambda batch: mixed(batch, plan), (IMAGES,), (cotangent,))[0], mixed(IMAGES, plan)
    )


def mixed(images, plan):
    return mix(images, IDS, plan)[0]
