"""What every rank runs: a model with Composer's interface, and its network alone, must end with the same weights."""

import warnings

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from cutmix.algorithms import CutMix
from cutmix.trainer import Trainer

torch.set_num_threads(1)
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
DATA = TensorDataset(
    torch.rand(24, 30, generator=torch.Generator().manual_seed(1)).view(24, 1, 5, 6), torch.arange(24) % 3
)


class Classifier(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, batch):
        return self.network(batch[0])

    def loss(self, outputs, batch):
        return F.cross_entropy(outputs, batch[1])

    def eval_forward(self, batch, outputs=None):
        return outputs if outputs is not None else self.forward(batch)

    def get_metrics(self, is_train):
        return {"MulticlassAccuracy": MulticlassAccuracy(num_classes=3, average="micro")}

    def update_metric(self, batch, outputs, metric):
        metric.update(outputs, batch[1])


def trained(parallelism, wrap):
    """Return the weights and what evaluation measures."""
    torch.manual_seed(0)
    model = wrap(nn.Sequential(nn.Flatten(), nn.Linear(30, 3)))
    loader, held_out = DataLoader(DATA, batch_size=4, shuffle=True), DataLoader(DATA, batch_size=5)
    settings = {"optimizers": torch.optim.SGD(model.parameters(), lr=0.1), "seed": 1, "device": "cpu"}
    trainer = Trainer(model, loader, held_out, "2ep", CutMix(), parallelism=parallelism, progress_bar=False, **settings)
    trainer.fit()
    weights = [getattr(each, "full_tensor", lambda each=each: each)().detach() for each in model.parameters()]
    return weights, trainer.eval()


for parallelism in ("ddp", "fsdp"):
    weights, measured = trained(parallelism, Classifier)
    expected, _ = trained(parallelism, lambda network: network)
    torch.testing.assert_close(weights, expected)
    assert abs(measured["eval/MulticlassAccuracy"] - measured["eval/accuracy"]) < 1e-6
print("the same")
