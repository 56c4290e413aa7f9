"""The page about one's own algorithms and callbacks is true: its code is run."""

import json
import re
from pathlib import Path

import torch

from cutmix.core import Event

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


def test_the_page_s_code_runs_and_does_what_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}

    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(code, "extending.md", "exec"), names)

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line]
    watched = [row for row in rows if "rate" in row]
    assert [row["step"] for row in watched] == list(range(1, 11))
    assert all(0.0 <= row["kept"] <= 1.0 for row in watched)
    assert len({row["kept"] for row in watched}) > 1


def test_the_page_s_algorithm_leaves_the_data_alone_and_repeats():
    names = {}
    exec(re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[1], names)
    state = names["State"](model=None, loss_fn=None, device=torch.device("cpu"), seed=3)
    images = torch.ones(4, 3, 6, 5)
    brightness = names["Brightness"](spread=0.5)

    results = []
    for _ in range(2):
        state.batch = (images, None)
        brightness.apply(Event.AFTER_DATALOADER, state, None)
        results.append(state.batch[0])

    assert images.eq(1).all()
    assert results[0].equal(results[1])
    assert len(results[0][:, 0, 0, 0].unique()) == 4


def test_the_page_names_every_moment():
    assert {name for name in Event.__members__ if f"`{name}`" not in PAGE} == set()
