"""What people hand to the Trainer, checked where nobody else owns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from cutmix.trainer.composer.models import is_composers

if TYPE_CHECKING:
    from collections.abc import Callable

Part = TypeVar("Part")


def check_model(model: nn.Module, loss_fn: object) -> nn.Module:
    """Refuse what is no model, and a loss beside the one that a Composer model has."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got a {type(model).__name__}; pass an instance")
    if is_composers(model) and loss_fn is not F.cross_entropy:
        raise ValueError(
            f"loss_fn must be left out with a Composer model, got {loss_fn!r} beside {type(model).__name__}.loss; "
            "or pass the network inside, Trainer(model=model.module, loss_fn=...)"
        )
    return model


def seed_for(seed: int | None) -> int:
    """Return the seed of a run; None takes torch's."""
    if seed is None:
        return torch.initial_seed()
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed must be a whole number, got {seed!r}; None takes torch.initial_seed()")
    return seed


def compiled(forward: Callable[..., Any], settings: object) -> Callable[..., Any]:
    """Return what is called: ``forward``, or what torch compiles it to with these settings."""
    if settings is None or settings is False:
        return forward
    if not isinstance(settings, bool | Mapping):
        raise TypeError(f"compile must be True, False or a dict of torch.compile's settings, got {settings!r}")
    return torch.compile(forward, **({} if settings is True else settings))


def several(argument: str, given: Any, *kinds: type[Part]) -> list[Part]:  # noqa: ANN401 - checked here
    """Return a list of what may be None, one or several."""
    parts = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    for part in parts:
        if not isinstance(part, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"{argument} must be of type {names}, got {part!r}; pass one or a list of them")
    return parts
