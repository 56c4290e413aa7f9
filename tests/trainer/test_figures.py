"""What is measured: honest under mixing, weighted by samples, and the same bytes again."""

import json
import math
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from cutmix import losses
from cutmix.algorithms import CutMix
from cutmix.core import Callback, Logger
from cutmix.losses import mixed
from cutmix.metrics import accuracy, ceiling
from cutmix.targets import MixedTarget
from cutmix.trainer import Trainer

IMAGES = torch.rand(10, 3, 6, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(10) % 4


def loader(labels=LABELS, **settings):
    return DataLoader(TensorDataset(IMAGES, labels), **{"batch_size": 4, **settings})


def network(outputs=4):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(90, outputs))


def trainer(*parts, model=None, **settings):
    return Trainer(model or network(), *parts, **{"device": "cpu", "progress_bar": False, "seed": 0, **settings})


class Rows(Logger):
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append({"step": step, **metrics})


class Last(Callback):
    """Keeps what a step ended with."""

    def after_train_batch(self, state, logger):
        self.outputs, self.target = state.outputs.detach(), state.batch[1]


def test_a_mixed_batch_is_scored_as_mixed_and_never_as_train_accuracy():
    rows, last = Rows(), Last()
    trainer(loader(), algorithms=CutMix(), loggers=rows, callbacks=last).fit("1ba")

    (row,) = rows.rows
    assert set(row) == {"step", "epoch", "train/loss", "train/mixed_accuracy", "train/mixed_accuracy_ceiling"}
    assert row["train/mixed_accuracy"] == accuracy(last.outputs, last.target)
    assert row["train/mixed_accuracy_ceiling"] == ceiling(last.target)


def test_a_plain_batch_has_a_train_accuracy():
    rows, last = Rows(), Last()
    trainer(loader(), loggers=[rows], callbacks=last).fit("1ba")

    (row,) = rows.rows
    assert set(row) == {"step", "epoch", "train/loss", "train/accuracy"}
    assert row["train/accuracy"] == (last.outputs.argmax(1) == LABELS[:4]).float().mean()
    assert row["train/loss"] == F.cross_entropy(last.outputs, LABELS[:4])


@pytest.mark.parametrize("labels", [torch.rand(10, 4), F.one_hot(LABELS).float()])
def test_rows_are_scored_by_their_largest_entry(labels):
    measured = trainer(None, loader(labels), model=network()).eval()

    assert measured["eval/accuracy"] == pytest.approx(
        float((network()(IMAGES).argmax(1) == labels.argmax(1)).float().mean())
    )


@pytest.mark.parametrize("loss_fn", [F.mse_loss, F.binary_cross_entropy_with_logits, mixed(F.mse_loss)])
@pytest.mark.parametrize("outputs", [1, 4])
def test_what_has_no_classes_has_no_accuracy(loss_fn, outputs):
    rows, data = Rows(), loader(torch.rand(10, outputs))
    settings = {"model": network(outputs), "loss_fn": loss_fn, "loggers": rows}
    trainer(data, data, "1ba", **settings).fit()
    trainer(data, None, "1ba", CutMix(), **settings).fit()

    assert [set(row) - {"step", "epoch"} for row in rows.rows] == [{"train/loss"}, {"eval/loss"}, {"train/loss"}]


@pytest.mark.parametrize("loss_fn", [nn.CrossEntropyLoss(), losses.cross_entropy, mixed(F.cross_entropy)])
def test_rows_are_classes_to_every_cross_entropy(loss_fn):
    assert "eval/accuracy" in trainer(None, loader(torch.rand(10, 4)), loss_fn=loss_fn).eval()


def test_evaluation_is_weighted_by_samples():
    measured = trainer(None, loader(batch_size=4)).eval()

    outputs = network()(IMAGES).detach()
    assert measured["eval/loss"] == pytest.approx(float(F.cross_entropy(outputs, LABELS)), abs=1e-6)
    assert measured["eval/accuracy"] == pytest.approx(float((outputs.argmax(1) == LABELS).float().mean()), abs=1e-6)


def test_evaluation_sees_plain_batches_and_a_resting_model():
    class Seen(Callback):
        kinds = ()

        def eval_after_forward(self, state, logger):
            kind = type(state.batch[1]), state.batch[0].equal(IMAGES[:4]), state.model.training, torch.is_grad_enabled()
            self.kinds += (kind,)

    seen = Seen()
    fitted = trainer(loader(), loader(), algorithms=CutMix(), callbacks=seen, eval_subset_num_batches=1)
    fitted.fit()

    assert seen.kinds == ((torch.Tensor, True, False, False),)
    assert fitted.state.model.training


def test_modules_that_rest_in_training_still_rest_after_evaluation():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(90), nn.Linear(90, 4))
    model[1].eval()

    trainer(None, loader(), model=model).eval()

    assert [module.training for module in model] == [True, False, True]


