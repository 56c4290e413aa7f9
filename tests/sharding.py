"""What two processes do in the tests of sharded checkpoints: each function returns what a rank has come to.

They share the folder that FOLDER names, and leave there what they have written.
"""

import errno
import hashlib
import os
import signal
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch.utils.data import DataLoader, TensorDataset

from cutmix.algorithms import CutMix
from cutmix.trainer import EMA, Trainer, load_weights
from cutmix.trainer.checkpoints import checkpoint
from cutmix.trainer.checkpoints.checkpoint import Content, checkpoints, read, write
from cutmix.trainer.checkpoints.manifest import CheckpointError, Manifest
from cutmix.trainer.checkpoints.shards import Sharded
from cutmix.trainer.checkpoints.snapshot import capture, capture_sharded, restore
from cutmix.trainer.processes import full, join
from faults import Stop

torch.set_num_threads(1)
DATA = TensorDataset(
    torch.rand(24, 3, 6, 5, generator=torch.Generator().manual_seed(1)),
    torch.randint(6, (24,), generator=torch.Generator().manual_seed(2)),
)
STEPS = 6  # an epoch and a half


class Net(nn.Module):
    """Has tied and frozen parameters, buffers, and shards that are uneven, or empty on one rank of two."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.frozen = nn.Linear(5, 6).requires_grad_(False)
        self.first = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.first.weight
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, images):
        features = self.norm(self.convolution(images)).relu().mean((2, 3))
        return self.tied(self.first(self.frozen(features)).relu()) * self.gain


def net(init=0):
    with torch.random.fork_rng():
        torch.manual_seed(init)
        return Net()


def folder(name=""):
    return Path(os.environ["FOLDER"], name)


def run(name, parallelism="fsdp", stop=None, init=0, **settings):
    """Train, or go on with, the run in that folder; stop where a fault would."""
    model = net(init)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    optimizers = [optim.AdamW(matrices, lr=0.01), optim.SGD(others, lr=0.05, momentum=0.9)]
    defaults = {"save_interval": "1ba", "save_sharded": parallelism == "fsdp", "autoresume": True}
    trainer = Trainer(
        model,
        DataLoader(DATA, batch_size=3, shuffle=True),
        None,
        f"{STEPS}ba",
        CutMix(p=0.5),
        optimizers=optimizers,
        schedulers=optim.lr_scheduler.MultiStepLR(optimizers[1], [2, 5]),
        step_schedulers_every_batch=True,
        callbacks=[EMA(decay=0.9), *([] if stop is None else [Stop(stop)])],
        parallelism=parallelism,
        save_folder=folder(name),
        device="cpu",
        progress_bar=False,
        seed=7,
        **{**defaults, **settings},
    )
    try:
        trainer.fit()
    except ConnectionAbortedError:
        assert trainer.state.timestamp.batch == stop
    trainer.close()
    return trainer


def digest(trainer, name):
    """What a run comes to: weights, optimizers, the average, what else a checkpoint has, and the log."""
    content, sha = capture(trainer.state), hashlib.sha256((folder(name) / "metrics.jsonl").read_bytes())
    if trainer.state.rank:
        return None
    for tensors in content.tensors.values():
        for key, tensor in sorted(tensors.items()):
            sha.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    content.values["parts"].pop("Timings/0", None)
    sha.update(repr(content.values).encode())
    return sha.hexdigest()


def straight(rank):
    return digest(run("straight"), "straight")


def replicated(rank):
    return digest(run("replicated", "ddp", save_sharded=True), "replicated")


def resumed(rank):
    for stop in (2, 5):
        run("resumed", stop=stop)
    return digest(run("resumed", init=1), "resumed")


def from_shards_to_ddp(rank):
    run("to ddp", stop=3)
    return digest(run("to ddp", "ddp", init=1), "to ddp")


def from_ddp_to_shards(rank):
    run("to shards", "ddp", stop=3)
    return digest(run("to shards", init=1), "to shards")


def from_whole_to_shards(rank):
    run("from whole", stop=3, save_sharded=False)
    return digest(run("from whole", init=1), "from whole")


def last(name):
    """Return the newest checkpoint of a run."""
    return checkpoints(folder(name) / "checkpoints")[-1]


def two_are_kept(rank):
    run("two", save_num_checkpoints_to_keep=2)


class Calls:
    """Counts the calls of a method while the block runs."""

    def __init__(self, owner, name):
        self.owner, self.name, self.method, self.count = owner, name, getattr(owner, name), 0

    def __enter__(self):
        def counted(*args, **settings):
            self.count += 1
            return self.method(*args, **settings)

        setattr(self.owner, self.name, counted)
        return self

    def __exit__(self, *_):
        setattr(self.owner, self.name, self.method)


def what_is_made_whole(rank):
    """Tell how often a tensor is gathered, or read whole, by a run that is saved and goes on, sharded or not."""
    counts = []
    for sharded in (True, False):
        with Calls(DTensor, "full_tensor") as gathered, Calls(Sharded, "whole") as put_together:
            run(f"counted {sharded}", stop=3, save_sharded=sharded)
            run(f"counted {sharded}", init=1, save_sharded=sharded)
        counts.append([gathered.count, put_together.count])
    return counts


def who_verifies(rank):
    """Tell which files this rank verifies when all go on."""
    run("verified", save_interval=f"{STEPS}ba")
    names, verified = [], Manifest.verified
    Manifest.verified = lambda manifest, folder, name: (names.append(name), verified(manifest, folder, name))[1]
    try:
        read(last("verified"), join(torch.device("cpu")))
    finally:
        Manifest.verified = verified
    return names


def weights_of(model):
    whole = {name: full(tensor.detach()).tolist() for name, tensor in model.state_dict().items()}
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def weights_into_shards(rank):
    """Load weights that were saved sharded, whole, or with one name of two that are tied, into a sharded model."""
    run("whole", save_sharded=False)
    trained = run("apart").state.model
    one_name = {name: full(tensor) for name, tensor in trained.state_dict().items() if name != "tied.weight"}
    torch.save(join(torch.device("cpu")).broadcast(one_name), folder(f"one name {rank}.pt"))
    told = [weights_of(trained)]
    for path in (last("apart"), last("whole"), folder(f"one name {rank}.pt")):
        model = net(init=1)
        fully_shard(model)
        load_weights(model, path)
        told.append(weights_of(model))
    return told


def by_torchs_own_reader(rank):
    """Let torch.distributed.checkpoint read what this library has written."""
    trained, model = run("read by torch").state.model, net(init=1)
    fully_shard(model)
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name != "tied.weight"}  # an alias
    dcp.load(wanted, storage_reader=dcp.HuggingFaceStorageReader(str(last("read by torch"))))
    return [weights_of(trained), weights_of(model)]


def no_room_on_rank_1(rank):
    """Save where only rank 1 meets what stands in the way, and go on training."""
    trainer = run("no room", stop=2)
    write_file = checkpoint._write_file

    def full_disk(path, chunks):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoint._write_file = full_disk if rank else write_file
    trainer.state.timestamp = trainer.state.timestamp.__class__(batch=3)
    try:
        trainer._saver.save(trainer.state)
    except OSError as error:
        return [str(error), error.errno, trainer.state.world.gathered(rank)]
    finally:
        checkpoint._write_file = write_file


def a_folder_for_each_machine(rank):
    """Save where each rank sees a folder of its own."""
    state = run("seen by all", stop=1).state
    try:
        write(folder(f"machine {rank}") / "ep0-ba1", capture_sharded(state), state.world)
    except OSError as error:
        return [str(error), sorted(path.name for path in folder().glob("machine*/*"))]


def killed_while_it_writes(rank):
    """Write two checkpoints, and half of a third."""
    sync = os.fsync

    def die(file):
        if last("killed").name == "ep0-ba2" and rank:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    run("killed", stop=2)
    os.fsync = die
    run("killed")


def after_the_kill(rank):
    return digest(run("killed", init=1), "killed")


def damaged(rank):
    """Flip a bit of a shard; take the one before, and refuse to go on from that one."""
    run("damaged", stop=3)
    file = folder("damaged") / "checkpoints" / "ep0-ba3" / "weights-00002-of-00002.safetensors"
    world = join(torch.device("cpu"))
    if rank == 0:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    world.barrier()
    try:
        run("from damaged", load_path=file.parent, autoresume=False)
    except CheckpointError as error:
        refused = str(error)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        trainer = run("damaged", stop=2, init=1)
    said = [str(one.message) for one in heard if "passed over" in str(one.message)]
    return [refused, said, trainer.state.timestamp.batch]


def another_model(rank):
    """Go on with another model from what was saved sharded, and whole; tell what is said, and whether it changed."""
    told = []
    for sharded in (True, False):
        name = f"misfit {sharded}"
        run(name, stop=1, save_sharded=sharded)
        model = net(init=1)
        model.first, model.spare = nn.Linear(6, 7), nn.Linear(2, 2)
        trainer = Trainer(
            model,
            DataLoader(DATA, 3),
            parallelism="fsdp",
            device="cpu",
            progress_bar=False,
            seed=7,
            optimizers=optim.SGD(model.parameters()),
        )
        before = weights_of(model)
        try:
            restore(read(last(name), trainer.state.world), trainer.state)
        except CheckpointError as error:
            told.append([str(error), before != weights_of(model)])
    return told


def in_a_grid(model):
    """Shard over two ranks of four, by columns where they are even, and hold the same on the other two."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards"))
    fully_shard(model, mesh=mesh, shard_placement_fn=lambda one: Shard(0 if one.shape[-1] % 2 else one.ndim - 1))
    return model


