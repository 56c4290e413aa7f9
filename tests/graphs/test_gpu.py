"""What is compiled for a GPU computes what is not, for each plan anew."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cutmix import CutMix, MixUp, mix
from cutmix.trainer import Trainer
from gpus import needs_gpu

pytestmark = [
    needs_gpu,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.torch.jit"),
]  # the compiler's advice

IMAGES = torch.randn(32, 3, 8, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(32) % 4


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize("recipe", [CutMix(), CutMix(per_sample=True), MixUp(per_sample=True)])
def test_a_compiled_step_takes_every_plan(recipe):
    torch._dynamo.reset()
    model = network().cuda()

    def loss_of(images, labels, plan):
        mixed, target = mix(images, labels, plan)
        return F.cross_entropy(model(mixed), target)

    step = torch.compile(loss_of, fullgraph=True)
    for seed in range(3):
        plan = recipe.draw(IMAGES.shape, generator=torch.Generator().manual_seed(seed))
        losses = [call(IMAGES.cuda(), LABELS.cuda(), plan) for call in (step, loss_of)]
        torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16"])
def test_a_compiled_model_trains_to_about_the_same_numbers(precision):
    def trained(*, compiled):
        torch._dynamo.reset()
        model = network()
        batches = list(zip(IMAGES.split(4), LABELS.split(4), strict=True))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        made = Trainer(
            model,
            batches,
            None,
            "1ep",
            CutMix(),
            optimizers=optimizer,
            device="gpu",
            precision=precision,
            compile=compiled,
            seed=3,
            progress_bar=False,
        )
        made.fit()
        return [weight.detach().cpu() for weight in model.parameters()]

    torch.testing.assert_close(trained(compiled=True), trained(compiled=False), rtol=0.02, atol=0.02)
