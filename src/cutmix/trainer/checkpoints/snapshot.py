"""A run as a value: all that it needs to go on as if it had not stopped, and the way back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cutmix.core.naming import by_class
from cutmix.core.time import Timestamp
from cutmix.losses import module_of
from cutmix.trainer.checkpoints.checkpoint import Content
from cutmix.trainer.checkpoints.manifest import CheckpointError
from cutmix.trainer.checkpoints.optimizer_state import (
    check_savable,
    optimizer_differences,
    optimizer_state,
    put_back_optimizer,
    scheduler_differences,
    scheduler_state,
)
from cutmix.trainer.checkpoints.parting import joined, parted, taken_out
from cutmix.trainer.checkpoints.shards import Sharded, placed
from cutmix.trainer.processes import full
from cutmix.trees import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cutmix.core.algorithm import Algorithm
    from cutmix.core.callback import Callback
    from cutmix.core.state import State
    from cutmix.trainer.checkpoints.shards import Saved
    from cutmix.trees import Tree

_SHOWN = 8  # differences, of what may be thousands
_ONLY_WATCHING = frozenset({"Timings/0", "TrainMetrics/0"})  # without a save_folder, or metrics, training is the same


def check_capture(state: State) -> None:
    """Refuse a run that could not be captured later on."""
    check_savable(state.optimizers, _names(state))


def capture(state: State) -> Content:
    """Return the run as ``capture_sharded`` does, on rank 0 with what is sharded made whole, one tensor at a time.

    The other ranks, which add to that, are left with what they have whole.
    """
    content = capture_sharded(state)
    return replace(content, tensors={stem: _whole(held, state.rank) for stem, held in content.tensors.items()})


def capture_sharded(state: State) -> Content:
    """Return the run as it is between two steps. Its tensors are those in use: write or copy them before the next step.

    All ranks call it, and each has its own shards in it. Nothing is changed and nothing drawn. Chance is no part of it,
    since it depends on the seed and the time only; nor are gradients, which each step makes anew, and buffers that the
    model keeps out of its ``state_dict``.
    """
    check_capture(state)
    names, model = _names(state), state.model.state_dict()
    weights = {name: value for name, value in model.items() if isinstance(value, Tensor)}
    values, training = parted(
        {
            **_record(state),
            "model": {name: value for name, value in model.items() if name not in weights},
            "loss_fn": module_of(state.loss_fn).state_dict(),
            "optimizers": [optimizer_state(optimizer, names) for optimizer in state.optimizers],
            "schedulers": [scheduler_state(scheduler) for scheduler in state.schedulers],
            "scaler": None if state.scaler is None else state.scaler.state_dict(),
            "parts": {name: held for name, part in _parts(state).items() if (held := part.state_dict())},
        }
    )
    return Content({"weights": weights, "training": training}, values)


def restore(content: Content, state: State) -> None:
    """Put ``state`` where ``content`` was captured, in the memory that it has: its parameters stay the ones they are.

    Its duration stays too, and so do gradients and the functions of schedulers.

    Raises:
        CheckpointError: when it was another run; all differences are named, and model and optimizers stay as they are.
    """
    saved = _fitting(content, state)
    for name, part in _parts(state).items():  # first those who may refuse, while model and optimizers are as they were
        if name in saved["parts"]:
            part.load_state_dict(_as_parameters(saved["parts"][name], state))
    for module, before in ((state.model, saved["model"]), (module_of(state.loss_fn), saved["loss_fn"])):
        live = module.state_dict()
        module.load_state_dict({name: _as_held(value, live[name]) for name, value in before.items()})
    for optimizer, before in zip(state.optimizers, saved["optimizers"], strict=True):
        put_back_optimizer(optimizer, before, _names(state))
    for scheduler, before in zip(state.schedulers, saved["schedulers"], strict=True):
        scheduler.load_state_dict(before["state"])
    if state.scaler is not None and saved["scaler"]:
        state.scaler.load_state_dict(saved["scaler"])
    _put_back_record(saved, state)


def _record(state: State) -> dict[str, Any]:
    """Return where the run is, and what was measured of it."""
    return {
        "seed": state.seed,
        "processes": state.world.size,
        "batches_per_epoch": state.batches_per_epoch,
        "timestamp": state.timestamp._asdict(),
        "evaluated": state.evaluated,
        "eval_metrics": state.eval_metrics,
        "train_metrics": state.train_metrics,
        "loss": state.loss,
        "stop_reason": state.stop_reason,
    }


def _put_back_record(saved: Mapping[str, Any], state: State) -> None:
    state.timestamp = Timestamp(**saved["timestamp"])
    state.evaluated = {**state.evaluated, **saved["evaluated"]}  # an evaluator that is new has measured nothing
    state.eval_metrics, state.measured, state.loss = saved["eval_metrics"], saved["train_metrics"], saved["loss"]
    state.stop_reason = saved["stop_reason"]


def _fitting(content: Content, state: State) -> dict[str, Any]:
    """Return what ``content`` holds when ``state`` can go on from it as if it had not stopped."""
    training, wanted = content.tensors["training"], taken_out(content.values)
    found = [
        *(f"its training state lacks {name}" for name in sorted(wanted - set(training))),
        *(f"its training state holds {name}, which nothing refers to" for name in sorted(set(training) - wanted)),
    ]
    saved = dict[str, Any]()
    if not found:
        saved = joined(content.values, training)
        saved["model"] |= content.tensors["weights"]
        found = list(_differences(saved, state))
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise CheckpointError(
            f"a checkpoint must be of a run like the one that goes on from it, but {'; '.join(found[:_SHOWN])}{more}: "
            "start this run as that one was, or take the weights alone with load_weights(model, path)"
        )
    return saved


def _differences(saved: Mapping[str, Any], state: State) -> Iterator[str]:
    """Tell in what the run that was saved was another."""
    if state.seed != saved["seed"]:
        yield f"its seed is {saved['seed']}, here it is {state.seed}"
    yield from _data_differences(saved, state)
    yield from _module_differences("model", state.model, saved["model"])
    yield from _module_differences("loss_fn", module_of(state.loss_fn), saved["loss_fn"])
    for kind, here, there in (
        ("optimizers", state.optimizers, saved["optimizers"]),
        ("schedulers", state.schedulers, saved["schedulers"]),
    ):
        if len(here) != len(there):
            yield f"its number of {kind} is {len(there)}, here it is {len(here)}"
    for optimizer, before in zip(state.optimizers, saved["optimizers"], strict=False):
        yield from optimizer_differences(optimizer, before, _names(state))
    for scheduler, before in zip(state.schedulers, saved["schedulers"], strict=False):
        yield from scheduler_differences(scheduler, before)
    for name in sorted(set(saved["parts"]) - set(_parts(state)) - _ONLY_WATCHING):
        yield f"it holds the state of {name}, which is not here: hand it in again"


def _data_differences(saved: Mapping[str, Any], state: State) -> Iterator[str]:
    """Tell in what its batches were others."""
    # Each process fetches, mixes and drops out by its own number, so that no step would be the same with more or fewer.
    if state.world.size != saved["processes"]:
        yield f"its number of processes is {saved['processes']}, here it is {state.world.size}"
    here, there = state.batches_per_epoch, saved["batches_per_epoch"]  # an epoch that begins may have others
    if saved["timestamp"]["batch_in_epoch"] and None not in (here, there) and here != there:
        yield f"it stopped within an epoch of {there} batches, of which there are {here} here"


def _module_differences(what: str, module: nn.Module, saved: Mapping[str, Any]) -> Iterator[str]:
    live = module.state_dict()
    yield from (f"it lacks {name} of {what}" for name in live if name not in saved)
    yield from (f"it holds {name}, which {what} has not" for name in sorted(set(saved) - set(live)))
    for name, value in live.items():
        if name in saved and (here := _form(value)) != (there := _form(saved[name])) and here:
            yield f"its {name} is {there}, that of {what} is {here}"


def _form(value: object) -> str:
    """Return the dtype and the shape of a tensor; nothing where they are not known yet, or for what is none."""
    if not isinstance(value, Tensor | Sharded) or (isinstance(value, Tensor) and is_lazy(value)):
        return ""
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


def _whole(tensors: Mapping[str, Saved], rank: int) -> dict[str, Tensor]:
    """Return on rank 0 the whole of each tensor, to which all ranks add; elsewhere those that are not sharded."""
    held = dict[str, Tensor]()
    for name, tensor in tensors.items():
        assert isinstance(tensor, Tensor)
        whole = full(tensor)
        if whole is tensor:
            held[name] = tensor
        elif rank == 0:
            held[name] = whole.cpu()
    return held


def _as_held(value: Any, live: Any) -> Any:  # noqa: ANN401 - a state_dict may hold anything
    return placed(value, live) if isinstance(value, Tensor | Sharded) and isinstance(live, Tensor) else value


def _as_parameters(tree: Tree, state: State) -> Tree:
    """Return ``tree`` with what lies in shards read: sharded as a parameter of that shape is, else whole."""
    alike = {parameter.shape: parameter for parameter in state.model.parameters()}

    def read(leaf: Any) -> Any:  # noqa: ANN401 - whatever there is
        if not isinstance(leaf, Sharded):
            return leaf
        return placed(leaf, alike[leaf.shape]) if leaf.shape in alike else leaf.whole()

    return walk(tree, read)


def _names(state: State) -> dict[Tensor, str]:
    """Name what optimizers may hold: the model's parameters as it does, the loss's behind ``loss_fn/``."""
    of_loss = {parameter: f"loss_fn/{name}" for name, parameter in module_of(state.loss_fn).named_parameters()}
    return {**of_loss, **{parameter: name for name, parameter in state.model.named_parameters()}}


def _parts(state: State) -> dict[str, Algorithm | Callback]:
    """Name what acts and what watches."""
    return by_class((*state.algorithms, *state.callbacks))
