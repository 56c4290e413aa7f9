"""How one model is trained by several processes: what is called, and when they talk."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from cutmix.core.callback import Callback
from cutmix.losses import module_of
from cutmix.trainer.processes import replicated, sharded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch.optim import Optimizer

    from cutmix.core.logger import Logger
    from cutmix.core.state import State
    from cutmix.core.world import World

    Forward: TypeAlias = Callable[..., Any]

Parallelism: TypeAlias = "Literal['ddp', 'fsdp'] | Callable[[nn.Module], Forward]"
BLOCK = 250_000
"""Parameters that a block has at least, to be gathered by itself."""
UNSHARDED = (torch.optim.Adafactor, torch.optim.Adagrad, torch.optim.Rprop)
"""Optimizers of torch's that fail at their first step on shards, or hold a state of whole parameters before it."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def check_parallelism(parallelism: Parallelism | None) -> None:
    """Refuse what is no way of training by several processes."""
    if not callable(parallelism) and parallelism not in (None, "ddp", "fsdp"):
        raise ValueError(
            f"parallelism must be 'ddp', 'fsdp' or a function of the model, got {parallelism!r}; "
            "None is 'ddp' where there are several processes"
        )


def spread(state: State, parallelism: Parallelism | None) -> list[Callback]:
    """Let all ranks train the model together, from rank 0's weights on; return what keeps them in step."""
    if state.world.size == 1:
        return []
    model = state.model
    for tensor in (*model.parameters(), *model.buffers()):
        state.world.copy([tensor])
    before = dict(model.named_parameters(remove_duplicate=False))
    if callable(parallelism):
        state.forward = parallelism(model)
    elif not any(parameter.requires_grad for parameter in model.parameters()):
        state.forward = model
    elif parallelism == "fsdp":
        _check_sharded(state.optimizers)
        state.forward = sharded(model, blocks(model), state.device)
    else:
        state.forward = replicated(model, state.device)
    now = dict(model.named_parameters(remove_duplicate=False))
    _follow(state.optimizers, {before[name]: now[name] for name in before if before[name] is not now[name]})
    held, loss = set(now.values()), module_of(state.loss_fn)
    learned = [parameter for parameter in loss.parameters() if parameter.requires_grad and parameter not in held]
    state.world.copy(learned)
    return [InStep(state.world, model, learned)]


def _check_sharded(optimizers: Iterable[Optimizer]) -> None:
    for optimizer in optimizers:
        if type(optimizer) in UNSHARDED:
            raise TypeError(
                f"optimizers must step on shards with parallelism='fsdp', got {type(optimizer).__name__}, which "
                "torch has for whole parameters only; take AdamW, or parallelism='ddp'"
            )


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Find what is gathered by itself: the outermost modules of a class that occurs twice or more, if large enough.

    Containers are none, nor are single layers.
    """
    kinds = Counter(type(module) for module in model.modules() if _may_be_block(module))
    yield from _outermost(model, {kind for kind, times in kinds.items() if times > 1})


def _outermost(model: nn.Module, kinds: set[type]) -> Iterator[nn.Module]:
    for child in model.children():
        if type(child) in kinds and _size(child) >= BLOCK:
            yield child
        else:
            yield from _outermost(child, kinds)


def _may_be_block(module: nn.Module) -> bool:
    return not isinstance(module, CONTAINERS) and next(module.children(), None) is not None


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _follow(optimizers: Iterable[Optimizer], moved: dict[Tensor, Tensor]) -> None:
    """Let optimizers hold the parameters that the model has now."""
    for optimizer in optimizers:
        if any(parameter in moved for parameter in optimizer.state):
            raise ValueError(
                f"optimizers must be new where parameters are sharded, got a {type(optimizer).__name__} that has "
                "stepped; make it anew, or go on from a checkpoint"
            )
        for group in optimizer.param_groups:
            group["params"] = [moved.get(parameter, parameter) for parameter in group["params"]]


@final
class InStep(Callback):
    """Makes each step begin, and each evaluation, with rank 0's buffers, and averages what the loss has to learn.

    BatchNorm's running statistics are left alone in training, which never reads them.
    """

    def __init__(self, world: World, model: nn.Module, learned: list[nn.Parameter]) -> None:
        self._world = world
        self._model = model
        self._read = list(_read_in_training(model))
        self._learned = learned

    def before_train_batch(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        if self._read:
            self._world.copy(buffer for module, name in self._read if (buffer := module._buffers[name]) is not None)  # noqa: SLF001 - it may be another tensor by now

    def after_train_batch(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        for parameter in self._learned:
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self._world.total(own) / self._world.size

    def eval_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._world.copy(self._model.buffers())


def _read_in_training(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Name the buffers that a step may read, by the modules that hold them."""
    for module in model.modules():
        if not isinstance(module, _NormBase):
            yield from ((module, name) for name, _ in module.named_buffers(recurse=False))
