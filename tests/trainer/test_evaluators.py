"""Several evaluations, each on its own data, at its own interval, under its own name."""

import pytest
import torch
from torch import nn

from cutmix.core import Callback, Logger
from cutmix.trainer import Evaluator, Trainer

IMAGES = torch.rand(24, 3, 6, 5, generator=torch.Generator().manual_seed(1))
BATCHES = [(images, torch.arange(4) % 2) for images in IMAGES.split(4)]
FEW, MANY = BATCHES[:1], BATCHES[1:4]


class Rows(Logger):
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, {name for name in metrics if name.startswith("eval/")}))

    def steps(self, label):
        return [step for step, names in self.rows if any(name.startswith(f"eval/{label}") for name in names)]


def trainer(evaluated, duration="2ep", **settings):
    model = nn.Sequential(nn.Flatten(), nn.Linear(90, 2))
    return Trainer(model, BATCHES, evaluated, duration, device="cpu", progress_bar=False, seed=1, **settings)


class Seen:
    """A measure of how many samples there were."""

    count = 0

    def update(self, outputs, target):
        self.count += len(target)

    def compute(self):
        return self.count

    def reset(self):
        self.count = 0


def test_figures_are_called_by_the_evaluator_s_name():
    rows = Rows()
    made = trainer({"val": MANY, "robust": FEW}, "1ep", loggers=rows, metrics={"seen": Seen()})
    made.fit()

    expected = [{f"eval/{label}/{name}" for name in ("loss", "accuracy", "seen")} for label in ("val", "robust")]
    assert [names for _, names in rows.rows if names] == expected
    assert set(made.state.eval_metrics) == expected[0] | expected[1]
    assert made.state.eval_metrics["eval/val/seen"] == 12
    assert made.state.eval_metrics["eval/robust/seen"] == 4


def test_a_single_one_has_no_name():
    assert set(trainer(MANY).eval()) == set(trainer(Evaluator(MANY)).eval()) == {"eval/loss", "eval/accuracy"}


def test_each_is_evaluated_at_its_own_interval_and_all_at_the_end_once():
    rows = Rows()
    evaluators = {
        "by-epoch": MANY,
        "by-batch": Evaluator(MANY, eval_interval="4ba"),
        "by-sample": Evaluator(MANY, eval_interval="20sp"),
        "rarely": Evaluator(MANY, eval_interval="10ep"),
        "never": Evaluator(MANY, eval_interval=0),
    }

    made = trainer(evaluators, loggers=rows)
    made.fit()

    assert {label: rows.steps(label) for label in evaluators} == {
        "by-epoch": [6, 12],
        "by-batch": [4, 8, 12],
        "by-sample": [5, 10, 12],
        "rarely": [12],
        "never": [],
    }
    assert made.state.evaluated == dict.fromkeys(["by-epoch", "by-batch", "by-sample", "rarely"], 12)


def test_all_are_evaluated_where_training_ends_within_an_epoch():
    rows = Rows()

    trainer({"one": MANY, "two": Evaluator(FEW, eval_interval="1ba")}, "2ba", loggers=rows).fit()

    assert (rows.steps("one"), rows.steps("two")) == ([2], [1, 2])


def test_all_are_evaluated_where_a_callback_stops_training():
    class Stop(Callback):
        def batch_end(self, state, logger):
            if state.timestamp.batch == 3:
                state.stop_reason = "enough"

    rows = Rows()
    made = trainer({"one": MANY, "two": Evaluator(FEW, eval_interval="3ba")}, loggers=rows, callbacks=Stop())
    made.fit()

    assert (rows.steps("one"), rows.steps("two"), made.state.timestamp.batch) == ([3], [3], 3)

    made.fit("1ba")  # somebody wants to go on

    assert (made.state.timestamp.batch, made.state.stop_reason) == (4, None)


def test_an_evaluator_may_have_metrics_and_a_subset_of_its_own():
    one, two = Seen(), Seen()
    evaluators = {
        "usual": MANY,
        "own": Evaluator(MANY, metrics={"mine": two}, subset_num_batches=-1),
    }
    measured = trainer(evaluators, metrics={"seen": one}, eval_subset_num_batches=2).eval()

    assert {name: count for name, count in measured.items() if name.endswith(("seen", "mine"))} == {
        "eval/usual/seen": 8,
        "eval/own/mine": 12,
    }


def test_at_its_end_an_evaluation_shows_its_own_figures_alone():
    class Ends(Callback):
        def __init__(self):
            self.seen = []

        def eval_end(self, state, logger):
            self.seen.append({name.split("/")[1] for name in state.eval_metrics})

    ends = Ends()
    trainer({"one": FEW, "two": MANY}, callbacks=ends).fit()

    assert ends.seen == [{"one"}, {"two"}] * 2


def test_other_data_is_evaluated_on_request_by_the_trainer_s_settings():
    made = trainer({"val": MANY}, metrics={"seen": Seen()})

    assert made.eval(FEW)["eval/seen"] == 4
    assert made.eval({"test": Evaluator(MANY, subset_num_batches=2)})["eval/test/seen"] == 8
    assert made.eval()["eval/val/seen"] == 12


@pytest.mark.parametrize(
    ("evaluated", "said"),
    [
        (lambda: [Evaluator(MANY)], r"eval_dataloader must hold evaluators by name, got a list of them; pass {'val'"),
        (lambda: {"a/b": MANY}, r"eval_dataloader must be named without a slash, got 'a/b'"),
        (lambda: {3: MANY}, r"eval_dataloader must be named without a slash, got 3"),
        (lambda: {"val": torch.utils.data.TensorDataset(IMAGES)}, r"eval_dataloader must give batches, got a Tensor"),
        (lambda: Evaluator(MANY, eval_interval="often"), r"eval_interval must be .* got 'often'"),
        (lambda: Evaluator(MANY, subset_num_batches=0), r"eval_subset_num_batches must be at least 1, got 0"),
    ],
)
def test_an_evaluator_of_nonsense_is_refused(evaluated, said):
    with pytest.raises((ValueError, TypeError), match=said):
        trainer(evaluated())
