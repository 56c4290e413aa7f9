"""Apply a plan to a batch and its targets: the data are checked here, before anything is touched."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from cutmix.axes import Axes, checked_axes
from cutmix.backends import mix_trusted
from cutmix.backends.partners import check_present
from cutmix.memory import check_outs, is_same
from cutmix.plans import Plan
from cutmix.shapes import Images, Labels, Masks, Partners
from cutmix.stencils import Stencil
from cutmix.targets import MixedTarget
from cutmix.trees import Tree, filled, is_leaf, named, walk

Kind: TypeAlias = Literal["label", "mask"]
Leaves: TypeAlias = dict[str, Tensor]
"""The tensors of a tree by where they lie in it."""


def mix(  # noqa: PLR0913 - a batch, its plan, and what few need
    images: Tree,
    targets: Tree,
    plan: Plan | Stencil,
    *,
    source: tuple[Tree, Tree] | None = None,
    out: Tree | None = None,
    spatial_dims: Tree | Sequence[int] | None = None,
    kinds: Tree | Kind | None = None,
) -> tuple[Any, Any]:
    """Apply ``plan`` to a batch and its targets. The same plan gives the same bytes, on every backend.

    Images and targets may be trees: tuples, lists, dicts, named tuples, dataclasses, in each other. Each leaf goes by
    its rule, and the trees come back as they were built. All is checked before anything is written.

    Args:
        images: (batch, ...), of any dtype: each carries the plan's size. Never written to, unless they are also
            ``out``.
        targets: class indices (batch,) of any integer dtype, numbers (batch,) or float rows (batch, classes): they
            become a MixedTarget. What has the plan's size behind at least one more axis is a mask or a map: it is
            pasted by the same plan, integers as they are.
        plan: what was drawn for this batch.
        source: images and targets, built like these and of any number, that the partners come from; else these.
        out: where the mixed images go, built like them: ``out=images`` is in place, other memory must share nothing
            with what is read. Targets are always new.
        spatial_dims: which axes of the images the plan cuts, in the plan's order; else the last ones. For all images,
            or built like them.
        kinds: "label" or "mask", where shapes cannot tell: for all targets, or built like them, as far as needed. What
            is told to be labels may have any number of axes behind the batch's.

    Raises:
        TypeError: when a leaf is no tensor, or of a dtype that cannot be mixed.
        ValueError: when a shape, a structure, the plan's partners, ``out`` or ``spatial_dims`` do not fit.
    """
    if not isinstance(plan, Plan | Stencil):
        raise TypeError(f"plan must be a Plan, got {plan!r}: draw one, plan = recipe.draw(images.shape)")
    check_targets(targets, images)
    return mix_checked(images, targets, plan, source=source, out=out, spatial_dims=spatial_dims, kinds=kinds)


def mix_checked(  # noqa: PLR0913 - as mix
    images: Tree,
    targets: Tree,
    plan: Plan | Stencil,
    *,
    source: tuple[Tree, Tree] | None = None,
    out: Tree | None = None,
    spatial_dims: Tree | Sequence[int] | None = None,
    kinds: Tree | Kind | None = None,
) -> tuple[Any, Any]:
    """Apply ``plan`` to a batch and targets that ``check_targets`` has seen; else as ``mix``."""
    inputs, labels = named(images, "images"), named(targets, "targets")
    input_source, label_source = (inputs, labels) if source is None else _checked_sources(inputs, labels, source)
    axes = _axes_for(inputs, plan, spatial_dims)
    rules = _kinds_for(labels, plan, kinds)
    _check_partners(plan, {**input_source, **label_source})
    outs = dict.fromkeys(inputs)
    if out is not None:
        held = [leaf for path, leaf in _both(labels, label_source) if rules[path] == "label"]
        outs = inputs if out is images else _like("out", out, inputs, "images")
        check_outs(inputs, outs, input_source, held)
    # The targets first: masks may lie in the memory that the images are written to.
    mixed_targets = _mixed_targets(labels, plan, label_source, rules)
    mixed_images = [_pasted(leaf, plan, input_source[path], outs[path], axes[path]) for path, leaf in inputs.items()]
    return filled(images, mixed_images), filled(targets, mixed_targets)


def mix_by_mask(  # noqa: PLR0913 - as mix
    images: Tree,
    targets: Tree,
    mask: Masks,
    partners: Partners,
    *,
    source: tuple[Tree, Tree] | None = None,
    out: Tree | None = None,
    spatial_dims: Tree | Sequence[int] | None = None,
    kinds: Tree | Kind | None = None,
) -> tuple[Any, Any]:
    """Show each sample's partner where ``mask`` is true, a shape of any form; labels are weighted by what shows.

    Args:
        images: (batch, ..., *size) of any dtype, or a tree of them.
        targets: as for ``mix``; masks and maps among them are pasted alike.
        mask: (1, *size) for the whole batch or (batch, *size), bool. On a device it is waited for: labels are weighted
            on the host.
        partners: (batch,) whole numbers, who shows in each sample.
        source: images and targets that the partners come from; else these.
        out: where the mixed images go; ``out=images`` is in place.
        spatial_dims: which axes of the images the mask's are; else the last ones.
        kinds: "label" or "mask", where shapes cannot tell.

    Raises:
        TypeError: when a leaf is no tensor, of a dtype that cannot be mixed, or the mask is not bool.
        ValueError: when a shape, a structure or the partners do not fit.
    """
    check_images(mask, "mask")
    check_images(partners, "partners")
    stencil = Stencil(mask, partners)
    return mix(images, targets, stencil, source=source, out=out, spatial_dims=spatial_dims, kinds=kinds)


def paste(
    images: Images,
    plan: Plan,
    *,
    source: Images | None = None,
    out: Images | None = None,
    spatial_dims: Sequence[int] | None = None,
) -> Images:
    """Apply ``plan`` to one batch of images that ``check_source_and_out`` has seen."""
    axes = _axes_of(images, plan, spatial_dims, "images")
    return _pasted(images, plan, images if source is None else source, out, axes)


def check_source_and_out(images: Images, targets: Tree, source: tuple[Images, Tree] | None, out: Images | None) -> None:
    """Check where partners come from and results go to, before anything is drawn.

    Raises:
        TypeError: when the source is no pair, or ``out`` no tensor.
        ValueError: when they do not fit the images and targets, or ``out`` shares memory with the targets.
    """
    inputs, labels = {"images": images}, named(targets, "targets")
    source_images, source_labels = (inputs, labels) if source is None else _checked_sources(inputs, labels, source)
    if out is not None:
        check_images(out, "out")
        check_outs(inputs, {"images": out}, source_images, [leaf for _, leaf in _both(labels, source_labels)])


def partners_of(targets: Tree, plan: Plan | Stencil) -> Any:  # noqa: ANN401 - as the targets are built
    """Return each sample's partner's target."""

    def of_leaf(leaf: Labels) -> Labels:
        return leaf.index_select(0, plan.partners.to(leaf.device, non_blocking=True))

    return walk(targets, of_leaf)


def check_targets(targets: Tree, images: Tree, whose: str = "") -> None:
    """Check that images and targets are tensors, and that there is one target an image; errors say ``whose``.

    Raises:
        TypeError: when one of them is no tensor.
        ValueError: when their numbers differ, or there are none.
    """
    inputs, labels = named(images, f"{whose}images"), named(targets, f"{whose}targets")
    if not inputs or not labels:
        raise ValueError(f"{whose}images and targets must hold a tensor each, got {images!r} and {targets!r}")
    for path, leaf in (inputs | labels).items():
        if isinstance(leaf, MixedTarget):
            raise ValueError(  # noqa: TRY004 - the type is right, once
                f"{path} must not be mixed yet, got a MixedTarget: the batch has met two mixers, perhaps one in the "
                "loader's collate_fn; take one of them away"
            )
        check_images(leaf, path)
    path, first = next(iter(inputs.items()))
    samples = first.shape[0] if first.ndim else 0
    for other, leaf in (labels | inputs).items():
        if not samples or not leaf.ndim or leaf.shape[0] != samples:
            raise ValueError(
                f"{other} must have one entry an image, and at least one, got shape {tuple(leaf.shape)} for {path} of "
                f"shape {tuple(first.shape)}: both start with the batch axis"
            )


def check_pair(source: object) -> None:
    """Check that a source holds images and targets.

    Raises:
        TypeError: when it is no pair.
    """
    if not isinstance(source, tuple | list) or len(source) != 2:  # noqa: PLR2004 - a pair
        raise TypeError(
            f"source must be a pair (images, targets), got {type(source).__name__}: labels come from there too"
        )


def samples_in(source: tuple[Tree, Tree] | None) -> int | None:
    """Return how many samples partners may come from, where they come from another batch.

    Raises:
        TypeError: when the source is no pair, or holds no tensors.
        ValueError: when its images and targets are not one to one.
    """
    if source is None:
        return None
    check_pair(source)
    images, targets = source
    check_targets(targets, images, "source's ")
    return len(next(iter(named(images, "images").values())))


def check_images(images: object, name: str = "images") -> None:
    """Check that images, or whatever errors shall call them, are a tensor that lies in strides.

    Raises:
        TypeError: when they are not.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(images).__name__}: convert with torch.as_tensor")
    if images.layout is not torch.strided:
        raise TypeError(f"{name} must be dense, got {images.layout}: convert with .to_dense()")
    if images.is_quantized:
        raise TypeError(f"{name} must be plain numbers, got {images.dtype}: convert with .dequantize()")


