"""The mixed accuracy adds up over batches and ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from cutmix import CutMix, LabelSmoothing, MixedTarget, Trainer
from cutmix.core import Logger
from cutmix.integrations.torchmetrics import MixedAccuracy, MixedCeiling
from cutmix.metrics import accuracy, ceiling
from strategies import seeds


def batch_of(samples, seed=0, classes=4):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(classes, (2, samples), generator=generator)
    kept = torch.rand(samples, generator=generator, dtype=torch.float64)
    return torch.randn(samples, classes, generator=generator), MixedTarget(*ids, kept)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), seeds)
def test_uneven_batches_add_up_to_the_accuracy_of_all_samples(sizes, seed):
    metric, batches = MixedAccuracy(), [batch_of(size, seed + number) for number, size in enumerate(sizes)]
    for outputs, target in batches:
        metric.update(outputs, target)

    outputs = torch.cat([outputs for outputs, _ in batches])
    target = MixedTarget(*(torch.cat([target[field] for _, target in batches]) for field in range(3)))
    assert metric.compute().item() == pytest.approx(accuracy(outputs, target).item(), abs=1e-6)


def test_plain_targets_have_the_plain_accuracy_and_no_ceiling():
    outputs, (ids, _, _) = batch_of(50)
    metrics = MetricCollection({"mixed": MixedAccuracy(), "top": MixedCeiling()})

    measured = metrics(outputs, ids)
    assert measured["mixed"].item() == pytest.approx(MulticlassAccuracy(4, average="micro")(outputs, ids).item())
    assert measured["top"] == 1.0


def test_the_ceiling_adds_up_too():
    outputs, target = batch_of(20)

    assert MixedCeiling()(outputs, target) == ceiling(target)


def test_a_reset_forgets():
    metric = MixedAccuracy()
    metric.update(*batch_of(5))
    metric.reset()
    metric.update(*batch_of(7, seed=1))

    assert metric.compute() == accuracy(*batch_of(7, seed=1))


ON_A_RANK = """
import sys
import torch.distributed as dist
from test_torchmetrics import batch_of
from cutmix.integrations.torchmetrics import MixedAccuracy

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
metric = MixedAccuracy()
for seed, samples in [(0, 3), (1, 8), (2, 5)][rank::2]:
    metric.update(*batch_of(samples, seed))
print(metric.compute().item())
dist.destroy_process_group()
"""


def test_two_ranks_with_uneven_batches_give_the_number_of_one(tmp_path):
    alone = MixedAccuracy()
    for seed, samples in [(0, 3), (1, 8), (2, 5)]:
        alone.update(*batch_of(samples, seed))
    here = os.pathsep.join([*map(str, Path(__file__).parents[:2]), *sys.path])

    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", ON_A_RANK, str(rank), str(tmp_path / "store")],
            env={**os.environ, "PYTHONPATH": here}, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    numbers = [float(rank.communicate(timeout=120)[0]) for rank in ranks]
    assert numbers == pytest.approx([alone.compute().item()] * 2, abs=1e-6)


class Remember(Logger):
    """Keeps the last figure of each name."""

    def __init__(self):
        self.figures = {}

    def log_metrics(self, metrics, step):
        self.figures |= metrics


def test_the_trainer_gives_mixed_batches_to_metrics_that_take_them_only():
    data = DataLoader(TensorDataset(torch.rand(8, 3, 6, 4), torch.arange(8) % 4), batch_size=3)
    metrics, logger = {"mixed": MixedAccuracy(), "plain": MulticlassAccuracy(4)}, Remember()
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 4))
    Trainer(
        model,
        data,
        data,
        algorithms=[CutMix(bbox=(0, 0, 3, 4)), LabelSmoothing()],
        metrics=metrics,
        loggers=logger,
        progress_bar=False,
    ).fit()

    assert 0.0 <= logger.figures["train/mixed"] <= 1.0
    assert "train/plain" not in logger.figures
    assert {"eval/mixed", "eval/plain"} <= logger.figures.keys()
