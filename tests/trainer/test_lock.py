"""A folder is one trainer's."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from cutmix.core import Callback, Logger
from cutmix.trainer import Trainer
from cutmix.trainer.checkpoints.lock import locked

HOLD = """
import sys
from pathlib import Path
from cutmix.trainer.checkpoints.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    {then}
"""


def holder(folder, then):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(then=then), folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_the_first_is_named(tmp_path):
    with holder(tmp_path, "sys.stdin.read()") as process:
        named = f"process {process.pid} on {socket.gethostname()} .* since 2.*; name"
        with pytest.raises(ValueError, match=named), locked(tmp_path):
            pass
        process.stdin.close()

    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / "trainer.lock").read_text()


def test_the_lock_of_a_killed_process_is_no_obstacle_though_its_children_live(tmp_path):
    with holder(tmp_path, "import os; os.fork() or sys.stdin.read(); sys.stdin.read()") as process:
        process.kill()
        process.wait()

        with locked(tmp_path):
            process.stdin.close()


def test_a_second_trainer_of_one_process_is_refused_and_the_lock_stays(tmp_path):
    with locked(tmp_path):
        with pytest.raises(ValueError, match="another trainer of this process"), locked(tmp_path):
            pass
        code = f"from pathlib import Path; from cutmix.trainer.checkpoints.lock import locked\nwith locked(Path({str(tmp_path)!r})): pass"
        refused = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert f"process {os.getpid()} on" in refused.stderr


def test_a_folder_can_be_taken_again(tmp_path):
    for _ in range(2):
        with locked(tmp_path):
            pass


@pytest.mark.parametrize("act", [lambda one: one.fit("1ep"), lambda one: one.eval(), lambda one: one.save_checkpoint()])
def test_a_trainer_that_is_refused_leaves_the_log_of_the_other_alone(act, tmp_path):
    def trainer():
        batches = [(torch.rand(4, 6), torch.arange(4) % 3)] * 4
        settings = {"device": "cpu", "progress_bar": False, "seed": 0, "save_folder": tmp_path, "autoresume": True}
        return Trainer(nn.Linear(6, 3), batches, batches, **settings)

    trainer().fit()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("a step behind the checkpoint\n")
    written = (tmp_path / "metrics.jsonl").read_text()
    other = trainer()

    with locked(tmp_path), pytest.raises(ValueError, match="this trainer's alone"):
        act(other)
    assert (tmp_path / "metrics.jsonl").read_text() == written
    other.fit("1ep")
    assert "a step behind" not in (tmp_path / "metrics.jsonl").read_text()


class Acting(Logger):
    """Takes down when it is asked to act."""

    def __init__(self):
        self.acts = []

    def log_metrics(self, metrics, step):
        self.acts.append(("log", step))

    def flush(self):
        self.acts.append(("flush",))

    def state_dict(self):
        return {"state": 1}

    def load_state_dict(self, state):
        self.acts.append(("load", state))


class Counting(Callback):
    """Logs when the trainer is made."""

    def init(self, state, logger):
        logger.log_metrics({"parameters": 21}, 0)


def test_what_is_logged_and_gone_on_with_waits_until_the_folder_is_held(tmp_path):
    def trainer():
        batches = [(torch.rand(4, 6), torch.arange(4) % 3)] * 4
        settings = {"save_folder": tmp_path, "autoresume": True, "loggers": Acting(), "callbacks": Counting()}
        made = Trainer(nn.Linear(6, 3), batches, device="cpu", progress_bar=False, seed=0, **settings)
        return made, settings["loggers"].acts

    first, acts = trainer()
    first.fit()
    assert acts[:2] == [("log", 0), ("log", 1)]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("a step behind the checkpoint\n")
    written = (tmp_path / "metrics.jsonl").read_text()
    refused, acts = trainer()
    with locked(tmp_path), pytest.raises(ValueError, match="this trainer's alone"):
        refused.fit("1ep")
    refused.close()
    assert acts == []
    assert (tmp_path / "metrics.jsonl").read_text() == written

    second, acts = trainer()
    second.fit("1ep")
    assert acts[:3] == [("load", {"state": 1}), ("log", 0), ("log", 5)]
    assert acts.count(acts[0]) == 1


def test_who_trains_may_measure_and_save_meanwhile(tmp_path):
    class Busy(Callback):
        def epoch_end(self, state, logger):
            trainer.eval()
            trainer.save_checkpoint()

    batches = [(torch.rand(4, 6), torch.arange(4) % 3)] * 2
    settings = {"device": "cpu", "progress_bar": False, "seed": 0, "save_folder": tmp_path, "callbacks": Busy()}
    trainer = Trainer(nn.Linear(6, 3), batches, batches, "2ep", **settings)
    trainer.fit()

    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "trainer.lock").mkdir()

    refusal = "save_folder must be a folder that can be written to, got .*: Is a directory"
    with pytest.raises(ValueError, match=refusal), locked(tmp_path):
        pass