def _mixed_targets(labels: Leaves, plan: Plan | Stencil, source: Leaves, rules: Mapping[str, Kind]) -> list[Any]:
    kept = plan.kept
    return [
        MixedTarget(leaf, partners_of(source[path], plan), kept)
        if rules[path] == "label"
        else _pasted(leaf, plan, source[path], None, _last_axes(leaf, plan))
        for path, leaf in labels.items()
    ]


def _pasted(images: Images, plan: Plan | Stencil, source: Images, out: Images | None, axes: Axes) -> Images:
    """Paste along ``axes``, as a view in which they are the last ones: backends know no others."""
    show = plan.show if isinstance(plan, Stencil) else partial(_show_boxes, plan)
    last = _last_axes(images, plan)
    if axes == last:
        return show(images, source, out)
    mixed = torch.empty_like(images) if out is None else out
    moved = images.movedim(axes, last)
    show(moved, moved if source is images else source.movedim(axes, last), mixed.movedim(axes, last))
    return mixed


def _show_boxes(plan: Plan, images: Images, source: Images, out: Images | None) -> Images:
    return mix_trusted(images, plan, source=None if source is images else source, out=out)


def _last_axes(images: Images, plan: Plan | Stencil) -> Axes:
    return tuple(range(images.ndim - len(plan.size), images.ndim))


