"""Plans on the host as copies from sample to sample: hardly any memory, and each pixel is moved once.

In place, the walk goes from each sample to its partner, so that a sample is overwritten just after it was read; only
one box is saved, that of the sample where the walk began. It pays for large pictures: each copy is a call of its own,
which torch divides among its threads.
"""

from collections.abc import Iterator

from cutmix.backends.partners import check_permutation
from cutmix.memory import is_same
from cutmix.plans import Plan
from cutmix.shapes import Images, Source


def mix_images(images: Images, plan: Plan, *, source: Source | None = None, out: Images | None = None) -> Images:
    """Show in each sample's box its partner, which must be opaque."""
    if out is None or not is_same(out, images):
        mixed = images.clone() if out is None else out.copy_(images)
        return _paste(mixed, images if source is None else source, plan)
    return _walk(images, plan) if source is None else _paste(images, source, plan)


def _paste(mixed: Images, source: Source, plan: Plan) -> Images:
    """Fill each sample's box from ``source``, which is other memory."""
    partners = plan.partners.tolist()
    for own, pasted in zip(_regions(mixed, range(plan.batch), plan), _regions(source, partners, plan), strict=True):
        own.copy_(pasted)
    return mixed


def _walk(images: Images, plan: Plan) -> Images:
    """Fill each sample's box from its partner, in an order that reads a sample before it is overwritten."""
    check_permutation(plan.partners)
    partners = plan.partners.tolist()
    own, pasted = _regions(images, range(plan.batch), plan), _regions(images, partners, plan)
    for *cycle, last in _cycles(partners):
        saved = pasted[last].clone()
        for sample in cycle:
            own[sample].copy_(pasted[sample])
        own[last].copy_(saved)
    return images


def _regions(images: Images, samples: range | list[int], plan: Plan) -> list[Images]:
    """Return, box by box, what these samples show in it."""
    boxes = [(..., *map(slice, starts, stops)) for starts, stops in plan.boxes.tolist()]
    if len(boxes) == 1:
        regions = images[boxes[0]].unbind(0)
        return [regions[sample] for sample in samples]
    return [images[sample][box] for sample, box in zip(samples, boxes, strict=True)]


def _cycles(partners: list[int]) -> Iterator[list[int]]:
    """Yield the cycles of a permutation, each sample followed by its partner; who is alone needs no walk."""
    left = set(range(len(partners)))
    while left:
        cycle = [left.pop()]
        while (partner := partners[cycle[-1]]) != cycle[0]:
            left.discard(partner)
            cycle.append(partner)
        if len(cycle) > 1:
            yield cycle
