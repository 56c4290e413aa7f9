"""Many processes: the one place that talks to torch.distributed, and only where there are several."""

from __future__ import annotations

import atexit
import os
import warnings
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from time import sleep
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, cast, final

import torch
from torch import distributed as dist  # torch has loaded it already
from torch.nn.parallel import DistributedDataParallel

from cutmix.core.world import Value, World
from cutmix.trainer.runtime import device_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from torch import Tensor, nn

    from cutmix.core.state import State

LAUNCHED = ("RANK", "WORLD_SIZE")
"""What a launcher tells a process, beside LOCAL_RANK."""


def join(device: torch.device | None = None) -> World:
    """Return the world of torch's process group, or the one that a launcher's environment tells of; else one alone.

    The group is made where there is none, and then let go of when the program ends: nccl for tensors on cuda, gloo for
    those on the CPU. None is the device that is taken where nobody names one.
    """
    device = device_for(None) if device is None else device
    if not (dist.is_available() and dist.is_initialized()):
        if not all(name in os.environ for name in LAUNCHED) or os.environ["WORLD_SIZE"] == "1":
            return World()
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(_leave)
    _fork_in_peace()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if dist.get_world_size() == 1:
        return World()
    return Processes(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


@final
@dataclass(frozen=True, slots=True)
class Processes(World):
    """Several processes, in torch's default group."""

    def barrier(self) -> None:
        self.counts()  # on the host, unlike torch's own, which would wait for GPUs too

    def broadcast(self, value: Value) -> Value:
        held = [value]
        dist.broadcast_object_list(held)
        return held[0]

    def gathered(self, value: Value) -> list[Value]:
        held = [value] * self.size
        dist.all_gather_object(held, value)
        return held

    def collected(self, value: Value) -> list[Value]:
        held = [value] * self.size if self.rank == 0 else None
        dist.gather_object(value, held)
        return held or []

    def counts_later(self, *numbers: int) -> Callable[[], list[tuple[int, ...]]]:
        told = torch.tensor(numbers or (0,), device=_place())
        heard = list(told.new_empty(self.size, len(told)))
        work = dist.all_gather(heard, told, async_op=True)

        def wait() -> list[tuple[int, ...]]:
            work.wait()
            return [tuple(theirs) for theirs in torch.stack(heard).tolist()]

        return wait

    def agreed(self, act: Callable[[], Value]) -> Value:
        done, refused = None, None
        try:
            done = act()
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must not wait
            refused = error
        told = self.gathered(None if refused is None else _tellable(refused, self.rank))
        if refused is not None and not any(told[: self.rank]):
            raise refused
        for theirs in filter(None, told):
            raise theirs from refused
        return cast("Value", done)

    def total(self, tensor: Tensor) -> Tensor:
        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed

    def copy(self, tensors: Iterable[Tensor]) -> None:
        held = [tensor.detach() for tensor in tensors]
        if not held:
            return
        # As bytes, all in one; those of the longest numbers first, so that each begins where it may.
        held.sort(key=lambda tensor: -tensor.element_size())
        sent = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in held])
        dist.broadcast(sent, 0)
        if self.rank:
            parts = sent.split([tensor.nbytes for tensor in held])
            for tensor, part in zip(held, parts, strict=True):
                tensor.copy_(part.view(tensor.dtype).view(tensor.shape))


def _tellable(error: Exception, rank: int) -> Exception:
    """Return ``error`` as other ranks can be told of it: as it is where that is sure to be read as it was written."""
    is_known = type(error).__module__.partition(".")[0] in ("builtins", "cutmix")
    if is_known and isinstance(error, OSError | ValueError):
        return error
    return RuntimeError(f"rank {rank} has met {type(error).__name__}: {error}")