def test_an_evaluation_in_the_midst_leaves_the_batch_to_those_who_come_after():
    class After(Callback):
        def batch_end(self, state, logger):
            self.ended = state.batch, state.outputs, state.loss

        def batch_checkpoint(self, state, logger):
            assert all(
                mine is theirs
                for mine, theirs in zip(self.ended, (state.batch, state.outputs, state.loss), strict=True)
            )

    trainer(loader(), loader(), callbacks=After(), eval_interval="1ba").fit()


class Hits:
    """A measure as torchmetrics' are: it adds up."""

    def __init__(self):
        self.reset()

    def update(self, outputs, target):
        assert not outputs.requires_grad or not torch.is_grad_enabled()
        self.hits, self.seen = self.hits + int((outputs.argmax(1) == target).sum()), self.seen + len(target)

    def compute(self):
        return self.hits / self.seen

    def reset(self):
        self.hits = self.seen = 0


def test_a_user_s_metrics_are_measured_over_an_epoch_and_an_evaluation():
    rows = Rows()
    model = network()
    resting = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer(loader(), loader(), model=model, metrics={"hits": Hits()}, loggers=rows, optimizers=resting).fit(2)

    train = [row["train/hits"] for row in rows.rows if "train/hits" in row]
    evaluated = [(row["eval/hits"], row["eval/accuracy"]) for row in rows.rows if "eval/hits" in row]
    untrained = float((network()(IMAGES).argmax(1) == LABELS).float().mean())
    assert train == pytest.approx([untrained] * 2)
    assert evaluated == [(pytest.approx(untrained),) * 2] * 2


def test_what_a_metric_saw_before_does_not_count():
    seen = Hits()
    seen.update(torch.zeros(1000, 4), torch.ones(1000))

    measured = trainer(None, loader(), metrics={"hits": seen}).eval()

    assert measured["eval/hits"] == pytest.approx(measured["eval/accuracy"])


def test_an_evaluation_in_the_midst_of_an_epoch_does_not_disturb_its_metrics():
    class Count(Hits):
        def compute(self):
            return self.seen

    rows = Rows()
    trainer(loader(), loader(), metrics={"samples": Count()}, loggers=rows, eval_interval="1ba").fit()

    assert [row["train/samples"] for row in rows.rows if "train/samples" in row] == [10]


def test_a_user_s_metrics_are_not_updated_while_a_batch_is_mixed():
    rows = Rows()
    trainer(loader(), loader(), algorithms=CutMix(), metrics={"hits": Hits()}, loggers=rows).fit()

    assert not any("train/hits" in row for row in rows.rows)
    assert "eval/hits" in rows.rows[-1]


def test_a_user_s_metrics_see_the_batches_that_a_mixing_algorithm_leaves_alone():
    class Count(Hits):
        def compute(self):
            return self.seen

    rows, shares = Rows(), []

    class Shares(Callback):
        def batch_end(self, state, logger):
            shares.append(state.batch[1].kept)

    trainer(
        loader(), algorithms=CutMix(p=0.5), metrics={"samples": Count()}, loggers=rows, callbacks=Shares(), seed=3
    ).fit("3ba")

    unmixed = sum(len(kept) for kept in shares if kept.eq(1).all())
    assert 0 < unmixed < 10
    assert [row["train/samples"] for row in rows.rows if "train/samples" in row] == [unmixed]


def test_a_figure_that_is_no_number_is_null_in_the_file(tmp_path):
    class Strange(Callback):
        def batch_end(self, state, logger):
            logger.log_metrics({"nan": torch.tensor(torch.nan), "inf": -math.inf, "one": 1.0}, state.timestamp.batch)

    trainer(loader(), callbacks=Strange(), save_folder=tmp_path).fit("1ba")

    last = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
    assert last == '{"step": 1, "nan": null, "inf": null, "one": 1.0}'


def written(folder, **settings):
    with trainer(loader(shuffle=True), loader(), 2, CutMix(), save_folder=folder, **settings) as fitted:
        fitted.fit()
    return (folder / "metrics.jsonl").read_bytes()


def test_metrics_are_flat_json_lines_that_repeat_to_the_byte(tmp_path):
    lines = written(tmp_path / "one")
    rows = [json.loads(line) for line in lines.splitlines()]

    assert lines == written(tmp_path / "two")
    assert [(row["step"], row["epoch"]) for row in rows] == [
        (1, 1),
        (2, 1),
        (3, 1),
        (3, 1),
        (4, 2),
        (5, 2),
        (6, 2),
        (6, 2),
    ]
    assert [set(row) - {"step", "epoch"} for row in rows if "eval/loss" in row] == [{"eval/loss", "eval/accuracy"}] * 2
    assert all(isinstance(value, int | float) for row in rows for value in row.values())


