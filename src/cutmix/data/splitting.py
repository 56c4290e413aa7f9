"""Parts of a set in which every class keeps its share."""

from collections.abc import Sequence

import torch

from cutmix.data.images import ClassIds


def divide(labels: ClassIds, size: int, generator: torch.Generator, leave: int = 0) -> tuple[list[int], list[int]]:
    """Divide positions by chance into a part of ``size`` and the rest, both in order, every class by its share.

    The part has one or more of every class; the rest ``leave`` or more.
    """
    counts = torch.bincount(labels).tolist()
    by_class = torch.argsort(labels, stable=True).split(counts)
    shuffled = [rows[torch.randperm(len(rows), generator=generator)] for rows in by_class]
    shares = apportion(counts, size, leave)
    part = [rows[:share] for rows, share in zip(shuffled, shares, strict=True)]
    rest = [rows[share:] for rows, share in zip(shuffled, shares, strict=True)]
    return sorted(torch.cat(part).tolist()), sorted(torch.cat(rest).tolist())


def apportion(counts: Sequence[int], size: int, leave: int = 0) -> list[int]:
    """Share ``size`` places out in proportion to ``counts``: one to each, the others by largest remainder.

    Of each count, ``leave`` get no place.
    """
    free = [count - 1 - leave for count in counts]
    places = size - len(counts)
    quotas = [divmod(count * places, sum(free) or 1) for count in free]
    left = places - sum(whole for whole, _ in quotas)
    favoured = sorted(range(len(counts)), key=lambda index: -quotas[index][1])[:left]
    return [1 + whole + (index in favoured) for index, (whole, _) in enumerate(quotas)]
