"""Every refusal of the op names the argument, the value, the rule and the remedy; nothing is written, nothing is drawn.

What losses, plans and backends refuse is in ``test_bad_labels_and_plans.py``.
"""

from unittest.mock import Mock

import numpy as np
import pytest
import torch

import cutmix.functional as cf
from bad_input import Case, check_refused, ids
from cutmix import CutMix, CutOut, MixedTarget, MixUp, OneOf, mix
from cutmix.algorithms.schedule import linear
from cutmix.mixing import mix_by_mask
from cutmix.normalizing import mix_normalize

SHAPE = (4, 3, 8, 12)
IMAGES = torch.rand(SHAPE)
BYTES = (IMAGES * 255).to(torch.uint8)
LABELS = torch.arange(4)
OTHERS = (torch.rand(SHAPE), LABELS + 4)
MASK = torch.zeros(4, 8, 12, dtype=torch.bool)
PLAN = CutMix(bbox=(1, 2, 5, 9)).draw(SHAPE)
HALF = (0.5, 0.5, 0.5)
NAN = float("nan")
ON_A_GPU = Mock(spec=torch.Generator, device=torch.device("cuda"))
MEMORY = torch.rand(5, 3, 8, 12)
LEAF = torch.zeros(SHAPE, requires_grad=True)


def cutmix(argument, value, error, *words, **others):
    """One bad argument of ``cutmix_batch``."""
    settings = {argument: value, **others}
    return Case(lambda: cf.cutmix_batch(IMAGES, LABELS, **settings), error, argument, words, reads=(IMAGES, LABELS))


def mixup(argument, value, error, *words):
    return Case(lambda: cf.mixup_batch(IMAGES, LABELS, **{argument: value}), error, argument, words, reads=(IMAGES,))


def cutout(argument, value, error, *words, images=IMAGES):
    return Case(lambda: cf.cutout_batch(images, **{argument: value}), error, argument, words, reads=(images,))


def called(call, error, argument, *words):
    return Case(call, error, argument, words, reads=(IMAGES, LABELS))


def recipe(kind, argument, value, error, *words, **others):
    """One bad setting, refused when the recipe is made."""
    return called(lambda: kind(**{argument: value, **others}), error, argument, *words)


def data(images, labels, error, argument, *words, function=cf.cutmix_batch):
    return Case(lambda: function(images, labels), error, argument, words, reads=(IMAGES, LABELS))


def mixed(argument, value, error, *words, name=None, images=IMAGES, labels=LABELS):
    """One bad argument of ``mix``, which errors may call by another ``name``."""
    settings = {"images": images, "targets": labels, "plan": PLAN, argument: value}
    return Case(lambda: mix(**settings), error, name or argument, words, reads=(images, labels))


def by_mask(mask, partners, error, argument, *words):
    return Case(lambda: mix_by_mask(IMAGES, LABELS, mask, partners), error, argument, words, reads=(IMAGES, LABELS))


def normalized(argument, value, error, *words):
    settings = {"images": BYTES, "targets": LABELS, "plan": PLAN, "mean": HALF, "std": HALF, argument: value}
    return Case(lambda: mix_normalize(**settings), error, argument, words, reads=(BYTES, LABELS))


