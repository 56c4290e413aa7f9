"""Several processes go on from a checkpoint as one does, whether their parameters are sharded or not."""

import os
import socket
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("ranks_that_go_on.py")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def test_two_ranks_end_with_the_same_bytes_from_ddp_to_fsdp_and_back(tmp_path):
    port, ranks = free_port(), []
    for rank in range(2):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **{name: str(value) for name, value in told.items()}, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, SCRIPT, tmp_path]
        ranks.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    try:
        said = [rank.communicate(timeout=240)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()

    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)
    assert all(text.endswith("the same\n") for text in said)
