"""Several processes go on from a checkpoint as one does, whether their parameters are sharded or not."""

from pathlib import Path

import launched


def test_two_ranks_end_with_the_same_bytes_from_ddp_to_fsdp_and_back(tmp_path):
    said = launched.said(Path(__file__).with_name("ranks_that_go_on.py"), 2, tmp_path)

    assert all(text.endswith("the same\n") for text in said)