SETTINGS = [
    cutmix("alpha", -1.0, ValueError, "must lie in [0, inf], got -1.0: it is"),
    cutmix("alpha", NAN, ValueError, "must lie in [0, inf], got nan: it is"),
    cutmix("alpha", torch.tensor(NAN), ValueError, "must lie in [0, inf], got nan: it is"),
    cutmix("alpha", np.array([1.0, NAN]), TypeError, "must be a number, got array([ 1., nan]): it is"),
    cutmix("alpha", float("inf"), ValueError, "must be finite, got inf: ", "a large number"),
    cutmix("alpha", "1", TypeError, "must be a number, got '1': it is"),
    cutmix("alpha", True, TypeError, "must be a number, got True: it is"),
    cutmix("p", 1.5, ValueError, "must lie in [0, 1], got 1.5: it is"),
    cutmix("p", NAN, ValueError, "must lie in [0, 1], got nan: it is"),
    cutmix("p", torch.ones(4), TypeError, "must be a number, got tensor([1., 1., 1., 1.]): it is"),
    cutmix("length", 0, ValueError, "must lie in (0, 1], got 0: ", "pass k / n"),
    cutmix("length", 16, ValueError, "must lie in [0, 1], got 16: ", "for k pixels of n pass k / n"),
    cutmix("length", "0.5", TypeError, "must be a number, got '0.5': ", "pass k / n"),
    cutmix("length", 0.5, ValueError, "at most one of", "bbox=(0, 0, 1, 1)", "leave the others out", bbox=(0, 0, 1, 1)),
    cutmix("min_max", (0.8, 0.2), ValueError, "must be (low, high) with low <= high", "got (0.8, 0.2): "),
    cutmix("min_max", (2, 4), ValueError, "must lie in [0, 1], got 2: ", "pass k / n"),
    cutmix("min_max", [0.2, 0.8], TypeError, "must be a pair (low, high), got [0.2, 0.8]: "),
    cutmix("uniform_sampling", True, ValueError, "must be False with min_max", "pass length", min_max=(0.2, 0.8)),
    cutmix("uniform_sampling", "no", TypeError, "must be True or False, got 'no': "),
    cutmix("per_sample", torch.ones(4, dtype=torch.bool), TypeError, "must be True or False, got tensor([True"),
    cutmix("bbox", (0, 0, 99, 99), ValueError, "inside the image of size (8, 12), got (0, 0, 99, 99): for images"),
    cutmix("bbox", (0, 0, 12, 8), ValueError, "inside the image of size (8, 12), got (0, 0, 12, 8): for images"),
    cutmix("bbox", (0, 1), ValueError, "inside the image of size (8, 12), got (0, 1): for images"),
    cutmix("bbox", (3, 0, 1, 9), ValueError, "must be whole numbers", "got (3, 0, 1, 9): for images"),
    cutmix("bbox", (-1, 0, 1, 9), ValueError, "must be whole numbers", "got (-1, 0, 1, 9): for images"),
    cutmix("bbox", (0.0, 0.0, 1.0, 1.0), ValueError, "must be whole numbers", "got (0.0, 0.0, 1.0, 1.0): for images"),
    cutmix("bbox", (False, False, True, True), ValueError, "must be whole numbers", "got (False, "),
    cutmix("bbox", 3, ValueError, "must be whole numbers", "got 3: for images"),
    cutmix("indices", torch.tensor([0, 1]), ValueError, "must be 4 whole numbers in [0, 4)", "torch.randperm(4)[:4]"),
    cutmix("indices", torch.tensor([0, 1, 2, 4]), ValueError, "must be 4 whole numbers", "got tensor([0, 1, 2, 4])"),
    cutmix(
        "indices", torch.tensor([0, 1, 2, -1]), ValueError, "must be 4 whole numbers", "got tensor([ 0,  1,  2, -1])"
    ),
    cutmix("indices", torch.tensor([0, 1, 2, 4]), ValueError, "in [0, 2)", source=(OTHERS[0][:2], OTHERS[1][:2])),
    cutmix("indices", torch.ones(4), ValueError, "must be 4 whole numbers", "got tensor([1., 1., 1., 1.])"),
    cutmix("indices", torch.ones(4, dtype=torch.bool), ValueError, "must be 4 whole numbers", "got tensor([True"),
    cutmix(
        "indices", torch.ones(4, dtype=torch.complex64), ValueError, "must be 4 whole numbers", "got tensor([1.+0.j"
    ),
    cutmix("indices", LABELS.to("meta"), ValueError, "must be 4 whole numbers", "device='meta'"),
    cutmix("indices", [1, 0, 3, 2], TypeError, "must be a torch.Tensor, got list: convert"),
    cutmix("pairing", "random", ValueError, "must be one of ('ring', 'shuffle', 'same_class'), got 'random'"),
    cutmix("source", IMAGES, TypeError, "must be a pair (images, targets), got Tensor: "),
    cutmix("source", (IMAGES[:, :2], LABELS), ValueError, "must have samples like images", "got (2, 8, 12)", "prepare"),
    cutmix("source", (IMAGES, LABELS.float()), ValueError, "must have samples like targets", "got () torch.float32"),
    cutmix("source", OTHERS, ValueError, "pairing must not be 'same_class' with source=", pairing="same_class"),
    cutmix("spatial_dims", 2, TypeError, "must be a tuple of axes, got 2: for example (2, 3)"),
    cutmix("spatial_dims", (True, 2), TypeError, "must be a tuple of axes, got (True, 2): for example (2, 3)"),
    cutmix("spatial_dims", (0, 1), ValueError, "not its first, the batch", "got (0, 1): for example (2, 3)"),
    cutmix("spatial_dims", (2, 2), ValueError, "must name different axes", "got (2, 2): "),
    cutmix("spatial_dims", (3, -1), ValueError, "must name different axes", "got (3, -1): "),
    cutmix("spatial_dims", (2, -9), ValueError, "must name different axes", "got (2, -9): "),
    cutmix("spatial_dims", (), ValueError, "must name different axes", "got (): "),
    cutmix("generator", 3, TypeError, "must be a torch.Generator, got 3: pass one, or leave it out"),
    cutmix("generator", ON_A_GPU, ValueError, "must live on the CPU", "got one on cuda: pass torch.Generator"),
    mixup("mixing", 1.5, ValueError, "must lie in [0, 1], got 1.5: it is the partner's weight"),
    mixup("mixing", NAN, ValueError, "must lie in [0, 1], got nan: it is the partner's weight"),
    mixup("alpha", None, TypeError, "must be a number, got None: "),
    mixup("indices", LABELS.float(), ValueError, "must be 4 whole numbers"),
    mixup("generator", ON_A_GPU, ValueError, "must live on the CPU", "got one on cuda: pass torch.Generator"),
    cutout("num_holes", 0, ValueError, "must be a whole number, 1 or more, got 0: for none pass p=0"),
    cutout("num_holes", True, ValueError, "must be a whole number, 1 or more, got True: for none pass p=0"),
    cutout("length", 2, ValueError, "must lie in [0, 1], got 2: "),
    cutout("uniform_sampling", "no", TypeError, "must be True or False, got 'no': "),
    cutout("fill", "0", TypeError, "must be a number, got '0': holes are filled with it"),
    cutout("fill", NAN, ValueError, "must lie in [-inf, inf], got nan: holes are filled with it"),
    cutout("fill", -1, TypeError, "whole number in [0, 255] for images of torch.uint8, got -1: convert", images=BYTES),
    cutout("fill", 0.5, TypeError, "whole number in [0, 255] for images of torch.uint8, got 0.5: ", images=BYTES),
    cutout("spatial_dims", (True, 3), TypeError, "must be a tuple of axes, got (True, 3): "),
    cutout("generator", 3, TypeError, "must be a torch.Generator, got 3: "),
]

