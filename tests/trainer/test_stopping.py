"""When training ends early: after so many evaluations without a gain, cleanly, and saying why."""

import copy

import pytest
import torch
from torch import nn

from cutmix.core import Callback
from cutmix.trainer import EarlyStopping, Evaluator, Trainer
from cutmix.trainer.checkpoints.snapshot import capture, restore

BATCHES = [(torch.rand(4, 3, 6, 5), torch.arange(4) % 2) for _ in range(4)]


class Scripted:
    """A metric that gives these values, one an evaluation."""

    def __init__(self, values):
        self.values = list(values)

    def update(self, outputs, target):
        pass

    def compute(self):
        return self.values.pop(0) if self.values else 0.0

    def reset(self):
        pass


def trainer(values, *callbacks, evaluated=BATCHES[:1], duration=20, **settings):
    model = nn.Sequential(nn.Flatten(), nn.Linear(90, 2))
    settings = {"device": "cpu", "progress_bar": False, "seed": 3, **settings}
    # Train metrics are a copy of these, and so take nothing away from the script.
    return Trainer(
        model, BATCHES, evaluated, duration, callbacks=[*callbacks], metrics={"score": Scripted(values)}, **settings
    )


def stopped(values, *, duration=20, **settings):
    """Return the epoch after which training stopped."""
    made = trainer(values, EarlyStopping("eval/score", **settings), duration=duration)
    made.fit()
    return made.state.timestamp.epoch


@pytest.mark.parametrize(
    ("values", "settings", "epoch"),
    [
        ([3, 2, 1, 1, 1, 1], {"patience": 2}, 5),
        ([3, 2, 2, 1, 1, 1], {"patience": 2}, 6),
        ([3, 4], {"patience": 1}, 2),
        ([1, 2, 3, 3, 2], {"patience": 2, "mode": "max"}, 5),
        ([1.0, 0.95, 0.9, 0.85], {"patience": 2, "min_delta": 0.2}, 3),
        ([1.0, 0.95, 0.75, 0.7, 0.6], {"patience": 2, "min_delta": 0.2}, 5),
        ([float("nan")] * 4, {"patience": 3}, 3),
        ([2.0, float("nan"), 1.0, float("nan"), 1.0], {"patience": 2}, 5),
        (range(20, 0, -1), {"patience": 1}, 20),
    ],
)
def test_training_stops_after_so_many_evaluations_without_a_gain(values, settings, epoch):
    assert stopped(values, **settings) == epoch


def test_training_says_why_it_stopped(capsys):
    made = trainer([3.25, 4.0, 5.0], EarlyStopping("eval/score", 2), progress_bar=True)
    made.fit()

    reason = "eval/score was 3.25 at its best, and no better in 2 evaluations since"
    assert made.state.stop_reason == reason
    assert f"Training stopped early: {reason}." in capsys.readouterr().err


class Moments(Callback):
    def __init__(self):
        self.seen = []

    def batch_checkpoint(self, state, logger):
        self.seen.append(("batch", state.timestamp.batch, state.stop_reason is None))

    def epoch_checkpoint(self, state, logger):
        self.seen.append(("epoch", state.timestamp.batch, state.stop_reason is None))

    def fit_end(self, state, logger):
        self.seen.append(("end", state.timestamp.batch, state.stop_reason is None))


@pytest.mark.parametrize(
    ("interval", "last"),
    [
        ("3ba", [("batch", 6, False), ("end", 6, False)]),
        ("2ba", [("batch", 4, False), ("epoch", 4, False), ("end", 4, False)]),
        ("1ep", [("batch", 8, True), ("epoch", 8, False), ("end", 8, False)]),
    ],
)
def test_the_step_is_ended_and_may_be_saved_before_training_stops(interval, last):
    moments = Moments()

    trainer([1, 2], EarlyStopping("eval/score", 1), moments, eval_interval=interval).fit()

    assert moments.seen[-len(last) :] == last


def test_of_several_evaluators_the_one_that_is_named_counts():
    values = {"val": [3, 2, 1, 1], "robust": [1, 2, 3, 4, 5, 6, 7, 8]}
    evaluators = {
        "robust": Evaluator(BATCHES[:1], eval_interval="2ba", metrics={"score": Scripted(values["robust"])}),
        "val": Evaluator(BATCHES[:1], metrics={"score": Scripted(values["val"])}),
    }

    made = trainer([], EarlyStopping("eval/val/score", 1), evaluated=evaluators)
    made.fit()

    assert made.state.timestamp.epoch == 4


def test_an_evaluation_beside_training_does_not_count():
    stopping = EarlyStopping("eval/score", 2)
    made = trainer([1, 2, 9, 9, 9, 1.5, 0.5], stopping)
    for _ in range(2):
        made.fit("1ep")
    for _ in range(3):
        made.eval()
    made.fit("1ep")

    assert made.state.stop_reason is not None
    assert stopping.state_dict() == {"best": 1, "waited": 2, "seen": 12}


def test_who_trains_on_after_a_stop_is_stopped_again_at_once():
    made = trainer([1, 2, 3], EarlyStopping("eval/score", 1))
    made.fit()
    made.fit("1ep")

    assert made.state.timestamp.epoch == 2
    assert made.state.stop_reason


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_resumed_run_stops_where_it_would_have(at):
    script = [3, 2, 2, 2]

    class Interrupted(Callback):
        def epoch_checkpoint(self, state, logger):
            if state.timestamp.epoch == at:
                self.kept = copy.deepcopy(capture(state))

    whole = trainer(script, EarlyStopping("eval/score", 2), Interrupted())
    whole.fit()
    again = trainer(script[at:], EarlyStopping("eval/score", 2), Interrupted())
    restore(whole.state.callbacks[2].kept, again.state)
    again.fit()

    assert whole.state.timestamp.epoch == again.state.timestamp.epoch == 4
    assert again.state.stop_reason == whole.state.stop_reason


@pytest.mark.parametrize(
    ("metric", "settings", "said"),
    [
        ("val/loss", {}, r"metric must be a figure that is measured in training, of eval, got 'val/loss'; pass eval_"),
        ("eval/loss", {"evaluated": None}, r"metric must be a figure .*, of none, got 'eval/loss'"),
        ("eval/loss", {"eval_interval": 0}, r"metric must be a figure .*, of none, got 'eval/loss'"),
        ("eval/loss", {"evaluated": {"val": BATCHES}}, r"metric must be a figure .*, of eval/val, got 'eval/loss'"),
        ("eval/f1", {}, r"metric must be one of eval/loss, eval/accuracy, eval/score, got 'eval/f1'"),
    ],
)
def test_a_figure_that_nobody_measures_is_refused(metric, settings, said):
    with pytest.raises(ValueError, match=said):
        trainer([], EarlyStopping(metric, 1), **settings).fit()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patience": 0}, r"patience must be at least 1, got 0"),
        ({"patience": "3ep"}, r"patience must be at least 1, got '3ep'; it counts evaluations"),
        ({"patience": 1, "min_delta": -1}, r"min_delta must be at least 0, got -1"),
        ({"patience": 1, "mode": "low"}, r"mode must be 'min' or 'max', got 'low'"),
    ],
)
def test_stopping_for_nonsense_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        EarlyStopping("eval/loss", **settings)
