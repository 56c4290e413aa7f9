"""Real launches of a tiny script in two processes."""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from cutmix.__main__ import main
from cutmix.cli.compare import compare
from cutmix.cli.launch import Rendezvous, exit_code, launch, program_for, set_apart
from cutmix.core.world import World
from cutmix.runs.settings import Task

SCRIPT = """
import os, pathlib, signal, sys, time

def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())  # at once: two processes write

def end(number, frame):
    say("saved")
    sys.exit(128 + number)

wish, rank, attempt = sys.argv[1], os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
if wish == "waits":
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
if wish == "is stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
say(rank, os.environ["WORLD_SIZE"], os.environ["OMP_NUM_THREADS"], os.getpid(), *sys.argv[2:])
other = pathlib.Path(__file__).with_suffix(f".{attempt}")
if rank == "0":
    other.touch()
elif wish in ("fails", "is killed", "is killed once"):
    while not other.exists():
        time.sleep(0.01)
    if wish == "fails":
        sys.exit(3)
    if wish == "is killed" or attempt == "0":
        os.kill(os.getpid(), signal.SIGKILL)
if wish != "ends" and attempt == "0":
    time.sleep(60)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


@pytest.fixture
def launched():
    """Yield a function that launches; what it has started is gone in the end."""
    started = []

    def launch(*arguments):
        command = [sys.executable, "-W", "error", "-m", "cutmix", "launch", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(job)
        return job

    yield launch
    for job in started:
        job.kill()
        job.communicate()


def running(job):
    """Wait until both processes have said who they are, and return their process numbers."""
    return [int(job.stdout.readline().split()[3]) for _ in range(2)]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for nothing"
        time.sleep(0.05)


def test_a_script_runs_once_a_rank_with_its_own_arguments(script, launched):
    out, err = (job := launched("-n", "2", script, "ends", "-n", "7", "--lr=3", "--help")).communicate(timeout=120)

    assert (job.returncode, err) == (0, "")
    words = sorted(line.split() for line in out.splitlines())
    assert [[*line[:3], *line[4:]] for line in words] == [
        [rank, "2", "1", "-n", "7", "--lr=3", "--help"] for rank in "01"
    ]


@pytest.mark.parametrize(("given", "threads"), [({}, "4"), ({"OMP_NUM_THREADS": "7"}, "7")])
def test_threads_are_shared_out_among_the_processes_unless_they_are_said(given, threads, script, monkeypatch):
    environment = {"LOGLEVEL": "ERROR", **given}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(runpy, "run_module", lambda *_, **__: None)

    assert launch((script,), Rendezvous(), processes=2)() == 0
    assert environment["OMP_NUM_THREADS"] == threads
    assert environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"


@pytest.mark.parametrize(("wish", "code"), [("fails", 3), ("is killed", 137)])
def test_the_job_ends_as_the_rank_that_failed_and_the_others_are_gone(wish, code, script, launched):
    job = launched("-n", "2", script, wish)
    pids = running(job)

    assert job.wait(60) == code
    assert not any(map(alive, pids))
    assert "Traceback" not in job.stderr.read()


@pytest.mark.parametrize(("blow", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_every_rank_which_may_save_and_is_the_exit_code(blow, code, script, launched):
    job = launched("-n", "2", script, "waits")
    pids = running(job)
    job.send_signal(blow)

    assert job.wait(60) == code
    assert not any(map(alive, pids))
    assert job.stdout.read() == "saved\nsaved\n"
    assert job.stderr.read() == ""


def test_ranks_that_do_not_end_in_time_are_killed(script, launched):
    job = launched("-n", "2", "--grace", "1", script, "is stubborn")
    pids = running(job)
    job.send_signal(signal.SIGTERM)

    assert job.wait(60) == 143
    assert not any(map(alive, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has gone")
def test_ranks_save_and_end_when_the_launcher_is_killed(script, launched):
    job = launched("-n", "2", script, "waits")
    pids = running(job)
    job.kill()

    until(lambda: not any(map(alive, pids)))
    assert job.stdout.read() == "saved\nsaved\n"


def test_a_job_whose_rank_was_killed_starts_anew_as_often_as_is_allowed(script, launched):
    out, err = (job := launched("-n", "2", "--max-restarts", "1", script, "is killed once")).communicate(timeout=120)

    assert job.returncode == 0
    assert len(out.splitlines()) == 4
    assert err.count("failed") == 1


def test_two_machines_meet_at_the_endpoint(script, launched, free_port):
    shared = ["-n", "1", "--nodes", "2", "--rdzv-endpoint", f"localhost:{free_port}"]
    jobs = [launched(*shared, "--node-rank", rank, script, "ends") for rank in "10"]

    said = [job.communicate(timeout=120) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert sorted(out.split()[0] for out, _ in said) == ["0", "1"]
    assert {out.split()[1] for out, _ in said} == {"2"}


@pytest.fixture
def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("module", [{"module": False}, {"module": True}])
def test_cutmix_itself_is_launched_as_a_module(module):
    assert program_for(["cutmix", "train"], **module) == [sys.executable, "-u", "-m", "cutmix", "train"]


@pytest.fixture
def pictures(tmp_path):
    for name, red in (("dark", 20), ("light", 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (red + 5 * number, 100, 10 * number)).save(
                tmp_path / "pictures" / name / f"{number}.png"
            )
    return str(tmp_path / "pictures")


def test_under_plain_torchrun_one_rank_of_train_speaks_and_writes(pictures, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    train = ["cutmix", "train", "--data", pictures, "--batch-size", "2", "--max-duration", "1ep"]
    command = [*torchrun, *train, "--algorithms", "cutmix", "--save-folder", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("everything is in") == done.stdout.count("2 classes") == 1
    assert {file.name for file in (tmp_path / "run").iterdir()} >= {"metrics.jsonl", "weights.safetensors", "mixed.png"}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert (config["processes"], config["steps"]) == (2, 3)
    assert steps == [1, 2, 3, 3]


def test_sharded_weights_are_written_whole(pictures, tmp_path, launched):
    train = ["cutmix", "train", "--data", pictures, "--batch-size", "2", "--max-duration", "2ba", "--quiet"]
    for way in ("ddp", "fsdp"):
        job = launched("-n", "2", *train, "--parallelism", way, "--save-folder", str(tmp_path / way))
        assert job.wait(120) == 0

    ddp, fsdp = ((tmp_path / way / "weights.safetensors").read_bytes() for way in ("ddp", "fsdp"))
    assert ddp == fsdp


def test_what_train_refuses_is_said_once_and_ends_the_job_with_2(tmp_path, launched):
    job = launched("-n", "2", "cutmix", "train", "--data", str(tmp_path / "nowhere"), "--save-folder", "run")
    out, err = job.communicate(timeout=120)

    assert (job.returncode, out) == (2, "")
    (said,) = [line for line in err.splitlines() if "exitcode" not in line]
    assert said.startswith("cutmix: data must be a folder of class folders")
    assert said.endswith("nowhere': there is no such file or folder")


def test_compare_which_starts_its_own_processes_is_refused_under_a_launcher(monkeypatch):
    monkeypatch.setitem(compare.__globals__, "join", lambda: World(rank=0, size=2))

    with pytest.raises(ValueError, match="compare starts processes of its own, got a launcher with 2"):
        compare(Task(data="openmoji"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "command must be a script and its arguments, got none"),
        (["-n", "2"], "command must be a script and its arguments, got none"),
        (["-n", "2", "no_such.py"], "command must be a script, got 'no_such.py', which is no file"),
        (["-n", "0", "cutmix"], "processes must be 1 or more, got 0"),
        (["-n", "two", "cutmix"], "Error parsing -n/--processes"),
        (["--max-restarts=-1", "cutmix"], "max_restarts must be 0 or more, got -1"),
        (["--grace", "0", "cutmix"], "grace must be 1 or more, got 0"),
        (["--frob", "3", "cutmix"], "Unrecognized options: --frob"),
        (["--nodes", "0", "cutmix"], "nodes must be 1 or more, got 0"),
        (["--nodes", "2", "cutmix"], "rdzv_endpoint must say where 2 nodes meet, got none"),
        (["--rdzv-endpoint", "host:1", "cutmix"], "nodes must say how many meet at host:1, got none"),
        (["--nodes", "2", "--rdzv-endpoint", "host:1", "--node-rank", "2", "cutmix"], "node_rank must lie in [0, 2)"),
    ],
)
def test_a_launch_that_cannot_be_is_one_line(arguments, complaint, capsys):
    assert main(["launch", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"cutmix: {complaint}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["-n", "2", "script.py", "-n", "3"], 2),
        (["-n2", "script.py", "--lr", "3"], 1),
        (["--processes=2", "script.py"], 1),
        (["-n", "2", "-m", "module", "--lr", "3"], 3),
        (["-n", "2", "--", "--odd.py"], 2),
        (["--help"], 1),
        (["-n"], 1),
    ],
)
def test_options_of_the_command_are_its_own(arguments, options):
    assert set_apart(arguments) == [
        *arguments[:options], "--", *(word for word in arguments[options:] if word != "--"),
    ]  # fmt: skip


def test_an_error_that_is_no_rank_s_has_no_exit_code():
    assert exit_code(RuntimeError("the machines did not meet")) is None
