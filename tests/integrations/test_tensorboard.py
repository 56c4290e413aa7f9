"""What the TensorBoard logger writes, as TensorBoard itself reads it."""

import math
import sys
import time

import pytest
import torch
from torch import nn

from cutmix.algorithms import CutMix
from cutmix.core import Callback
from cutmix.core.logger import Loggers
from cutmix.trainer import Trainer

tensorboard = pytest.importorskip("tensorboard", reason='needs: pip install "cutmix[tensorboard]"')
from cutmix.integrations.tensorboard import TensorBoard  # noqa: E402

BATCHES = [(torch.rand(4, 3, 6, 5), torch.arange(4) % 2)] * 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(90, 2))


def read(folder):
    """The figures of a folder, name by name, as TensorBoard shows them: (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    shown.Reload()
    return {tag: [(event.step, event.value) for event in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}


def trained(folder, batches, **settings):
    settings = {"device": "cpu", "progress_bar": False, "loggers": TensorBoard(folder), "seed": 1} | settings
    with Trainer(network(), batches, **settings) as trainer:
        trainer.fit()


def test_the_figures_of_a_run_and_of_its_evaluations_are_all_there(tmp_path):
    trained(tmp_path, BATCHES, eval_dataloader=BATCHES, max_duration="2ep", algorithms=CutMix())
    figures = read(tmp_path)

    assert [step for step, _ in figures["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in figures["eval/accuracy"]] == [3, 6]
    assert {"epoch", "train/mixed_accuracy", "train/mixed_accuracy_ceiling", "eval/loss"} <= figures.keys()


def test_a_figure_that_is_no_number_or_infinite_is_shown_as_such(tmp_path):
    logger = Loggers([TensorBoard(tmp_path)])
    logger.log_metrics({"a/b/c": math.nan, "inf": torch.tensor(math.inf)}, 1)
    logger.close()

    (step, value), *rest = read(tmp_path)["a/b/c"]
    assert (step, rest) == (1, [])
    assert math.isnan(value)
    assert read(tmp_path)["inf"] == [(1, math.inf)]


def test_what_is_flushed_is_there_before_the_end(tmp_path):
    logger = TensorBoard(tmp_path)
    for step in range(1, 5):
        logger.log_metrics({"x": step / 2}, step)
        logger.flush()
        logger.flush()
        assert read(tmp_path)["x"][-1] == (step, step / 2)
    logger.close()
    logger.close()


def test_after_a_resume_no_step_stands_twice(tmp_path):
    killed = TensorBoard(tmp_path)
    for step in range(1, 6):
        killed.log_metrics({"train/loss": float(step)}, step)
        if step == 3:
            killed.log_metrics({"eval/loss": 30.0}, step)
            killed.flush()
            saved = dict(killed.state_dict())
            killed.log_metrics({"eval/late": 31.0}, step)
    killed.flush()
    resumed = TensorBoard(tmp_path)
    resumed.load_state_dict(saved)
    resumed.log_metrics({"eval/late": 31.0}, 3)
    resumed.log_metrics({"train/loss": 4.0}, 4)
    resumed.close()

    assert read(tmp_path) == {
        "train/loss": [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)],
        "eval/loss": [(3, 30.0)],
        "eval/late": [(3, 31.0)],
    }
    killed.close()


def test_a_run_that_was_stopped_and_goes_on_is_shown_as_one_that_was_not(tmp_path):
    class Stop(Callback):
        def batch_end(self, state, logger):
            logger.flush()
            if state.timestamp.batch == 5:
                raise KeyboardInterrupt

    settings = {"eval_dataloader": BATCHES, "max_duration": "3ep", "save_interval": "2ba", "algorithms": CutMix()}
    trained(tmp_path / "whole", BATCHES, **settings)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", BATCHES, save_folder=tmp_path / "run", callbacks=Stop(), **settings)
    trained(tmp_path / "parts", BATCHES, save_folder=tmp_path / "run", autoresume=True, **settings)

    assert read(tmp_path / "parts") == read(tmp_path / "whole")


def test_what_another_run_wrote_is_hidden_by_a_new_one(tmp_path):
    for value in (1.0, 2.0):
        logger = TensorBoard(tmp_path)
        logger.log_metrics({"x": value}, 1)
        logger.close()
        time.sleep(1.0)  # files are read in the order of their names, which begin with the second

    assert read(tmp_path) == {"x": [(1, 2.0)]}


def test_a_logger_that_is_never_told_anything_writes_no_file(tmp_path):
    logger = TensorBoard(tmp_path / "runs")
    logger.load_state_dict(logger.state_dict())
    logger.flush()
    logger.close()

    assert not (tmp_path / "runs").exists()


def test_without_its_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r'^needs: pip install "cutmix\[tensorboard\]"$'):
        TensorBoard(tmp_path)
