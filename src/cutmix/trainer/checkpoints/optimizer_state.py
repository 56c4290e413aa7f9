"""What an optimizer and its schedule have come to, told by the names of the parameters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import LBFGS

from cutmix.trainer.checkpoints.shards import Sharded, placed
from cutmix.trainer.processes import like, shard
from cutmix.trees import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    Names = Mapping[Tensor, str]

_NUMBERED = ("state", "param_groups")  # the parts of a state_dict that speak of parameters by number
_OURS = ("params", "param_names")  # what tells, in a group, which parameters it holds
_HOW = ("foreach", "fused", "capturable", "differentiable")  # how a step is computed where it is, not what it does


def check_savable(optimizers: Sequence[Optimizer], names: Names) -> None:
    """Refuse an optimizer whose state cannot be told by the names of its parameters."""
    for optimizer in optimizers:
        if isinstance(optimizer, LBFGS):
            raise TypeError(
                f"optimizers must keep a state of each parameter to be saved, got {type(optimizer).__name__}, which "
                "keeps one history of all together; take another, or save nothing: save_interval=None"
            )
        for number, group in enumerate(optimizer.param_groups):
            for parameter in group["params"]:
                if parameter not in names:
                    raise ValueError(
                        "optimizers must hold parameters of the model or the loss only to be saved, got a "
                        f"{type(optimizer).__name__} with one of shape {tuple(parameter.shape)} in group {number}; "
                        "make that one of the model, or save nothing: save_interval=None"
                    )


def optimizer_state(optimizer: Optimizer, names: Names) -> dict[str, Any]:
    """Return the state of ``optimizer``, with its parameters called by name."""
    packed, order = optimizer.state_dict(), _order(optimizer, names)
    groups = [
        {"params": [order[number] for number in group["params"]], **_without(group, _OURS)}
        for group in packed["param_groups"]
    ]
    state = {order[key] if isinstance(key, int) else key: kept for key, kept in packed["state"].items()}
    return {"kind": type(optimizer).__name__, "groups": groups, "state": state, "rest": _without(packed, _NUMBERED)}


def optimizer_differences(optimizer: Optimizer, saved: Mapping[str, Any], names: Names) -> Iterator[str]:
    """Tell in what the optimizer that was saved was another."""
    kind, groups = type(optimizer).__name__, optimizer.param_groups
    if kind != saved["kind"]:
        yield f"it is of the optimizer {saved['kind']}, here is {kind}"
    elif len(groups) != len(saved["groups"]):
        yield f"its {kind} has {len(saved['groups'])} groups of parameters, the one here has {len(groups)}"
    else:
        for number, (group, before) in enumerate(zip(groups, saved["groups"], strict=True)):
            held = {names[parameter] for parameter in group["params"]}
            for name in sorted(held.symmetric_difference(before["params"])):
                where = "here alone" if name in held else "there alone"
                yield f"group {number} of {kind} holds {name} {where}"


def put_back_optimizer(optimizer: Optimizer, saved: Mapping[str, Any], names: Names) -> None:
    """Give ``optimizer`` the state of one whose groups hold parameters of the same names, in whatever order.

    The options of its groups become the saved ones too, but for those that tell how a step is computed.
    """
    order = _order(optimizer, names)
    numbers = {name: number for number, name in enumerate(order)}
    held = {names[parameter]: parameter for group in optimizer.param_groups for parameter in group["params"]}
    state = {
        name: walk(kept, partial(_in_own_memory, parameter=held.get(name))) for name, kept in saved["state"].items()
    }
    groups = [
        {**_options(before, group), "params": [numbers[names[parameter]] for parameter in group["params"]]}
        for group, before in zip(optimizer.param_groups, saved["groups"], strict=True)
    ]
    numbered = {numbers.get(name, name): kept for name, kept in state.items()}
    optimizer.load_state_dict({**saved["rest"], "state": numbered, "param_groups": groups})
    for name, kept in state.items():
        _keep_dtypes(optimizer.state[held.get(name, name)], kept)
    # It has stepped, in another process: else torch warns when a scheduler steps first in this one.
    vars(optimizer)["_opt_called"] = True


def scheduler_state(scheduler: LRScheduler) -> dict[str, Any]:
    """Return the state of ``scheduler``; functions, as those of LambdaLR, are not part of it."""
    return {"kind": _kind(scheduler), "state": scheduler.state_dict()}


def scheduler_differences(scheduler: LRScheduler, saved: Mapping[str, Any]) -> Iterator[str]:
    """Tell in what the scheduler that was saved was another."""
    kind = _kind(scheduler)
    if kind != saved["kind"]:
        yield f"it is of the scheduler {saved['kind']}, here is {kind}"


def _kind(scheduler: LRScheduler) -> str:
    """Return the name of its class, with those of the schedulers within."""
    inner = ", ".join(_kind(part) for part in getattr(scheduler, "_schedulers", ()))
    return type(scheduler).__name__ + (f"({inner})" if inner else "")


def _order(optimizer: Optimizer, names: Names) -> list[str]:
    """Return the names of the parameters in the order in which torch numbers them."""
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _options(saved: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a group is to do, where it is done: a rate that is a tensor lies where it lay."""
    return {
        key: option.to(live[key].device) if isinstance(option, Tensor) and isinstance(live.get(key), Tensor) else option
        for key, option in _without(saved, _OURS).items()
    } | {key: live[key] for key in _HOW if key in live}


def _in_own_memory(saved: Any, parameter: Tensor | None) -> Any:  # noqa: ANN401 - whatever a state holds
    """Return a copy that nobody else holds, with strides like those of its parameter where it has its shape."""
    if isinstance(saved, Sharded):
        saved = saved.whole() if parameter is None or saved.shape != parameter.shape else placed(saved, parameter)
        if shard(saved) is not saved:  # sharded, and nobody else's
            return saved
    if not isinstance(saved, Tensor):
        return saved
    if parameter is None or saved.shape != parameter.shape:
        return saved.clone()
    own = like(parameter, saved)
    if own is not saved:
        return own.clone()
    return torch.empty_like(parameter, dtype=saved.dtype, device=saved.device, requires_grad=False).copy_(saved)


def _keep_dtypes(live: dict[str, Any], saved: Mapping[str, Any]) -> None:
    """Undo that torch turns all floats of a state into the dtype of their parameter: some are more precise."""
    for key, value in saved.items():
        if isinstance(value, Tensor) and live[key].dtype != value.dtype:
            live[key] = value.to(live[key].device)


def _without(parts: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: part for key, part in parts.items() if key not in keys}
