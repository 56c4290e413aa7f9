"""Runs functions of a module in several processes that find each other, as under a launcher.

The processes are forks of one that has imported everything, since to import it takes longer than the tests.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback

SECONDS = 300  # by then all is lost; a healthy run takes a tenth of it on two busy cores
HEAVY = ("torch.distributed.fsdp", "torch.distributed.tensor", "torchmetrics")


def run(module, size, *tasks):
    """Return what each rank's functions return, by their names; fail with what a rank said that failed."""
    command = [sys.executable, __file__, module, str(size), *tasks]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = started.communicate(timeout=SECONDS)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
    assert started.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def main(module, size, *tasks):
    for heavy in HEAVY:
        importlib.import_module(heavy)
    functions = [getattr(importlib.import_module(module), task) for task in tasks]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1]), "WORLD_SIZE": size}
    ranks = [_fork(rank, functions) for rank in range(int(size))]
    for _ in ranks:
        if os.wait()[1]:
            os.killpg(0, signal.SIGKILL)  # the others would wait for it
    print(json.dumps([_read(told) for told in ranks]))


def _fork(rank, functions):
    """Let a new process be a rank; return the file that it will have written."""
    told = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when the rank has ended
    if os.fork():
        return told
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        json.dump({function.__name__: function(rank) for function in functions}, told)
        told.flush()
    except BaseException:  # noqa: BLE001 - whatever it is, the others must not wait
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.exit()


def _read(told):
    told.seek(0)
    return json.load(told)


if __name__ == "__main__":
    main(*sys.argv[1:])
