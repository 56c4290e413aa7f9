"""A folder is one trainer's."""

import os
import socket
import subprocess
import sys

import pytest

from cutmix.trainer.lock import locked

HOLD = """
import sys
from pathlib import Path
from cutmix.trainer.lock import locked
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
        code = f"from pathlib import Path; from cutmix.trainer.lock import locked\nwith locked(Path({str(tmp_path)!r})): pass"
        refused = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert f"process {os.getpid()} on" in refused.stderr


def test_a_folder_can_be_taken_again(tmp_path):
    for _ in range(2):
        with locked(tmp_path):
            pass