def test_timings_are_in_a_file_of_their_own(tmp_path):
    written(tmp_path)

    (row,) = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert (row["step"], row["epoch"]) == (6, 2)
    assert row["seconds"] > 0
    assert row["samples_per_second"] > 0


def test_a_timing_is_of_steps_and_the_last_one_is_of_the_whole_with_its_evaluation(tmp_path):
    class Sleep(Callback):
        def eval_start(self, state, logger):
            time.sleep(0.05)

    with trainer(loader(), loader(), callbacks=Sleep(), save_folder=tmp_path, eval_interval="1000ep") as fitted:
        for duration in ("120ba", "30ba"):
            fitted.fit(duration)

    rows = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [50, 100, 120, 150]
    assert all(row["samples_per_second"] > 0 for row in rows)
    assert rows[-1]["seconds"] > rows[-2]["seconds"] + 0.05


def test_a_folder_of_another_run_is_refused_before_training_and_left_alone(tmp_path):
    lines = written(tmp_path)
    model = network()

    with pytest.raises(
        ValueError, match=r"save_folder must hold no other run, got .* metrics.jsonl in it; name another"
    ):
        trainer(loader(), model=model, save_folder=tmp_path).fit()

    assert (tmp_path / "metrics.jsonl").read_bytes() == lines
    assert model[1].weight.equal(network()[1].weight)


def test_a_folder_is_made_when_training_starts_and_not_before(tmp_path):
    made = trainer(loader(), save_folder=tmp_path / "deep" / "run")
    assert not list(tmp_path.iterdir())

    made.fit()
    made.fit("1ba")

    assert len((tmp_path / "deep" / "run" / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_save_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")

    with pytest.raises(ValueError, match=r"save_folder must be a folder, .*taken cannot be one"):
        trainer(loader(), save_folder=tmp_path / "taken").fit()


@pytest.mark.parametrize("autoresume", [False, True])
def test_a_save_folder_whose_path_is_too_long_is_refused(tmp_path, autoresume):
    with pytest.raises(ValueError, match=r"save_folder must be a folder, .*long.* cannot be one: .*File name too long"):
        trainer(loader(), save_folder=tmp_path / ("long" * 100), autoresume=autoresume).fit()


def test_what_was_logged_before_an_error_is_written(tmp_path):
    class Fail(Callback):
        def batch_end(self, state, logger):
            if state.timestamp.batch == 2:
                raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        trainer(loader(), callbacks=Fail(), save_folder=tmp_path).fit()

    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_the_bar_shows_loss_accuracy_and_throughput_on_stderr(capsys):
    with trainer(loader(), loader(), 2, CutMix(), progress_bar=True) as fitted:
        fitted.fit()

    shown = capsys.readouterr()
    last = shown.err.rsplit("\r", 1)[-1]
    assert "No optimizers given: training with AdamW(lr=1e-3)." in shown.err
    assert "epoch 2: 100%" in last
    assert "6/6" in last
    for name in ("samples/s", "loss ", "mixed_accuracy ", "eval/loss ", "eval/accuracy "):
        assert name in last
    assert not shown.out


def test_everything_is_quiet_when_told_to_be(capsys):
    trainer(loader(), loader(), 2, CutMix(), progress_bar=False).fit()

    assert capsys.readouterr() == ("", "")


def test_the_default_optimizer_is_adamw():
    (optimizer,) = trainer(loader()).state.optimizers

    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_a_state_tells_the_time():
    fitted = trainer(loader())
    fitted.fit("2ba")

    assert (fitted.state.timestamp.batch, fitted.state.timestamp.sample, fitted.state.epoch) == (2, 8, 1)


def test_a_mixed_target_reaches_evaluation_only_to_be_refused():
    mixed = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4, collate_fn=CutMix().collate())

    with pytest.raises(ValueError, match="eval_dataloader must give plain targets, got a MixedTarget"):
        trainer(None, mixed).eval()


def test_batches_that_workers_have_mixed_are_trained_on():
    mixed = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4, collate_fn=CutMix().collate())
    last, rows = Last(), Rows()

    trainer(mixed, callbacks=last, loggers=rows, device_train_microbatch_size=2).fit()

    assert isinstance(last.target, MixedTarget)
    assert "train/mixed_accuracy" in rows.rows[-1]


def test_a_metric_is_handed_outputs_without_their_graph():
    class Outputs:
        seen = None

        def reset(self): ...

        def update(self, outputs, target):
            Outputs.seen = outputs

        def compute(self):
            return 0.0

    data = DataLoader(TensorDataset(torch.randn(4, 3), torch.arange(4) % 2), 4)
    Trainer(nn.Linear(3, 2), data, metrics={"outputs": Outputs()}, device="cpu", progress_bar=False).fit()
    assert not Outputs.seen.requires_grad
