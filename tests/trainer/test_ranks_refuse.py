"""What stands in the way on rank 0, which alone writes, is raised on all ranks: none waits for one that is gone."""

from pathlib import Path

import pytest

from launched import run

REFUSALS = {
    "another run's file": ("ValueError", "save_folder must hold no other run"),
    "held": ("ValueError", "save_folder must be this trainer's alone"),
    "no folder": ("ValueError", "save_folder must be a folder"),
    "a log that is cut": ("ValueError", "bytes that its checkpoint tells of"),
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return run(Path(__file__).with_name("ranks_that_are_refused.py"), 2, tmp_path_factory.mktemp("runs"))


def test_an_error_that_other_ranks_could_not_read_reaches_them_by_its_text(ranks):
    first, second = (told["what no other rank knows"] for told in ranks)

    assert second == ["StrangeError", "a log of another kind on 1", [0, 1]]
    assert first == ["RuntimeError", "rank 1 has met StrangeError: a log of another kind on 1", [0, 1]]


@pytest.mark.parametrize("what", REFUSALS)
def test_a_run_that_cannot_start_is_refused_on_all_ranks(ranks, what):
    kind, words = REFUSALS[what]
    first, second = (told[what] for told in ranks)

    assert first == second
    assert first[0] == kind
    assert words in first[1]
    assert first[2] == [0, 1]
