"""The page for those who come from Composer says where each of its arguments went."""

import ast
import json
from pathlib import Path

import pytest

import composer_signatures as signatures
import composer_tables as tables
from cutmix.trainer.composer.arguments import LEFT_OUT, RENAMED

DOCS = Path(__file__).parents[1] / "docs"
SAVED = json.loads((DOCS / "composer_signatures.json").read_text())


@pytest.mark.parametrize("name", SAVED["signatures"]["Trainer"]["arguments"])
def test_each_argument_of_composers_trainer_is_the_same_here_or_renamed_or_left_out(name):
    assert tables.where(name) in ("same", "renamed", "left out")


def test_nothing_is_said_of_arguments_that_composer_does_not_have():
    known = SAVED["signatures"]["Trainer"]["arguments"].keys()

    assert {*RENAMED, *LEFT_OUT, *tables.SAME} <= known
    assert all(tables.where(name) == "same" for name in tables.SAME)
    assert {here for here, _ in RENAMED.values()} <= set(tables.arguments_of(tables.Trainer))


def test_the_tables_of_the_page_are_those_of_the_signatures():
    page = tables.PAGE.read_text(encoding="utf-8")

    assert tables.rewritten(page) == page
    assert all(f"| `{name}` |" in page for name in SAVED["signatures"]["Trainer"]["arguments"])


def test_a_signature_is_read_from_source_as_it_is_written(tmp_path):
    source = "class Other: ...\nclass Trainer:\n    def __init__(self, a, b=1, *, c, d: 'int' = 2.50, **e): ...\n"
    (tmp_path / "trainer.py").write_text(source)
    (tmp_path / "event.py").write_text("class Event(str):\n    '''Moments.'''\n    INIT = 'init'\n    END = 'end'\n")
    assert signatures.arguments(tmp_path / "trainer.py", "Trainer") == {
        "a": "required",
        "b": "1",
        "c": "required",
        "d": "2.5",
    }
    assert signatures.events(tmp_path / "event.py") == ["INIT", "END"]


def test_every_default_is_python():
    for signature in SAVED["signatures"].values():
        assert all(ast.parse(default, mode="eval") for default in signature["arguments"].values())
