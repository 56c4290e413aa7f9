"""What ``sharded.py`` launches in two processes: a sharded model is saved and gone on from, in one of the ways."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from cutmix.core.state import State
from cutmix.trainer import Trainer
from cutmix.trainer.checkpoints.checkpoint import Content, name_for, read, write
from cutmix.trainer.checkpoints.snapshot import capture, capture_sharded, restore

LAYERS = 10


class Ours:
    """This library's checkpoints, put together by ``captured``."""

    def __init__(self, captured: Callable[[State], Content]) -> None:
        self.captured = captured

    def save(self, state: State, folder: Path) -> None:
        """Write a checkpoint."""
        write(folder / name_for(state.timestamp), self.captured(state), state.world)

    def load(self, state: State, folder: Path) -> None:
        """Verify it and take it over."""
        restore(read(folder / name_for(state.timestamp), state.world), state)


class Torchs:
    """``torch.distributed.checkpoint``, as safetensors without an index and without digests."""

    def save(self, state: State, folder: Path) -> None:
        """Write the tensors."""
        writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save(_tensors_of(state), storage_writer=writer)

    def load(self, state: State, folder: Path) -> None:
        """Read them where they are."""
        dcp.load(_tensors_of(state), storage_reader=dcp.HuggingFaceStorageReader(str(folder)))


WAYS = {"by rank 0, whole": Ours(capture), "each rank its shards": Ours(capture_sharded), "torch's own": Torchs()}


def _tensors_of(state: State) -> dict[str, torch.Tensor]:
    content = capture_sharded(state)
    tensors = {name: tensor for held in content.tensors.values() for name, tensor in held.items()}
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor) and tensor.ndim}


def trained(parameters: int) -> State:
    """Return a run that has made a step, with AdamW and FSDP."""
    side = round((parameters / LAYERS) ** 0.5)
    model = nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(LAYERS)))
    batches = [(torch.ones(1, side), torch.zeros(1, dtype=torch.long))] * 2
    optimizer = torch.optim.AdamW(model.parameters())
    trainer = Trainer(model, batches, optimizers=optimizer, parallelism="fsdp", device="cpu", progress_bar=False)
    trainer.fit("1ba")
    return trainer.state


def spent(act: Callable[[State, Path], None], state: State, folder: Path) -> dict[str, float]:
    """Return the seconds of an act, and by how many megabytes this process grows at its peak."""
    state.world.barrier()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is now what is held
    before, start = _megabytes("VmRSS"), perf_counter()
    act(state, folder)
    state.world.barrier()
    return {"seconds": perf_counter() - start, "megabytes": _megabytes("VmHWM") - before}


def _megabytes(figure: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{figure}:"))


def main(name: str, parameters: str, folder: str) -> None:
    """Save and load once, and let rank 0 write down what each rank has spent."""
    state, way, place = trained(int(parameters)), WAYS[name], Path(folder) / "saved"
    told = state.world.gathered({"save": spent(way.save, state, place), "load": spent(way.load, state, place)})
    if state.rank == 0:
        (Path(folder) / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