RECIPES = [
    recipe(CutMix, "interpolate_loss", "no", TypeError, "must be True or False, got 'no': "),
    recipe(MixUp, "interpolate_loss", 1, TypeError, "must be True or False, got 1: "),
    recipe(MixUp, "spatial_dims", (2.0, 3.0), TypeError, "must be a tuple of axes, got (2.0, 3.0): "),
    recipe(MixUp, "pairing", [], ValueError, "must be one of ('ring', 'shuffle', 'same_class'), got []"),
    recipe(CutOut, "spatial_dims", "23", TypeError, "must be a tuple of axes, got '23': "),
    recipe(OneOf, "recipes", CutMix(), TypeError, "must be a list, got CutMix("),
    recipe(OneOf, "recipes", [CutMix, MixUp], TypeError, "must be mixers such as CutMix() and MixUp(), got <class"),
    recipe(OneOf, "recipes", [CutMix()], ValueError, "must be two or more, got [CutMix(", "use a single one as it is"),
    recipe(OneOf, "weights", 3, TypeError, "must be a list, got 3: ", recipes=[CutMix(), MixUp()]),
    recipe(OneOf, "weights", ["1", "2"], TypeError, "must be numbers, got ['1', '2']: ", recipes=[CutMix(), MixUp()]),
    recipe(
        OneOf, "weights", [NAN, 1], ValueError, "0 or more and not all 0, got [nan, 1]", recipes=[CutMix(), MixUp()]
    ),
    recipe(OneOf, "interpolate_loss", "no", TypeError, "must be True or False, got 'no'", recipes=[CutMix(), MixUp()]),
    recipe(CutMix, "until", "soon", ValueError, "must be at least one epoch, batch or sample, got 'soon'; write"),
    recipe(CutMix, "until", 1.5, ValueError, "must lie in (0, 1] as a share of the run, got 1.5: ", "write '270ep'"),
    recipe(CutMix, "until", NAN, ValueError, "must lie in (0, 1] as a share of the run, got nan: "),
    recipe(CutMix, "until", 3, TypeError, "must be a time or a share of the run, got 3: write '270ep' or 0.9"),
    recipe(MixUp, "alpha", lambda share: -share, ValueError, "must lie in [0, inf], got -0.0039"),
    recipe(CutMix, "p", linear(0.0, 2.0), ValueError, "must lie in [0, 1], got 1.007"),
    recipe(CutMix, "p", lambda _: "x", TypeError, "must be a number, got 'x': "),
    recipe(linear, "start", "a", TypeError, "must be a number, got 'a': ", stop=1.0),
    called(
        lambda: CutMix().at("x"), ValueError, "time", "must be a share of the run", "got 'x': pass at(epoch / epochs)"
    ),
    called(lambda: CutMix(until=0.5)(IMAGES, LABELS), ValueError, "recipe", "must come with a time", "mix.at("),
    called(
        lambda: CutMix(until=0.5).collate(), ValueError, "collate", "must come from a recipe whose settings are numbers"
    ),
    called(
        lambda: CutMix()(IMAGES), TypeError, "images", "got 1 argument(s) of type ['Tensor']: call mix(images, targets)"
    ),
    called(CutMix(), TypeError, "images", "got 0 argument(s) of type []: call mix(images, targets)"),
    called(lambda: CutMix()((IMAGES,)), ValueError, "target_key", "is 1, which the batch, a tuple of 1, does not hold"),
    called(lambda: CutMix(input_key="x")((IMAGES, LABELS)), ValueError, "input_key", "is 'x', which the batch"),
    called(lambda: MixUp()(IMAGES, LABELS, generator=3), TypeError, "generator", "must be a torch.Generator, got 3: "),
    called(lambda: CutMix()(IMAGES, LABELS, source=IMAGES), TypeError, "source", "must be a pair", "got Tensor: "),
    called(
        lambda: CutMix().draw((0, 3, 8, 12)), ValueError, "shape", "whole numbers of 1 or more", "got (0, 3, 8, 12): "
    ),
    called(
        lambda: MixUp().draw((4, 3, 0, 12)), ValueError, "shape", "whole numbers of 1 or more", "got (4, 3, 0, 12): "
    ),
    called(lambda: CutMix().draw(4), ValueError, "shape", "whole numbers of 1 or more", "got 4: pass images.shape"),
    called(lambda: CutMix().draw(SHAPE, source=2.5), ValueError, "source", "at least one sample, got 2.5: "),
    called(
        lambda: OneOf([CutMix(spatial_dims=(1, 2)), MixUp()])(IMAGES, LABELS),
        ValueError,
        "recipes",
        "cut the same axes",
    ),
]

