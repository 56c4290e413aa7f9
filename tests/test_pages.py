"""The code in the README and the docs is run as it stands, page by page."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import update

ROOT = Path(__file__).parents[1]
COMPILED = ROOT / "docs" / "compile.md"  # run in tests/graphs, without the shape hook
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITHOUT_CODE = [ROOT / "docs" / "benchmarks.md"]


def code_of(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def what_readers_have():
    """The names that the pages take for granted: a model, data, a loss, an optimizer."""
    dataset = TensorDataset(torch.randn(64, 3, 8, 12), torch.arange(64) % 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(288, 4))
    images, labels = dataset[:8]
    return {
        "X": images,
        "y": labels,
        "masks": torch.zeros(8, 8, 12, dtype=torch.int64),
        "dataset": dataset,
        "eval_dataloader": DataLoader(dataset, batch_size=8),
        "loss_fn": F.cross_entropy,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01),
        "train_dataloader": DataLoader(dataset, batch_size=8, shuffle=True),
    }


def run(page):
    """Run a page's code from its first line to its last."""
    blocks = code_of(page)
    names = {"__name__": "__main__", **what_readers_have()}

    assert blocks
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in (COMPILED, *WITHOUT_CODE)], ids=lambda page: page.name
)
def test_the_code_in_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    run(page)


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_every_link_of_a_page_into_the_repository_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))

    assert all((page.parent / link).exists() for link in links)


@pytest.mark.parametrize("name", ["README.md", "docs/benchmarks.md", "docs/scale.md"])
def test_the_tables_of_a_page_are_those_of_the_results(name):
    page = (ROOT / name).read_text(encoding="utf-8")

    assert update.rewritten(page) == page
    assert page.count("| ---") + page.count("|---") >= 2
