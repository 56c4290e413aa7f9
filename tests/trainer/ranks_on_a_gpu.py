"""What one process under a launcher runs on a GPU: it trains by DDP, then by FSDP2, and tells what came of each."""

import hashlib
import json
import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cutmix.algorithms import CutMix
from cutmix.trainer import Trainer
from cutmix.trainer.processes import full

warnings.simplefilter("error")
DATA = TensorDataset(
    torch.rand(24, 30, generator=torch.Generator().manual_seed(1)).view(24, 1, 5, 6), torch.arange(24) % 3
)


def trained(parallelism):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 3))
    trainer = Trainer(
        model,
        DataLoader(DATA, 4, shuffle=True),
        DataLoader(DATA, 5),
        "2ep",
        CutMix(),
        device="gpu",
        parallelism=parallelism,
        progress_bar=False,
    )
    trainer.fit()
    sha = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        sha.update(name.encode() + full(weight.detach()).cpu().numpy().tobytes())
    return [sha.hexdigest(), trainer.state.eval_metrics["eval/loss"], str(trainer.state.device)]


if __name__ == "__main__":
    print(json.dumps({name: trained(name) for name in ("ddp", "fsdp")}))
