"""What the parts of a run are called in a checkpoint."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

Part = TypeVar("Part")


def by_class(parts: Iterable[Part]) -> dict[str, Part]:
    """Name each part by its class, and those of one class by their number: ``'EMA/0'``."""
    seen, named = Counter[str](), dict[str, Part]()
    for part in parts:
        kind = type(part).__name__
        named[f"{kind}/{seen[kind]}"] = part
        seen[kind] += 1
    return named