def _axes_for(inputs: Leaves, plan: Plan | Stencil, spatial_dims: Tree | Sequence[int] | None) -> dict[str, Axes]:
    """Return the axes that the plan cuts of each of the images, checked to have its size."""
    chosen = _chosen("spatial_dims", spatial_dims, inputs, "images")
    return {path: _axes_of(leaf, plan, chosen[path], path) for path, leaf in inputs.items()}


def _axes_of(images: Images, plan: Plan | Stencil, spatial_dims: Sequence[int] | None, path: str) -> Axes:
    axes = _last_axes(images, plan)
    if spatial_dims is not None or images.ndim <= len(plan.size):
        axes = checked_axes(images.shape, axes if spatial_dims is None else spatial_dims)
    _check_fit(images, plan, axes, path)
    return axes


def _check_fit(images: Images, plan: Plan | Stencil, axes: Axes, path: str) -> None:
    size = tuple(images.shape[axis] for axis in axes)
    if size != plan.size or images.shape[0] != plan.batch:
        raise ValueError(
            f"{path} must be what the plan was drawn for, a batch of {plan.batch} with size {plan.size}, got shape "
            f"{tuple(images.shape)} with size {size} along axes {axes}: draw another plan, or pass spatial_dims"
        )
    if not (isinstance(plan, Stencil) or images.is_floating_point()) and plan.blends:
        raise TypeError(
            f"{path} must be floating point to be blended, got {images.dtype}: convert with .float(), complex numbers "
            "with torch.view_as_real"
        )


def _kinds_for(labels: Leaves, plan: Plan | Stencil, kinds: Tree | Kind | None) -> dict[str, Kind]:
    """Return the rule that each of the targets goes by, checked to follow it."""
    chosen = _chosen("kinds", kinds, labels, "targets", lambda part: part is None or isinstance(part, str))
    rules = {}
    for path, leaf in labels.items():
        rules[path] = _kind_of(leaf, plan.size, path) if chosen[path] is None else chosen[path]
        match rules[path]:
            case "mask":
                _check_fit(leaf, plan, _last_axes(leaf, plan), path)
            case "label":
                _check_label(leaf, path, told=chosen[path] is not None)
            case other:
                raise ValueError(f"kinds must be one of {get_args(Kind)}, got {other!r} for {path}")
    return rules


