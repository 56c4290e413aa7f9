"""The meaning of a plan: a plain loop over the samples. Every other backend must give the same bytes."""

import torch

from cutmix.plans import Plan
from cutmix.shapes import Images, Source


def mix_images(images: Images, plan: Plan, *, source: Source | None = None, out: Images | None = None) -> Images:
    """Show in each sample's box its partner, with the plan's opacity."""
    originals = images.clone()
    sources = originals if source is None else source
    mixed = torch.empty_like(images) if out is None else out
    mixed.copy_(images)
    boxes, opacities = plan.boxes.expand(plan.batch, -1, -1).tolist(), plan.opacity.expand(plan.batch).tolist()
    for sample, partner in enumerate(plan.partners.tolist()):
        starts, stops = boxes[sample]
        box = (..., *map(slice, starts, stops))
        own, pasted, opacity = originals[sample][box], sources[partner][box], opacities[sample]
        # Opacity 1 is a copy, never arithmetic: 0 * inf is not a number, and integers have no fractions.
        mixed[sample][box] = pasted if opacity == 1.0 else blend(own, pasted, opacity)
    return mixed


def blend(own: Images, pasted: Images, opacity: float) -> Images:
    """Return ``(1 - opacity) * own + opacity * pasted``, computed in float32 at least."""
    wide = torch.promote_types(own.dtype, torch.float32)
    return ((1.0 - opacity) * own.to(wide) + opacity * pasted.to(wide)).to(own.dtype)
