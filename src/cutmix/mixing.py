"""Apply a plan to a batch and its targets: the data are checked here, before anything is touched."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cutmix.backends import mix_images
from cutmix.plans import Plan
from cutmix.shapes import Holes, Images, Labels
from cutmix.targets import MixedTarget

CHANNEL_COUNTS = (1, 3, 4)
SMALLEST_PICTURE = 16
PICTURE_AXES = (2, 3)


def mix(
    images: Images,
    targets: Labels,
    plan: Plan,
    *,
    out: Images | None = None,
    spatial_dims: Sequence[int] | None = None,
) -> tuple[Images, MixedTarget | Tensor]:
    """Apply ``plan`` to a batch and its targets. The same plan gives the same bytes, on every backend.

    Args:
        images: (batch, ...), of any dtype. Never written to, unless they are also ``out``.
        targets: class indices (batch,) of any integer dtype, or float rows (batch, classes): they become a MixedTarget.
            A tensor that has the plan's size behind at least one more axis is a mask: it is pasted by the same plan.
        plan: what was drawn for this batch.
        out: where the mixed images go: ``out=images`` is in place, other memory must share nothing with the images.
            Targets are always new.
        spatial_dims: which axes of the images the plan cuts, in the plan's order; else the last ones.

    Raises:
        TypeError: when images or targets are no tensors, or of a dtype that cannot be mixed.
        ValueError: when a shape, ``out`` or ``spatial_dims`` does not fit.
    """
    check_targets(targets, images)
    axes = _checked_axes_of(images, plan, out, spatial_dims, "images")
    mixed_targets = mix_targets(targets, plan)  # first, so that nothing is written where the targets are refused
    return _pasted(images, plan, out, axes), mixed_targets


def paste(
    images: Images,
    plan: Plan,
    *,
    out: Images | None = None,
    spatial_dims: Sequence[int] | None = None,
    name: str = "images",
) -> Images:
    """Apply ``plan`` to a batch of images, masks or maps; ``name`` is what errors call them."""
    return _pasted(images, plan, out, _checked_axes_of(images, plan, out, spatial_dims, name))


def erase(images: Images, holes: Holes, fill: float, *, out: Images | None, axes: tuple[int, ...]) -> Images:
    """Fill ``holes`` along ``axes`` of each image with one value.

    Raises:
        TypeError: when integer images cannot hold ``fill``.
        ValueError: when ``out`` does not fit.
    """
    if not images.is_floating_point() and fill != int(fill):
        raise TypeError(f"fill must be a whole number for images of {images.dtype}, got {fill}: convert with .float()")
    if out is None:
        erased = images.clone()
    else:
        _check_out(images, out)
        erased = out if out is images else out.copy_(images)
    cut = erased.movedim(axes, tuple(range(-len(axes), 0)))
    for starts, stops in holes.tolist():
        cut[(..., *map(slice, starts, stops))] = fill
    return erased


def _checked_axes_of(
    images: Images, plan: Plan, out: Images | None, spatial_dims: Sequence[int] | None, name: str
) -> tuple[int, ...]:
    """Check that all fits together, and return the axes that the plan cuts."""
    axes = checked_axes(images.shape, _last_axes(images, plan) if spatial_dims is None else spatial_dims)
    _check_fit(images, plan, axes, name)
    if out is not None:
        _check_out(images, out)
    return axes


def _pasted(images: Images, plan: Plan, out: Images | None, axes: tuple[int, ...]) -> Images:
    last = _last_axes(images, plan)
    if axes == last:
        return mix_images(images, plan, out=out)
    mixed = torch.empty_like(images) if out is None else out
    mix_images(images.movedim(axes, last), plan, out=mixed.movedim(axes, last))
    return mixed


def _last_axes(images: Images, plan: Plan) -> tuple[int, ...]:
    return tuple(range(images.ndim - len(plan.size), images.ndim))


def mix_targets(targets: Labels, plan: Plan) -> MixedTarget | Tensor:
    """Mix one tensor of targets by its rule: labels become a MixedTarget, masks are pasted.

    Raises:
        TypeError: for labels of a dtype that is neither integer nor floating point.
        ValueError: for a shape that is neither, or that could be both.
    """
    if _is_mask(targets, plan.size):
        return paste(targets, plan, name="targets")
    _check_labels(targets)
    return MixedTarget(targets, partners_of(targets, plan), plan.kept)


def partners_of(targets: Labels, plan: Plan) -> Labels:
    """Return each sample's partner's target."""
    return targets.index_select(0, plan.partners.to(targets.device, non_blocking=True))


def picture_axes(shape: Sequence[int], spatial_dims: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the axes to cut, counted from the front: those asked for, else the last two of four.

    Raises:
        ValueError: when ``spatial_dims`` is needed and not given, or does not fit the shape.
    """
    if spatial_dims is not None:
        return checked_axes(shape, spatial_dims)
    *_, channels_if_last = shape = tuple(shape)
    rank = len(PICTURE_AXES) + 2
    channels_last = channels_if_last in CHANNEL_COUNTS and min(shape[1:-1], default=0) >= SMALLEST_PICTURE
    if len(shape) != rank or channels_last:
        raise ValueError(
            f"images must be (batch, channels, height, width), got shape {shape}: else pass spatial_dims=(2,) for "
            "signals, (1, 2) for grey or channels-last pictures, (2, 3, 4) for volumes, (2, 3) if these are indeed "
            "height and width"
        )
    return PICTURE_AXES


