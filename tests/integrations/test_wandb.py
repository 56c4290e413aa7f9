"""What the Weights & Biases logger hands to the real package, read from the file that it writes offline."""

import json
import math
import struct
import sys
from collections import defaultdict

import pytest
import torch
from torch import nn

from cutmix.core.logger import Loggers
from cutmix.trainer import Trainer

wandb = pytest.importorskip("wandb", reason='needs: pip install "cutmix[wandb]"')
from cutmix.integrations.wandb import WandB  # noqa: E402

BATCHES = [(torch.rand(4, 3, 6, 5), torch.arange(4) % 2)] * 3


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep wandb in a folder, quiet, and to itself."""
    for name, value in {"WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true", "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)
    wandb.teardown()  # it reads them once, which a test elsewhere may have let it do
    yield tmp_path
    wandb.teardown()


def records(file):
    """The records of wandb's file: blocks of 32 KiB, in which each chunk says its checksum, length and kind."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def parts(folder):
    """What each of the folders of a run holds, once wandb's own process has written all: the run and its rows."""
    wandb.teardown()
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime_ns):
        rows, run = defaultdict(dict), None
        for record in records(file):
            if record.HasField("run"):
                run = record.run
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                rows[record.history.step.num][name] = json.loads(item.value_json)
        yield (
            run,
            {
                step: {name: value for name, value in row.items() if not name.startswith("_")}
                for step, row in rows.items()
            },
        )


def test_the_figures_of_a_run_and_of_its_evaluations_are_all_there(folder):
    logger = WandB("flowers", name="first", config={"alpha": 1.0})
    model = nn.Sequential(nn.Flatten(), nn.Linear(90, 2))
    settings = {"device": "cpu", "progress_bar": False, "eval_dataloader": BATCHES, "max_duration": "2ep"}
    with Trainer(model, BATCHES, loggers=logger, **settings) as trainer:
        trainer.fit()
    ((run, rows),) = parts(folder)

    assert (run.project, run.display_name) == ("flowers", "first")
    assert {item.key: item.value_json for item in run.config.update}["alpha"] == "1.0"
    assert [step for step, row in rows.items() if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [step for step, row in rows.items() if "eval/accuracy" in row] == [3, 6]


def test_a_figure_that_is_no_number_or_infinite_is_kept_as_such(folder):
    logger = Loggers([WandB()])
    logger.log_metrics({"a/b/c": math.nan, "inf": torch.tensor(math.inf)}, 1)
    logger.flush()
    logger.flush()
    logger.close()
    ((_, rows),) = parts(folder)

    assert rows[1] == pytest.approx({"a/b/c": math.nan, "inf": math.inf}, nan_ok=True)


def test_after_a_resume_the_same_run_goes_on_from_its_last_step(folder):
    first = WandB()
    for step in range(1, 4):
        first.log_metrics({"train/loss": float(step)}, step)
    saved = dict(first.state_dict())
    first.close()
    second = WandB()
    second.load_state_dict(saved)
    second.log_metrics({"eval/loss": 30.0}, 3)
    second.log_metrics({"train/loss": 4.0}, 4)
    second.close()
    (one, before), (other, after) = parts(folder)

    assert one.run_id == other.run_id == saved["id"]
    assert list(before) == [1, 2, 3]
    assert after == {3: {"train/loss": 3.0, "eval/loss": 30.0}, 4: {"train/loss": 4.0}}


def test_a_run_that_was_stopped_goes_on_as_the_same_run_behind_its_checkpoint(folder):
    def train(**settings):
        model = nn.Sequential(nn.Flatten(), nn.Linear(90, 2))
        settings = {"device": "cpu", "progress_bar": False, "save_interval": "2ba", "seed": 1} | settings
        with Trainer(model, BATCHES, loggers=WandB(), save_folder=folder / "run", **settings) as trainer:
            trainer.fit()

    train(max_duration="5ba")
    with pytest.warns(UserWarning, match="1 checkpoint is later than ep1-ba4"):
        train(max_duration="6ba", load_path=folder / "run" / "checkpoints" / "ep1-ba4", autoresume=False)
    (one, before), (other, after) = parts(folder)

    assert one.run_id == other.run_id
    assert list(before) == [1, 2, 3, 4, 5]
    assert list(after) == [4, 5, 6]
    assert after[5]["train/loss"] == before[5]["train/loss"]


def test_steps_that_stand_there_already_are_passed_over(folder):
    logger = WandB()
    logger.open(0)
    logger._run._starting_step = 3
    for step in (2, 3):
        logger.write({"x": float(step)}, step)
    logger.shut()
    ((_, rows),) = parts(folder)

    assert rows == {3: {"x": 3.0}}


def test_a_logger_that_is_never_told_anything_starts_no_run(folder):
    logger = WandB()
    logger.load_state_dict(logger.state_dict())
    logger.flush()
    logger.close()

    assert not (folder / "wandb").exists()


def test_without_its_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r'^needs: pip install "cutmix\[wandb\]"$'):
        WandB()