def replicas_of_shards(rank):
    run("grid", in_a_grid, stop=3, save_sharded=True)
    ends = [run(name, in_a_grid, init=init, save_sharded=True) for name, init in (("grid", 1), ("straight grid", 0))]
    return [digest(end, name) for end, name in zip(ends, ("grid", "straight grid"), strict=True)]


def shards_that_are_no_blocks(rank):
    world = join(torch.device("cpu"))
    mesh = init_device_mesh("cpu", (world.size,))
    strided = DTensor.from_local(torch.ones(2), mesh, [_StridedShard(0, split_factor=2)], run_check=False)
    try:
        write(folder("ep0-ba1"), Content({"weights": {"weight": strided}}, {}), world)
    except ValueError as error:
        return [str(error), folder("ep0-ba1").exists()]


def fixed(rank):
    """Write a checkpoint that is the same each time."""
    world = join(torch.device("cpu"))
    mesh = init_device_mesh("cpu", (world.size,))

    def cut(whole, axis=0):
        return distribute_tensor(whole, mesh, [Shard(axis)])

    rows = cut(torch.arange(15.0).reshape(5, 3) / 8)
    weights = {
        "rows": rows,
        "tied": rows,
        "columns": cut(torch.arange(8, dtype=torch.bfloat16).reshape(2, 4), 1),
        "spectrum": cut(torch.tensor([[1 + 2j], [-3j], [4.0]], dtype=torch.complex64)),
        "one": cut(torch.tensor([7], dtype=torch.int64)),
        "whole": torch.tensor([True, False]),
    }
    values = {"seed": 17, "betas": (0.9, 0.999)}
    write(
        folder("ep1-ba12"),
        Content({"weights": weights, "training": {"momentum": cut(torch.arange(4.0))}}, values),
        world,
    )
