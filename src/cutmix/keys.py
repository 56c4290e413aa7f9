"""Chance by key: what a step draws is a pure function of the seed, the step, the rank and the purpose."""

from hashlib import blake2b

import torch


def fold(seed: int, *fields: int | str) -> int:
    """Return 32 bits that depend on ``seed`` and on every field.

    Folded to 32 bits because a CPU generator looks at the low 32 bits of its seed only.
    """
    key = repr((seed, *fields)).encode()
    return int.from_bytes(blake2b(key, digest_size=4).digest(), "little")


def generator_for(seed: int, step: int, rank: int = 0, purpose: str = "mix") -> torch.Generator:
    """Return a fresh CPU generator that always draws the same for the same four keys.

    In a loop of your own it gives each step and each rank its own plan, and the same plan again when the step is
    repeated: ``mix(images, target, generator=generator_for(seed, step, rank))``. The ``purpose`` keeps two uses of
    one step apart, so that adding an algorithm leaves the draws of the others as they were.
    """
    return torch.Generator().manual_seed(fold(seed, purpose, step, rank))