def _kind_of(leaf: Labels, size: tuple[int, ...], path: str) -> Kind:
    """Tell labels from masks by their shape."""
    fits = leaf.ndim > len(size) and tuple(leaf.shape[-len(size) :]) == size
    could_be_rows = leaf.ndim == 2 and leaf.is_floating_point()  # noqa: PLR2004 - (batch, classes)
    if fits and could_be_rows:
        raise ValueError(
            f"{path} of shape {tuple(leaf.shape)} can be label rows or a signal as long as the images, which are mixed "
            "in different ways: tell which by kinds='label' or kinds='mask'"
        )
    return "mask" if fits else "label"


def _check_label(leaf: Labels, path: str, *, told: bool) -> None:
    if leaf.dtype is torch.bool or leaf.is_complex():
        raise TypeError(f"{path} must be integer or floating point, got {leaf.dtype}: convert with .long() or .float()")
    if not told and leaf.ndim > (2 if leaf.is_floating_point() else 1):
        raise ValueError(
            f"{path} must be class indices (batch,), float rows (batch, classes), or a mask that ends in the images' "
            f"size, got {leaf.dtype} of shape {tuple(leaf.shape)}: integer rows need .float(), ids of (batch, 1) "
            ".flatten(); for labels of more axes pass kinds='label' to mix"
        )


def _chosen(
    argument: str, given: Tree, leaves: Leaves, name: str, is_leaf: Callable[[object], bool] = is_leaf
) -> dict[str, Any]:
    """Return what is given for each leaf: one thing for all, or a tree that is built like theirs as far as it goes."""
    if given is None:
        return dict.fromkeys(leaves)
    chosen = named(given, name, is_leaf)
    if list(chosen) == [name]:
        return dict.fromkeys(leaves, given)
    if unknown := chosen.keys() - leaves.keys():
        raise ValueError(
            f"{argument} must be one for all {name}, or built like them, got something for "
            f"{', '.join(sorted(unknown))}: there are {', '.join(leaves)}"
        )
    return {path: chosen.get(path) for path in leaves}


def _like(argument: str, given: Tree, leaves: Leaves, name: str) -> Leaves:
    """Return the tensors of a tree that is built like the ``leaves``."""
    found = named(given, name)
    if found.keys() != leaves.keys():
        raise ValueError(
            f"{argument} must be built like the {name}, {', '.join(leaves)}, got {', '.join(found) or 'nothing'}: "
            "give it the same keys"
        )
    for path, leaf in found.items():
        check_images(leaf, argument if path == name else f"{argument} for {path}")
    return found


def _both(labels: Leaves, source: Leaves) -> list[tuple[str, Tensor]]:
    """List the leaves of both, once where the partners' labels are the batch's own."""
    return [*labels.items()] if source is labels else [*labels.items(), *source.items()]


def _checked_sources(inputs: Leaves, labels: Leaves, source: tuple[Tree, Tree]) -> tuple[Leaves, Leaves]:
    check_pair(source)
    return _checked_source(inputs, source[0], "images"), _checked_source(labels, source[1], "targets")


def _checked_source(leaves: Leaves, given: Tree, name: str) -> Leaves:
    """Return where the partners of each leaf come from, checked to be of the same kind."""
    found = _like("source", given, leaves, name)
    for path, leaf in leaves.items():
        other = found[path]
        if is_same(other, leaf):
            found[path] = leaf
        elif not other.ndim or _sample(other) != _sample(leaf):
            raise ValueError(
                f"source must have samples like {path}, {tuple(leaf.shape[1:])} {leaf.dtype} on {leaf.device}, got "
                f"{tuple(other.shape[1:])} {other.dtype} on {other.device}: prepare both batches alike"
            )
    return found


def _sample(leaf: Tensor) -> tuple[object, ...]:
    return leaf.shape[1:], leaf.dtype, leaf.device


def _check_partners(plan: Plan | Stencil, source: Leaves) -> None:
    """Check that partners are there to be pasted: compiled backends trust it."""
    counts = {leaf.shape[0] for leaf in source.values()}
    if len(counts) > 1:
        raise ValueError(
            f"source must have as many targets as images, got {sorted(counts)} samples: give whole batches"
        )
    if plan.is_readable:  # else the lookup itself sees to it
        check_present(plan.partners, min(counts))