DATA = [
    data(IMAGES.numpy(), LABELS, TypeError, "images", "must be a torch.Tensor, got ndarray: convert"),
    data([IMAGES], LABELS, TypeError, "images", "must be a torch.Tensor, got list: convert"),
    data(
        IMAGES.to_sparse(), LABELS, TypeError, "images", "must be dense, got torch.sparse_coo: convert with .to_dense()"
    ),
    data(
        torch.nested.nested_tensor([*IMAGES], layout=torch.jagged),
        LABELS,
        TypeError,
        "images",
        "must be dense, got torch.jagged: ",
    ),
    data(IMAGES[:0], LABELS[:0], ValueError, "targets", "at least one, got shape (0,)"),
    data(
        IMAGES[:, :0],
        LABELS,
        ValueError,
        "shape",
        "must be whole numbers of 1 or more",
        "got torch.Size([4, 0, 8, 12])",
    ),
    data(torch.tensor(1.0), LABELS, ValueError, "images", "must have one entry an image", "of shape ()"),
    data(
        torch.zeros(4, 3, 50), LABELS, ValueError, "images", "got shape (4, 3, 50): ", "spatial_dims=(2,) for signals"
    ),
    data(torch.zeros(4, 32, 48, 3), LABELS, ValueError, "images", "(1, 2) for grey or channels-last pictures"),
    data(torch.zeros(4, 2, 5, 6, 7), LABELS, ValueError, "images", "(2, 3, 4) for volumes"),
    data(
        torch.zeros(4),
        LABELS,
        ValueError,
        "samples",
        "axis behind the batch, got shape (4,): ",
        function=cf.mixup_batch,
    ),
    data(IMAGES, LABELS[:3], ValueError, "targets", "one entry an image", "got shape (3,) for images of shape (4, 3"),
    data(IMAGES, [0, 1, 2, 3], TypeError, "targets", "must be a torch.Tensor, got list: convert"),
    data(IMAGES, None, TypeError, "targets", "must be a torch.Tensor, got NoneType: convert"),
    data(IMAGES, "abcd", TypeError, "targets", "must be a torch.Tensor, got str: convert"),
    data(IMAGES, MixedTarget(LABELS, LABELS, PLAN.kept), ValueError, "targets", "must not be mixed yet", "take one"),
    data(IMAGES, {}, ValueError, "targets", "must hold a tensor each", "{}"),
    called(
        lambda: cf.cutmix_batch(IMAGES[:1], LABELS[:1], bbox=(0, 0, 9, 9)), ValueError, "bbox", "got (0, 0, 9, 9): "
    ),
    called(
        lambda: cf.cutmix_batch(IMAGES[:1], LABELS[:1], indices=LABELS[1:2]), ValueError, "indices", "got tensor([1])"
    ),
    called(lambda: cf.cutout_batch([IMAGES]), TypeError, "images", "must be a torch.Tensor, got list: convert"),
    called(lambda: cf.cutout_batch(torch.tensor(1.0)), ValueError, "shape", "must be whole numbers of 1 or more"),
    mixed("targets", LABELS > 1, TypeError, "must be integer or floating point, got torch.bool: convert"),
    mixed("targets", LABELS.to(torch.complex64), TypeError, "must be integer or floating point, got torch.complex64: "),
    mixed("targets", torch.zeros(4, 5, dtype=torch.int64), ValueError, "got torch.int64 of shape (4, 5): integer rows"),
    mixed(
        "targets", torch.zeros(4, 8, 11), ValueError, "must be class indices", "got torch.float32 of shape (4, 8, 11): "
    ),
    called(
        lambda: CutMix(spatial_dims=(2,))(torch.zeros(4, 3, 10), torch.zeros(4, 10), generator=torch.Generator()),
        ValueError,
        "targets",
        "of shape (4, 10) can be label rows or a signal as long as the images",
        "kinds='label' or kinds='mask'",
    ),
    mixed("kinds", "labels", ValueError, "must be one of ('label', 'mask'), got 'labels'"),
    mixed("kinds", {"depth": "mask"}, ValueError, "got something for targets['depth']: there are targets"),
    mixed("kinds", "mask", ValueError, "must be what the plan was drawn for", "got shape (4,)", name="targets"),
    mixed("plan", CutMix(), TypeError, "must be a Plan, got CutMix(", "plan = recipe.draw(images.shape)"),
    mixed("plan", None, TypeError, "must be a Plan, got None: draw one"),
    mixed("plan", CutMix().draw((4, 3, 12, 8)), ValueError, "plan was drawn for, a batch of 4 with size (12, 8), got"),
    mixed("plan", CutMix().draw((5, 3, 8, 12)), ValueError, "plan was drawn for, a batch of 5 with size (8, 12), got"),
    mixed("plan", MixUp(mixing=0.3).draw(SHAPE), TypeError, "blended, got torch.uint8: ", name="images", images=BYTES),
    mixed("plan", MixUp(mixing=0.3).draw(SHAPE), TypeError, "blended, got torch.bool: ", name="targets", labels=MASK),
    mixed("images", torch.zeros(4, 8), ValueError, "must name different axes of shape (4, 8)", name="spatial_dims"),
    mixed("spatial_dims", "23", TypeError, "must be a tuple of axes, got '23': "),
    mixed("spatial_dims", (2.0, 3.0), TypeError, "must be a tuple of axes, got (2.0, 3.0): "),
    by_mask(MASK.float(), LABELS, TypeError, "mask", "must be bool, got torch.float32: convert"),
    by_mask(MASK[0], LABELS, ValueError, "mask", "must be (1, *size) or (4, *size), got shape (8, 12): "),
    by_mask(MASK[:3], LABELS, ValueError, "mask", "must be (1, *size) or (4, *size), got shape (3, 8, 12): "),
    by_mask(MASK, LABELS + 1, ValueError, "partners", "must lie in [0, 4)", "got [1, 2, 3, 4]: "),
    by_mask(MASK, -LABELS, ValueError, "partners", "must lie in [0, 4)", "got [0, -1, -2, -3]: "),
    by_mask(
        MASK, LABELS.to(torch.uint8), ValueError, "partners", "must be whole numbers", "got torch.uint8", "convert"
    ),
    by_mask(MASK, LABELS.tolist(), TypeError, "partners", "must be a torch.Tensor, got list: convert"),
    normalized("images", IMAGES, TypeError, "of torch.uint8, got torch.float32 of shape (4, 3, 8, 12): "),
    normalized("mean", (123.7, 116.3, 103.5), ValueError, "must lie in [0, 1], got [123.", "divide it by 255"),
    normalized("mean", (NAN, 0.5, 0.5), ValueError, "must lie in [0, 1], got [nan, 0.5, 0.5]: "),
    normalized("mean", "abc", TypeError, "must be numbers, one a channel, got 'abc': pass (0.5, 0.5, 0.5)"),
    normalized("mean", 0.5, ValueError, "must be 3 numbers, one a channel, got 0.5: "),
    normalized("std", (0.5, 0.0, 0.5), ValueError, "must lie in (0, 1], got [0.5, 0.0, 0.5]: "),
    normalized("std", (58.4, 57.1, 57.4), ValueError, "must lie in (0, 1], got [58.", "divide it by 255"),
    normalized("dtype", torch.int32, TypeError, "must be floating point, got torch.int32: "),
    normalized("dtype", "float32", TypeError, "must be floating point, got float32: "),
    normalized("targets", LABELS[:3], ValueError, "must have one entry an image"),
]

