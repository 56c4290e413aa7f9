"""A checkpoint is there as a whole or not at all, and proves what it holds."""

import torch

from cutmix.core.time import Timestamp
from cutmix.trainer.checkpoint import Content, checkpoints, name_for, newest, read, write


def content(number=1.0):
    return Content({"weights": {"layer": torch.full((2, 3), number)}, "training": {}}, {"batch": number})


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "runs" / "ep0-ba3", content(2.5))

    found = read(tmp_path / "runs" / "ep0-ba3")
    assert found.values == {"batch": 2.5}
    assert found.tensors.keys() == {"weights", "training"}
    assert torch.equal(found.tensors["weights"]["layer"], torch.full((2, 3), 2.5))


def test_the_newest_is_the_one_with_most_batches_then_epochs(tmp_path):
    for time in [Timestamp(1, 10), Timestamp(0, 9), Timestamp(0, 10), Timestamp(0, 2)]:
        write(tmp_path / name_for(time), content())

    assert [path.name for path in checkpoints(tmp_path)] == ["ep0-ba2", "ep0-ba9", "ep0-ba10", "ep1-ba10"]
    assert newest(tmp_path) == tmp_path / "ep1-ba10"
    assert newest(tmp_path / "nowhere") is None
