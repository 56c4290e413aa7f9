"""Metrics of training go on within an epoch: what is logged at its end is what a run that went through logs."""

import pytest
from torch import optim
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAUROC, MulticlassF1Score

from cutmix.algorithms import CutMix
from cutmix.core import Callback, Logger
from cutmix.integrations.torchmetrics import MixedAccuracy, MixedCeiling
from cutmix.trainer.checkpoints.checkpoint import read, write
from cutmix.trainer.checkpoints.snapshot import capture, restore
from snapshots import net, trainer


class Rows(Logger):
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append({"step": step, **metrics})


class Writing(Callback):
    """Writes a checkpoint after a batch, before an epoch is ended."""

    def __init__(self, folder, batch):
        self.folder = folder
        self.batch = batch

    def batch_checkpoint(self, state, logger):
        if state.timestamp.batch == self.batch:
            write(self.folder / f"ep0-ba{self.batch}", capture(state))


class Total:
    """A metric that is no torchmetrics', and tells its state."""

    def __init__(self):
        self.reset()

    def update(self, outputs, target):
        self.total += float(outputs.sum()) + float(target.sum())

    def compute(self):
        return self.total

    def reset(self):
        self.total = 0.0

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


class Silent(Total):
    """A metric that does not tell its state."""

    state_dict = None
    load_state_dict = None


class Of(Metric):
    """A metric that wraps another."""

    def __init__(self):
        super().__init__()
        self.inner = MeanMetric()

    def update(self, outputs, target):
        self.inner.update(outputs.mean())

    def compute(self):
        return self.inner.compute()


def run(init=0, **settings):
    model = net(init)
    return trainer(model, optim.SGD(model.parameters(), lr=0.05), **settings)


def ends(folder, at, **settings):
    """Return what is logged at the end of the epoch by a run that went through, and by one that was resumed."""
    whole, again = Rows(), Rows()
    run(loggers=whole, callbacks=Writing(folder, at), **settings).fit("1ep")
    second = run(1, loggers=again, **settings)
    restore(read(folder / f"ep0-ba{at}"), second.state)
    second.fit("1ep")
    return whole.rows[-1], again.rows[-1]


METRICS = {
    "sums": lambda: MulticlassF1Score(8),
    "lists": lambda: MulticlassAUROC(8),
    "mean": Of,
    "total": Total,
    "mixed": MixedAccuracy,
}


@pytest.mark.filterwarnings("ignore:No positive samples:UserWarning", "ignore:No negative samples:UserWarning")
@pytest.mark.parametrize("at", [2, 6], ids=["within", "at the last batch"])
def test_metrics_go_on(at, tmp_path):
    whole, again = ends(tmp_path, at, metrics={name: make() for name, make in METRICS.items()})

    assert set(whole) == {"step", "epoch", *(f"train/{name}" for name in METRICS)}
    assert again == whole


def test_on_mixed_batches_those_go_on_that_take_them(tmp_path):
    metrics = {"mixed": MixedAccuracy(), "ceiling": MixedCeiling(), "plain": MulticlassF1Score(8)}

    whole, again = ends(tmp_path, 3, metrics=metrics, algorithms=CutMix(length=0.5))

    assert set(whole) == {"step", "epoch", "train/mixed", "train/ceiling"}
    assert again == whole


def test_a_metric_without_a_state_counts_from_here_on_and_that_is_said(tmp_path):
    with pytest.warns(UserWarning, match="got 'silent' without: in this epoch it counts from here on"):
        whole, again = ends(tmp_path, 3, metrics={"silent": Silent(), "total": Total()})

    assert again["train/total"] == whole["train/total"]
    assert again["train/silent"] != whole["train/silent"]


def test_between_two_epochs_there_is_nothing_to_go_on_with():
    first = run(metrics={"silent": Silent()})
    first.fit("1ep")

    assert capture(first.state).values["parts"] == {}


def test_metrics_may_be_taken_away_and_added(tmp_path):
    first = run(metrics={"total": Total(), "mean": Of()})
    first.fit("2ba")
    write(tmp_path / "ep0-ba2", capture(first.state))
    rows = Rows()
    plain, other = run(1), run(1, metrics={"mean": Of(), "mixed": MixedAccuracy()}, loggers=rows)
    for one in (plain, other):
        restore(read(tmp_path / "ep0-ba2"), one.state)
        one.fit("1ep")

    assert set(rows.rows[-1]) == {"step", "epoch", "train/mean", "train/mixed"}