def replicated(model: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Return what is called where each rank holds the whole model and gradients are averaged: DDP.

    From here on its warning of strides is silenced in this process.
    """
    devices = [device.index] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(model, device_ids=devices)
    # Set here, since the argument's name differs between torch's versions. Buffers are sent once a step, by ``InStep``:
    # DDP would send them with the first batch of an evaluation too, and then not with the next step.
    wrapped.broadcast_buffers = False
    # It says so of convolutions of 1x1, whose gradient's strides read both ways; they are no slower.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
    return wrapped


def sharded(model: nn.Module, blocks: Iterable[nn.Module], device: torch.device) -> nn.Module:
    """Cut the parameters of each block, then the rest, into a shard for each rank, in place: FSDP2."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh)
    return model


def reshard(model: nn.Module) -> None:
    """Let go of what FSDP2 keeps gathered after a forward without a backward: it would be taken for the parameters."""
    for module in model.modules():
        if isinstance(let_go := getattr(module, "reshard", None), MethodType):
            let_go()


def full(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor that is sharded, to which all ranks add; any other as it is."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def shard(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this rank holds: of one that is not sharded, all of it."""
    local = getattr(tensor, "to_local", None)
    return tensor if local is None else local()


@final
class Shard(NamedTuple):
    """What this rank holds of a tensor, and where in the whole it begins."""

    held: Tensor
    start: tuple[int, ...]
    is_first: bool  # of the ranks that hold the same


def own_shard(tensor: Tensor) -> Shard | None:
    """Return what this rank holds of a tensor that is cut into shards; None of one that every rank has whole.

    Raises:
        ValueError: when its shards are no blocks of neighbours.
    """
    if not hasattr(tensor, "full_tensor"):  # which spares who shards nothing the import
        return None
    from torch.distributed.tensor import DTensor, Replicate, placement_types

    assert isinstance(tensor, DTensor)
    kinds = {type(placement) for placement in tensor.placements}
    if not kinds <= {Replicate, placement_types.Shard}:
        raise ValueError(
            f"tensors must be cut into blocks to be saved or loaded by their shards, got one that lies as "
            f"{tensor.placements}; leave save_sharded off, and rank 0 saves it whole"
        )
    if kinds <= {Replicate}:
        return None
    (block,) = tensor.__create_chunk_list__()
    rows = zip(tensor.device_mesh.get_coordinate() or (), tensor.placements, strict=False)
    return Shard(tensor.to_local(), tuple(block.offsets), not any(row for row, cut in rows if cut.is_replicate()))


def like(tensor: Tensor, whole: Tensor) -> Tensor:
    """Return ``whole``, which every rank has, sharded as ``tensor`` is; as it is where that is not sharded.

    What is sharded already stays so, unless ``tensor`` is not.
    """
    if not hasattr(tensor, "full_tensor"):
        return full(whole)
    if hasattr(whole, "full_tensor"):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(tensor, DTensor)
    return distribute_tensor(whole.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None)


def unsynced(state: State) -> AbstractContextManager[None]:
    """Let gradients add up on each rank; those of the next part of the step are then averaged with them."""
    no_sync = getattr(state.forward, "no_sync", None)
    if no_sync is not None:
        return no_sync()
    setter = getattr(state.model, "set_requires_gradient_sync", None)
    return nullcontext() if setter is None else _switched_off(setter)


@contextmanager
def _switched_off(setter: Any) -> Generator[None]:  # noqa: ANN401 - FSDP2's
    setter(False)  # noqa: FBT003
    try:
        yield
    finally:
        setter(True)  # noqa: FBT003


def _place() -> torch.device:
    """Return where a tensor must lie to be sent: on the host, unless the group, not made here, knows GPUs only."""
    return torch.device("cpu" if "gloo" in dist.get_backend_config() else "cuda")


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
        sleep(0.1)  # as in ``_pause``: where the interpreter has ended, a thread that enters it aborts the process


@cache
def _fork_in_peace() -> None:
    """Let gloo's threads rest at each fork, which is how loaders start their workers.

    Where a thread enters the interpreter in that moment, a lock stays shut in the worker, which then hangs before its
    first line, in Pythons without https://github.com/python/cpython/pull/112336.
    """
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(before=_pause)


def _pause() -> None:
    """Give gloo's threads time to let go of what they have sent: they may be the last, and enter the interpreter."""
    if dist.is_initialized():
        sleep(0.002)
