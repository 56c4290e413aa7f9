"""What every rank runs: training with all that looks at the weights between two steps; prints what came of it."""

import hashlib
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cutmix.core import Callback
from cutmix.trainer import EMA, CosineWithWarmup, EarlyStopping, Evaluator, Trainer, parameter_groups
from cutmix.trainer.checkpoints.snapshot import capture
from cutmix.trainer.processes import full
from together import Scaled

torch.set_num_threads(1)
IMAGES = torch.rand(24, 3, 4, 4, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(IMAGES, torch.arange(24) % 3)
QUIET = {"device": "cpu", "progress_bar": False, "seed": 7}


class Saved(Callback):
    """Captures the run when it has been evaluated, whole on rank 0."""

    def batch_checkpoint(self, state, logger):
        self.names = state.world.broadcast(sorted(capture(state).tensors["weights"]))


def digest(tensors):
    return hashlib.sha256(b"".join(full(tensor.detach()).numpy().tobytes() for tensor in tensors)).hexdigest()


def trained(parallelism, precision, norm, *, lent=True):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))
    ema, saved = EMA("2ep"), Saved()
    trainer = Trainer(
        model,
        DataLoader(DATA, batch_size=3, shuffle=True),
        {"every": Evaluator(DataLoader(DATA, batch_size=4), eval_interval="1ba"), "last": DataLoader(DATA, 5)},
        "3ep",
        optimizers=torch.optim.SGD(parameter_groups(model, 0.01), lr=0.1, momentum=0.9),
        schedulers=CosineWithWarmup("1ep"),
        callbacks=[*([ema] if lent else []), EarlyStopping("eval/last/loss", 5), saved],
        gradient_clip_norm=norm,
        precision=precision,
        parallelism=parallelism,
        **QUIET,
    )
    trainer.fit()
    return {
        "weights": digest(model.parameters()),
        "average": digest(ema.weights().values()) if lent else "",
        "figures": trainer.state.eval_metrics,
        "norm": float(trainer.state.train_metrics.get("train/grad_norm", 0.0)),
        "saved": saved.names,
    }


def learned(parallelism):
    """Cut the gradients of a model and of its loss, whose own is whole where the model's are sharded."""
    torch.manual_seed(1)
    model, loss = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), Scaled()
    trainer = Trainer(
        model,
        DataLoader(DATA, batch_size=3, shuffle=True),
        optimizers=torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=0.1),
        loss_fn=loss,
        gradient_clip_norm=0.1,
        parallelism=parallelism,
        **QUIET,
    )
    trainer.fit()
    return {
        "norm": float(trainer.state.train_metrics["train/grad_norm"]),
        "values": [full(parameter.detach()).tolist() for parameter in (model[1].bias, loss.scale)],
    }


if __name__ == "__main__":
    runs = {
        "whole": trained("ddp", "fp32", None),
        "sharded": trained("fsdp", "fp32", None),
        "sharded, not lent": trained("fsdp", "fp32", None, lent=False),
        "whole, cut": trained("ddp", "amp_fp16", 0.1),
        "sharded, cut": trained("fsdp", "amp_fp16", 0.1),
        "whole, loss learns": learned("ddp"),
        "sharded, loss learns": learned("fsdp"),
    }
    print(json.dumps(runs))
