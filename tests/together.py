"""What several processes do in the tests: each function returns what a rank has come to."""

import hashlib
import shutil
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adafactor, Adagrad, Rprop
from torch.utils.data import DataLoader, TensorDataset

from cutmix.algorithms import CutMix
from cutmix.core import Callback, Logger
from cutmix.losses import mixed
from cutmix.models import resnet8
from cutmix.trainer import Trainer
from cutmix.trainer.processes import full

torch.set_num_threads(1)
SAMPLES = 21  # 11 batches of 2, the last of 1: in training 2 ranks end with one without samples, 4 with one too
IMAGES = torch.rand(SAMPLES, 3, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(SAMPLES) % 3


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x):
        return x + F.relu(self.inner(x))


class Net(nn.Module):
    """Has what differs between ranks: BatchNorm's statistics, and a buffer that every step reads and writes."""

    def __init__(self, classes=3, width=48):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.head = nn.Linear(width, classes)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        out = self.norm(x).flatten(1)
        for block in self.blocks:
            out = block(out)
        scale = 1.0 + 0.01 * torch.tanh(self.seen)
        if self.training:
            self.seen.copy_(x.mean())
        return self.head(out) * scale


class Plain(nn.Module):
    """Has nothing that differs between ranks or batches: its mean gradient is that of all samples at once."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, x):
        return self.layers(x)


class Hits:
    """A metric that knows nothing of other processes."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.hits = self.samples = 0

    def update(self, outputs, target):
        self.hits += int((outputs.argmax(1) == target).sum())
        self.samples += len(target)

    def compute(self):
        return self.hits / self.samples


class Kept(Logger):
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append({"step": step, **metrics})


class Watch(Callback):
    """Takes down, after each step, what only this rank has."""

    def __init__(self):
        self.weights, self.plans, self.losses, self.samples = [], [], [], []
        self.buffers = self.read = None

    def before_train_batch(self, state, logger):
        self.read = digest(b for name, b in state.model.named_buffers() if "norm" not in name)

    def after_loss(self, state, logger):
        self.losses.append((state.loss.item(), state.weight))

    def batch_end(self, state, logger):
        self.weights.append(digest(state.model.parameters()))
        self.plans.append(repr(state.plan))
        self.samples.append(state.samples)

    def eval_end(self, state, logger):
        self.buffers = digest(state.model.buffers())


def digest(tensors):
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(full(tensor.detach()).contiguous().numpy().tobytes())
    return whole.hexdigest()


def loader(batch_size=2, **settings):
    return DataLoader(TensorDataset(IMAGES, LABELS), batch_size, **settings)


def trained(model, *parts, **settings):
    watch, log = Watch(), Kept()
    given = {"optimizers": SGD(model.parameters(), lr=0.1, momentum=0.9), "max_duration": 2, "seed": 3, **settings}
    trainer = Trainer(
        model,
        *parts or (loader(shuffle=True),),
        callbacks=watch,
        loggers=log,
        device="cpu",
        progress_bar=False,
        **given,
    )
    trainer.fit()
    return trainer, watch, log


def network(kind=Net):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return kind()


def values(trainer):
    return torch.cat([full(parameter.detach()).flatten() for parameter in trainer.state.model.parameters()]).tolist()


def in_step(kind, rank):
    """Train by ``kind``, from other weights on each rank but rank 0, with CutMix, in microbatches, with metrics."""
    import torchmetrics

    model = network()
    with torch.no_grad():
        model.head.weight += rank
    return trained(
        model,
        loader(batch_size=4, shuffle=True),
        loader(batch_size=4),
        parallelism=kind,
        algorithms=CutMix(),
        device_train_microbatch_size=3,
        metrics={"hits": Hits(), "torch's": torchmetrics.Accuracy("multiclass", num_classes=3)},
    )


def replicated_in_step(rank):
    return told(*in_step("ddp", rank))


def sharded_in_step(rank):
    from cutmix.trainer import parallel

    parallel.BLOCK = 1000  # so that the blocks of a small model are some
    trainer, watch, log = in_step("fsdp", rank)
    return {
        **told(trainer, watch, log),
        "sharded": [type(m).__name__ for m in trainer.state.model.modules() if "FSDP" in type(m).__name__],
    }


