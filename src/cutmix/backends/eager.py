"""Plans in vectorised torch operations: any device, any dtype, differentiable, traceable."""

import torch
from torch import Tensor

from cutmix.memory import is_same
from cutmix.plans import Plan
from cutmix.shapes import Channels, Images, Source, Table


def mix_images(images: Images, plan: Plan, *, source: Source | None = None, out: Images | None = None) -> Images:
    """Show in each sample's box its partner, with the plan's opacity."""
    source = images if source is None else source
    # A slice by numbers that a graph or a device holds would break the graph, or wait for the device.
    by_box = len(plan.boxes) == 1 and plan.is_readable
    return (_mix_by_box if by_box else _mix_by_mask)(images, source, plan, out)


def mix_normalize(images: Images, plan: Plan, mean: Channels, std: Channels, out: Images) -> Images:
    """Normalize bytes to float32, mix, and round to the dtype of ``out``, step by step."""
    shape = (-1, *[1] * (images.ndim - 2))
    # Not by the number 255.0: on a GPU, torch would multiply by its rounded reciprocal.
    bytes_of_one = torch.full((), 255.0, device=images.device)
    normalized = images.float().div_(bytes_of_one).sub_(mean.view(shape)).div_(std.view(shape))
    return out.copy_(mix_images(normalized, plan, out=normalized))


def table(mean: Channels, std: Channels, dtype: torch.dtype) -> Table:
    """Return what the steps make of each value of a byte, in each channel."""
    steps = torch.arange(256, device=mean.device).float().div_(255.0).expand(len(mean), -1)
    return ((steps - mean[:, None]) / std[:, None]).to(dtype)


def _mix_by_box(images: Images, source: Source, plan: Plan, out: Images | None) -> Images:
    """Mix with the box that the whole batch shares: only the pixels inside it are touched."""
    ((starts, stops),) = plan.boxes.tolist()
    box = (..., *map(slice, starts, stops))
    # Gathered before anything is written, so that ``out`` may be the images themselves.
    shown = _shown(images[box], source[box], plan)
    mixed = _copy(images, out)
    mixed[box] = shown
    return mixed


def _mix_by_mask(images: Images, source: Source, plan: Plan, out: Images | None) -> Images:
    """Mix with a box a sample: every pixel chooses between its own image and what the partner gives."""
    inside = plan.mask().to(images.device, non_blocking=True)
    inside = inside.view(len(inside), *[1] * (images.ndim - inside.ndim), *plan.size)
    mixed = torch.where(inside, _shown(images, source, plan), images)
    # ``where`` may lay its result out in its own way: the strides kept are those of the images.
    return (torch.empty_like(images) if out is None else out).copy_(mixed)


def _copy(images: Images, out: Images | None) -> Images:
    if out is None:
        return images.clone()
    return out if is_same(out, images) else out.copy_(images)


def _shown(images: Images, source: Source, plan: Plan) -> Images:
    """Return what shows inside the boxes: the partners, blended with the images where the opacity is below 1."""
    pasted = source.index_select(0, plan.partners.to(images.device, non_blocking=True))
    # Opacity 1 is a copy, never arithmetic: 0 * inf is not a number, and integers have no fractions.
    if plan.is_opaque:
        return pasted
    blended = _blend(images, pasted, plan.opacity)
    return torch.where(_a_sample(plan.opacity == 1.0, images), pasted, blended)


def _blend(own: Images, pasted: Images, opacity: Tensor) -> Images:
    wide = torch.promote_types(own.dtype, torch.float32)
    own_share, pasted_share = (_a_sample(share.to(wide), own) for share in (1.0 - opacity, opacity))
    return (own_share * own.to(wide) + pasted_share * pasted.to(wide)).to(own.dtype)


def _a_sample(values: Tensor, images: Images) -> Tensor:
    """Lay one value (or one a sample) out so that it meets every pixel of its sample."""
    return values.to(images.device, non_blocking=True).view(-1, *[1] * (images.ndim - 1))
