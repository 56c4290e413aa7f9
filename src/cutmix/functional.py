"""The functions of the method card: build the recipe, draw, mix, unpack."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from cutmix.algorithms.cutmix import CutMix
from cutmix.algorithms.cutout import CutOut
from cutmix.algorithms.labelsmoothing import LabelSmoothing
from cutmix.algorithms.mixer import Mixer
from cutmix.algorithms.mixup import MixUp
from cutmix.algorithms.pairing import labels_in
from cutmix.draws import Pairing
from cutmix.mixing import check_images, check_source_and_out, check_targets, partners_of, paste, samples_in
from cutmix.plans import Plan
from cutmix.shapes import Images, Labels, Logits, Partners, Rows
from cutmix.targets import MixedTarget

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class CutMixed(NamedTuple):
    """What ``cutmix_batch`` returns.

    Attributes:
        mixed: the images, a box of each filled with its partner's.
        target_perm: ``target[partners]``, of the source's target where there is a source.
        area: the share of each image that is its own, in [0, 1], counted in pixels: a number for the whole batch, or
            with ``per_sample`` a float32 tensor (batch,) on the images' device. Inside ``torch.compile`` a tensor.
        bbox: whole numbers (top, left, bottom, right); all starts, then all stops, in other numbers of axes. With
            ``per_sample`` an int64 tensor (batch, 4) on the host; inside ``torch.compile`` one of (4,).
    """

    mixed: Images
    target_perm: Labels
    area: float | Tensor
    bbox: tuple[int, ...] | Tensor


class MixedUp(NamedTuple):
    """What ``mixup_batch`` returns.

    Attributes:
        mixed: the samples, blended with their partners.
        target_perm: ``target[partners]``, of the source's target where there is a source.
        mixing: the weight of the *partner*, in [0, 1]: a number, or with ``per_sample`` a float32 tensor (batch,) on
            the samples' device.
    """

    mixed: Images
    target_perm: Labels
    mixing: float | Tensor


def cutmix_batch(  # noqa: PLR0913 - Composer's arguments, and a few
    input: Images,  # noqa: A002
    target: Labels,
    length: float | None = None,
    alpha: float = 1.0,
    bbox: tuple[int, ...] | None = None,
    indices: Tensor | None = None,
    uniform_sampling: bool = False,  # noqa: FBT001, FBT002
    *,
    per_sample: bool = False,
    p: float = 1.0,
    min_max: tuple[float, float] | None = None,
    pairing: Pairing = "ring",
    source: tuple[Images, Labels] | None = None,
    out: Images | None = None,
    spatial_dims: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> CutMixed:
    """Fill a box of each image with the same region of another; ``per_sample`` makes ``area`` a tensor (batch,).

    Source: Yun et al. 2019. With ``per_sample`` the card's loss line needs a ``loss_fn`` with ``reduction="none"``, and
    the mean: ``loss = (area * loss_fn(y_hat, y) + (1 - area) * loss_fn(y_hat, y_perm)).mean()``; as it stands it fails
    in ``backward``.

    As on the method card: ``area`` weighs each sample's *own* label, the partner's is weighed by the rest:
    ``loss = area * loss_fn(outputs, y) + (1 - area) * loss_fn(outputs, target_perm)``.

    Args:
        input: (batch, channels, height, width), any dtype and device. Never written to, unless it is also ``out``.
            A batch of one is left as it is, whatever else is given but ``source``.
        target: (batch, ...), targets of any kind.
        length: cut this fraction of each side, in (0, 1], instead of drawing it: 0.25 cuts a quarter of each side.
        alpha: lambda is drawn from Beta(alpha, alpha); unused with ``length``, ``bbox`` or ``min_max``.
        bbox: cut just this box, (top, left, bottom, right) in whole pixels.
        indices: (batch,), each sample's partner, instead of drawing them.
        uniform_sampling: place the box so that every pixel is equally likely to be replaced.
        per_sample: draw a box of its own for each image.
        p: the chance that the batch (with ``per_sample``: each image) is mixed at all; if not, ``area`` is 1.
        min_max: cut a box that lies wholly inside, each side between these two fractions of the image's, (0.2, 0.8).
        pairing: "ring", one random cycle, where nobody is its own partner; "shuffle", Composer's permutation; or
            "same_class", a random cycle inside each class: the target's ids, or where its rows are largest.
        source: another batch (images, targets), of any length, that the partners come from: nobody twice before
            everybody has been drawn once. ``indices`` then are positions in it.
        out: where the mixed images go; ``out=input`` is in place. Else always new memory.
        spatial_dims: the axes to cut, for what is not (batch, channels, height, width).
        generator: a CPU generator to draw from; else torch's default one.

    Raises:
        TypeError: when an argument is of the wrong type.
        ValueError: when an argument is out of its range or does not fit the others.
    """
    recipe = CutMix(
        alpha,
        uniform_sampling=uniform_sampling,
        per_sample=per_sample,
        p=p,
        length=length,
        bbox=bbox,
        min_max=min_max,
        pairing=pairing,
        spatial_dims=_tuple(spatial_dims),
    )
    _check_data(input, target, source, out)
    plan = _draw(recipe, input, target, indices, source, generator)
    partners, labels = (input, target) if source is None else source
    mixed = paste(input, plan, source=partners, out=out, spatial_dims=recipe.spatial_dims)
    if per_sample:
        return CutMixed(mixed, partners_of(labels, plan), _on(input, plan.kept), _rows_of_boxes(plan))
    if not plan.is_readable:
        return CutMixed(mixed, partners_of(labels, plan), _on(input, plan.kept[0]), plan.boxes.flatten())
    return CutMixed(mixed, partners_of(labels, plan), plan.area, plan.bbox)


def mixup_batch(  # noqa: PLR0913 - Composer's arguments, and a few
    input: Images,  # noqa: A002
    target: Labels,
    mixing: float | None = None,
    alpha: float = 0.2,
    indices: Tensor | None = None,
    *,
    per_sample: bool = False,
    p: float = 1.0,
    pairing: Pairing = "ring",
    source: tuple[Images, Labels] | None = None,
    out: Images | None = None,
    spatial_dims: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> MixedUp:
    """Blend each sample with another; ``per_sample`` makes ``mixing`` a tensor (batch,) (Zhang et al. 2018).

    As in Composer ``mixing`` weighs the *partner*, where CutMix's ``area`` weighs one's own:
    ``loss = (1 - mixing) * loss_fn(outputs, y) + mixing * loss_fn(outputs, target_perm)``.

    Args:
        input: (batch, ...), floating point. Never written to, unless it is also ``out``.
        target: (batch, ...), targets of any kind.
        mixing: the partner's weight, in [0, 1], instead of drawing it.
        alpha: ``mixing`` is the smaller of lambda and 1 - lambda, lambda ~ Beta(alpha, alpha).
        indices: (batch,), each sample's partner, instead of drawing them.
        per_sample: draw a weight of its own for each sample.
        p: the chance that the batch (with ``per_sample``: each sample) is mixed at all; if not, ``mixing`` is 0.
        pairing: "ring", one random cycle, where nobody is its own partner; "shuffle", Composer's permutation; or
            "same_class", a random cycle inside each class: the target's ids, or where its rows are largest.
        source: another batch (samples, targets), of any length, that the partners come from: nobody twice before
            everybody has been drawn once. ``indices`` then are positions in it.
        out: where the mixed samples go; ``out=input`` is in place. Else always new memory.
        spatial_dims: the axes of a sample's size; has no effect on the result.
        generator: a CPU generator to draw from; else torch's default one.

    Raises:
        TypeError: when an argument is of the wrong type, or the samples are integers.
        ValueError: when an argument is out of its range or does not fit the others.
    """
    recipe = MixUp(alpha, per_sample=per_sample, p=p, mixing=mixing, pairing=pairing, spatial_dims=_tuple(spatial_dims))
    _check_data(input, target, source, out)
    plan = _draw(recipe, input, target, indices, source, generator)
    partners, labels = (input, target) if source is None else source
    mixed = paste(input, plan, source=partners, out=out, spatial_dims=recipe.spatial_dims)
    blended = plan.opacity * plan.boxes.flatten(1).any(1)
    if per_sample:
        weight = _on(input, blended.expand(plan.batch))
    else:
        weight = blended.item() if plan.is_readable else _on(input, blended[0])
    return MixedUp(mixed, partners_of(labels, plan), weight)


def cutout_batch(  # noqa: PLR0913 - Composer's arguments, and a few
    input: Images,  # noqa: A002
    num_holes: int = 1,
    length: float = 0.5,
    uniform_sampling: bool = False,  # noqa: FBT001, FBT002
    *,
    p: float = 1.0,
    fill: float = 0.0,
    out: Images | None = None,
    spatial_dims: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Images:
    """Fill square holes of each image with one value (DeVries and Taylor 2017); the labels stay.

    Args:
        input: (batch, channels, height, width), any dtype and device. Never written to, unless it is also ``out``.
        num_holes: how many; the same for the whole batch.
        length: the side of a hole as a share of the image's shorter side, in (0, 1].
        uniform_sampling: place holes so that every pixel is equally likely to be covered.
        p: the chance that the batch gets holes at all.
        fill: what the holes are filled with.
        out: where the images go; ``out=input`` is in place. Else always new memory.
        spatial_dims: the axes to cut, for what is not (batch, channels, height, width).
        generator: a CPU generator to draw from; else torch's default one.

    Raises:
        TypeError: when an argument is of the wrong type.
        ValueError: when an argument is out of its range or does not fit the others.
    """
    recipe = CutOut(num_holes, length, uniform_sampling, p=p, fill=fill, spatial_dims=_tuple(spatial_dims))
    return recipe(input, out=out, generator=generator)


def smooth_labels(logits: Logits, target: Labels | MixedTarget, smoothing: float = 0.1) -> Rows:
    """Give ``smoothing`` of each label to all classes alike (Szegedy et al. 2016), before labels are mixed or after.

    Args:
        logits: (batch, classes, ...), for the number of classes.
        target: class ids (batch, ...), rows like the logits, or a MixedTarget of either.
        smoothing: the share that goes to all classes alike, in [0, 1].

    Returns:
        Rows (batch, classes, ...).

    Raises:
        TypeError: when ``smoothing`` is no number.
        ValueError: when it lies outside of [0, 1], or the target does not fit the logits.
    """
    return LabelSmoothing(smoothing)(logits, target)


def _check_data(images: Images, targets: Labels, source: tuple[Images, Labels] | None, out: Images | None) -> None:
    """Check all but the settings, before anything is drawn."""
    check_images(images)
    check_targets(targets, images)
    samples_in(source)
    check_source_and_out(images, targets, source, out)


def _draw(
    recipe: Mixer,
    images: Images,
    targets: Labels,
    indices: Tensor | None,
    source: tuple[Images, Labels] | None,
    generator: torch.Generator | None,
) -> Plan:
    batch, others = images.shape[0], None if source is None else len(source[0])
    partners = None if indices is None else _checked(indices, batch, others or batch)
    labels = labels_in(targets) if recipe.needs_labels else None
    plan = recipe.draw(images.shape, generator=generator, labels=labels, source=others)
    return plan if partners is None else replace(plan, partners=partners)


def _on(images: Images, values: Tensor) -> Tensor:
    return values.to(images.device, torch.float32, non_blocking=True)


def _rows_of_boxes(plan: Plan) -> Tensor:
    return plan.boxes.expand(plan.batch, -1, -1).flatten(1)


def _checked(indices: Tensor, batch: int, others: int) -> Partners:
    check_images(indices, "indices")
    fits = tuple(indices.shape) == (batch,) and indices.dtype in WHOLE and not indices.is_meta
    indices = indices.cpu() if fits else indices
    in_range = torch.compiler.is_compiling() or not fits or bool(((indices >= 0) & (indices < others)).all())
    if not fits or not in_range:
        raise ValueError(
            f"indices must be {batch} whole numbers in [0, {others}), one partner a sample, got {indices}: "
            f"for a permutation pass torch.randperm({others})[:{batch}]"
        )
    return indices.long()


def _tuple(spatial_dims: Sequence[int] | None) -> tuple[int, ...] | None:
    return tuple(spatial_dims) if isinstance(spatial_dims, Sequence) else spatial_dims