def told(trainer, watch, log):
    return {
        "weights": watch.weights,
        "values": values(trainer),
        "plans": watch.plans,
        "buffers": watch.buffers,
        "read": watch.read,
        "eval": trainer.eval(),
        "rows": log.rows,
        "samples": watch.samples,
        "timestamp": trainer.state.timestamp.sample,
    }


def of_all_samples(rank):
    """Train on batches whose union is a batch of one process: the mean over all samples is the same."""
    trainer, watch, log = trained(network(Plain), loader())
    return {"values": values(trainer), "losses": watch.losses, "rows": log.rows}


def wrapped_by_a_function(rank):
    trainer, watch, _ = trained(network(), parallelism=lambda model: DistributedDataParallel(model, bucket_cap_mb=1))
    return {"weights": watch.weights, "called": type(trainer.state.forward).__name__}


class Scaled(nn.Module):
    """A loss that learns."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, outputs, target):
        return F.cross_entropy(outputs * self.scale, target)


def a_loss_that_learns(rank):
    plain, wrapped = Scaled(), Scaled()
    return [_learned(plain, plain), _learned(wrapped, mixed(wrapped))]


def _learned(loss, loss_fn):
    model = network(Plain)
    trained(model, loss_fn=loss_fn, optimizers=SGD([*model.parameters(), *loss.parameters()], lr=0.1))
    return loss.scale.tolist()


def narrow_convolutions(rank):
    """Train some of 1x1, whose gradients have strides that read both ways; return what was warned of."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trained(resnet8(3), max_duration="1ba")
    return [str(warning.message) for warning in warned]


def optimizers_of_whole_parameters(rank):
    refusals = []
    for kind in (Adafactor, Adagrad, Rprop):
        model = network(Plain)
        with pytest.raises(TypeError) as refusal:
            trained(model, parallelism="fsdp", optimizers=kind(model.parameters()))
        refusals.append(str(refusal.value))
    return refusals


def own_streams(rank):
    """Train on streams of 3 and 4 batches."""
    trainer, watch, _ = trained(network(Plain), lambda: iter([(IMAGES[:3], LABELS[:3])] * (3 + rank)))
    return {"weights": watch.weights, "samples": trainer.state.timestamp.sample}


def nothing_counts(rank):
    """The last step has samples on rank 0 alone, and the other's loss is infinite: its gradient must still be 0."""

    def loss_fn(outputs, target):
        mean = F.cross_entropy(outputs, target)
        return mean if rank == 0 else mean / torch.zeros(())

    data = TensorDataset(IMAGES[:3], LABELS[:3])
    trainer, _, _ = trained(network(Plain), DataLoader(data, 3), loss_fn=loss_fn, max_duration="1ba")
    return values(trainer)


def evaluated(rank):
    """Measure a model whose buffers are this rank's own, on sets that do not divide, or are too small for all ranks."""
    import torchmetrics

    measured = []
    for parallelism in ("ddp", "fsdp"):
        model = network()
        area = torchmetrics.AUROC("multiclass", num_classes=3)  # which keeps all outputs, in lists
        metrics = {"hits": Hits(), "torch's": torchmetrics.Accuracy("multiclass", num_classes=3), "area": area}
        sets = {str(size): loader(size, shuffle=True) for size in (2, 4, 16)}
        listed = {"listed": list(loader(5)), "of one rank": lambda: iter(list(loader(5))[:2] if rank == 0 else [])}
        trainer = Trainer(
            model,
            parallelism=parallelism,
            metrics=metrics,
            device="cpu",
            progress_bar=False,
            seed=1,
            eval_dataloader={**sets, **listed},
            eval_subset_num_batches=7,
        )
        model.norm.running_mean += rank
        model.seen += rank
        measured.append(trainer.eval())
    return measured


def not_saved(rank):
    """Save where only rank 0 meets what stands in the way."""
    with TemporaryDirectory() as own:
        trainer, _, _ = trained(network(Plain), save_folder=own, save_interval="9ep")
        if rank == 0:
            shutil.rmtree(f"{own}/checkpoints")
            Path(own, "checkpoints").touch()
        try:
            trainer.save_checkpoint()
        except OSError as error:
            return [str(error).split(",")[0], [told for (told,) in trainer.state.world.counts(rank)]]