OUTS = [
    (torch.zeros(4, 3, 8, 11), ValueError, "must be like the images", "got (4, 3, 8, 11)", "torch.empty_like(images)"),
    (torch.zeros(SHAPE, dtype=torch.float64), ValueError, "must be like the images", "torch.float64", "empty_like"),
    (torch.zeros(SHAPE, device="meta"), ValueError, "must be like the images", "on meta", "empty_like"),
    (LEAF, ValueError, "must not be a leaf that requires grad, got one: ", "leave out= away"),
    (LEAF[:], ValueError, "must not be a leaf that requires grad, got one: ", "leave out= away"),
    (torch.zeros(1, 3, 8, 12).expand(SHAPE), ValueError, "memory for every pixel, got strides (0, ", "empty_like"),
    (
        torch.zeros(800).as_strided(SHAPE, (99, 33, 4, 1)),
        ValueError,
        "memory for every pixel, got strides (99, 33, 4, 1)",
    ),
    (np.zeros(SHAPE), TypeError, "must be a", "torch.Tensor, got ndarray: "),
    (torch.zeros(SHAPE).to_sparse(), TypeError, "must be", "dense", "got torch.sparse_coo: "),
    (
        MEMORY.flatten()[1 : 1 + 4 * 288].view(SHAPE),
        ValueError,
        "share no memory with them, got another view",
        "empty_like",
    ),
    (MEMORY[1:], ValueError, "share no memory with them, got another view", "empty_like"),
]
TAKERS = {
    "cutmix": lambda images, out: cf.cutmix_batch(images, LABELS, out=out),
    "mixup": lambda images, out: cf.mixup_batch(images, LABELS, out=out),
    "cutout": lambda images, out: cf.cutout_batch(images, out=out),
    "mix": lambda images, out: mix(images, LABELS, PLAN, out=out),
}


