"""Runs a script in several processes that find each other, as under a launcher."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

SECONDS = 240  # by then all is lost; a healthy run takes a tenth of it on two busy cores


def run(script, size, *arguments):
    """Return what each rank has printed last, as JSON."""
    return [json.loads(out.splitlines()[-1]) for out in _outputs(script, size, arguments, subprocess.PIPE)]


def said(script, size, *arguments):
    """Return all that each rank has printed, and what it had to warn of."""
    return _outputs(script, size, arguments, subprocess.STDOUT)


def _outputs(script, size, arguments, errors):
    """Return what each rank prints; fail with what the ranks said when one of them fails."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    shared = {
        **os.environ,
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        heard = [rank.communicate(timeout=SECONDS) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert not any(rank.returncode for rank in ranks), "\n".join(err or out for out, err in heard)
    return [out for out, _ in heard]