def checked_axes(shape: Sequence[int], spatial_dims: Sequence[int]) -> tuple[int, ...]:
    """Return ``spatial_dims`` counted from the front.

    Raises:
        ValueError: when they name no axis, one twice, one that is not there, or the batch.
    """
    rank = len(shape)
    axes = tuple(dim + rank if dim < 0 else dim for dim in spatial_dims)
    if not axes or len(set(axes)) < len(axes) or min(axes) < 1 or max(axes) >= rank:
        raise ValueError(
            f"spatial_dims must name different axes of shape {tuple(shape)}, not its first, the batch; "
            f"got {tuple(spatial_dims)}: for example (2, 3) for (batch, channels, height, width)"
        )
    return axes


def check_targets(targets: Labels, images: Images) -> None:
    """Check that there is one target an image.

    Raises:
        TypeError: when one of the two is no tensor.
        ValueError: when their numbers differ, or there are none.
    """
    if isinstance(targets, MixedTarget):
        raise ValueError(  # noqa: TRY004 - the type is right, once
            "targets must not be mixed yet, got a MixedTarget: the batch has met two mixers, perhaps one in the "
            "loader's collate_fn; take one of them away"
        )
    check_images(images)
    check_images(targets, "targets")
    if targets.ndim == 0 or images.ndim == 0 or len(targets) != len(images) or len(images) == 0:
        raise ValueError(
            f"targets must have one entry an image, and at least one, got shape {tuple(targets.shape)} for images of "
            f"shape {tuple(images.shape)}: both start with the batch axis"
        )


def check_images(images: object, name: str = "images") -> None:
    """Check that images, or whatever errors shall call them, are a tensor.

    Raises:
        TypeError: when they are not.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(images).__name__}: convert with torch.as_tensor")


def _is_mask(targets: Labels, size: tuple[int, ...]) -> bool:
    fits = targets.ndim > len(size) and tuple(targets.shape[-len(size) :]) == size
    could_be_rows = targets.ndim == 2 and targets.is_floating_point()  # noqa: PLR2004 - (batch, classes)
    if fits and could_be_rows:
        raise ValueError(
            f"targets of shape {tuple(targets.shape)} can be label rows or a signal as long as the images, which are "
            f"mixed in different ways: pass a signal as targets.unsqueeze(1), and rows through "
            "MixedTarget(targets, targets[plan.partners], plan.kept)"
        )
    return fits


def _check_labels(targets: Labels) -> None:
    if targets.dtype is torch.bool or targets.is_complex():
        raise TypeError(
            f"targets must be integer or floating point, got {targets.dtype}: convert with .long() or .float()"
        )
    if targets.ndim > (2 if targets.is_floating_point() else 1):
        raise ValueError(
            f"targets must be class indices (batch,), float rows (batch, classes), or a mask that ends in the images' "
            f"height and width, got {targets.dtype} of shape {tuple(targets.shape)}: integer rows need .float()"
        )


def _check_fit(images: Images, plan: Plan, axes: tuple[int, ...], name: str) -> None:
    size = tuple(images.shape[axis] for axis in axes)
    if size != plan.size or len(images) != plan.batch:
        raise ValueError(
            f"{name} must be what the plan was drawn for, a batch of {plan.batch} with size {plan.size}, got shape "
            f"{tuple(images.shape)} with size {size} along axes {axes}: draw another plan, or pass spatial_dims"
        )
    if not images.is_floating_point() and not bool(((plan.opacity == 1.0) | (plan.kept == 1.0)).all()):
        raise TypeError(
            f"{name} must be floating point to be blended, got {images.dtype}: integers have no fractions, "
            "convert with .float()"
        )


def _check_out(images: Images, out: Images) -> None:
    if (out.shape, out.dtype, out.device) != (images.shape, images.dtype, images.device):
        raise ValueError(
            f"out must be like the images, {tuple(images.shape)} {images.dtype} on {images.device}, got "
            f"{tuple(out.shape)} {out.dtype} on {out.device}: make it with torch.empty_like(images)"
        )
    if out.is_leaf and out.requires_grad and torch.is_grad_enabled():
        raise ValueError("out must not be a leaf that requires grad, got one: autograd would lose it; leave out= away")
    same_view = out.data_ptr() == images.data_ptr() and out.stride() == images.stride()
    if not same_view and _overlap(out, images):
        raise ValueError(
            "out must be the images themselves or share no memory with them, got another view of the same memory: "
            "make it with torch.empty_like(images)"
        )


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors span common memory; two that interleave count as such."""
    (one_start, one_stop), (other_start, other_stop) = _span(one), _span(other)
    return one_start < other_stop and other_start < one_stop


def _span(tensor: Tensor) -> tuple[int, int]:
    last = sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