@pytest.mark.parametrize("case", [*SETTINGS, *RECIPES, *DATA], ids=ids)
def test_a_bad_argument_is_refused_and_nothing_is_touched(case):
    check_refused(case)


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(("out", "error", "words"), [(out, error, words) for out, error, *words in OUTS])
def test_a_bad_out_is_refused_and_nothing_is_written(taker, out, error, words):
    images = MEMORY[:4]

    check_refused(Case(lambda: TAKERS[taker](images, out), error, "out", tuple(words), reads=(MEMORY, LEAF.detach())))


def test_what_only_looks_bad_is_taken():
    assert CutMix(alpha=np.float32(1.0), p=np.float64(0.5), bbox=(np.int64(0), 0, 1, 1)).draw(SHAPE).batch == 4
    assert cf.cutmix_batch(IMAGES, LABELS, indices=LABELS.flip(0).to(torch.uint8)).target_perm.tolist() == [3, 2, 1, 0]
    assert cf.cutmix_batch(torch.zeros(2, 3, 224, 3), torch.arange(2)).mixed.shape == (2, 3, 224, 3)
    assert cf.cutmix_batch(MEMORY[:2], LABELS[:2], out=MEMORY[2:4]).mixed is not None
    assert cf.mixup_batch(BYTES, LABELS, p=0).mixing == 0


@pytest.mark.parametrize("held", ["target", "the source's target"])
def test_out_never_lies_in_the_labels(held):
    rows = torch.rand(SHAPE)
    labels, others = (rows[:, 0, 0], torch.rand(4, 12)) if held == "target" else (torch.rand(4, 12), rows[:, 0, 0])
    settings = {"images": BYTES, "plan": PLAN, "mean": HALF, "std": HALF}

    for call in (
        lambda: cf.cutmix_batch(rows, labels, source=(OTHERS[0], others), out=rows),
        lambda: mix(rows, labels, PLAN, source=(OTHERS[0], others), out=rows, kinds="label"),
        lambda: mix_normalize(targets=rows[:, 0, 0], out=rows, **settings),
    ):
        check_refused(Case(call, ValueError, "out", ("share no memory",), reads=(rows,)))
