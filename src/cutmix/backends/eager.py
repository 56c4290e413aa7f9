"""Plans in vectorised torch operations: any device, any dtype, differentiable."""

import torch
from torch import Tensor

from cutmix.plans import OPAQUE, Plan
from cutmix.shapes import Images


def mix_images(images: Images, plan: Plan, *, out: Images | None = None) -> Images:
    """Show in each sample's box its partner, with the plan's opacity."""
    return _mix_by_box(images, plan, out) if len(plan.boxes) == 1 else _mix_by_mask(images, plan, out)


def _mix_by_box(images: Images, plan: Plan, out: Images | None) -> Images:
    """Mix with the box that the whole batch shares: only the pixels inside it are touched."""
    ((starts, stops),) = plan.boxes.tolist()
    box = (..., *map(slice, starts, stops))
    # Gathered before anything is written, so that ``out`` may be the images themselves.
    shown = _shown(images[box], plan)
    mixed = _copy(images, out)
    mixed[box] = shown
    return mixed


def _mix_by_mask(images: Images, plan: Plan, out: Images | None) -> Images:
    """Mix with a box a sample: every pixel chooses between its own image and what the partner gives."""
    inside = _inside(plan).to(images.device, non_blocking=True)
    inside = inside.view(plan.batch, *[1] * (images.ndim - inside.ndim), *plan.size)
    mixed = torch.where(inside, _shown(images, plan), images)
    # ``where`` may lay its result out in its own way: the strides kept are those of the images.
    return _copy(mixed, torch.empty_like(images) if out is None else out)


def _copy(images: Images, out: Images | None) -> Images:
    if out is None:
        return images.clone()
    return out if out is images else out.copy_(images)


def _shown(images: Images, plan: Plan) -> Images:
    """Return what shows inside the boxes: the partners, blended with the images where the opacity is below 1."""
    pasted = images.index_select(0, plan.partners.to(images.device, non_blocking=True))
    # Opacity 1 is a copy, never arithmetic: 0 * inf is not a number, and integers have no fractions.
    if plan.opacity is OPAQUE or min(plan.opacity.tolist()) == 1.0:
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


def _inside(plan: Plan) -> Tensor:
    """Return which pixels each box covers, (batch, *size)."""
    starts, stops = plan.boxes.unbind(1)
    inside = torch.ones(plan.batch, *[1] * len(plan.size), dtype=torch.bool)
    for axis, side in enumerate(plan.size):
        place = torch.arange(side)
        covered = (place >= starts[:, axis, None]) & (place < stops[:, axis, None])
        inside = inside & covered.view(plan.batch, *[side if other == axis else 1 for other in range(len(plan.size))])
    return inside
