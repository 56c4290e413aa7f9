"""The shape hook cannot be traced: what compiles runs without it, as ``make test`` does in a run of its own."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
NEEDS = "needs a run without the shape hook: pytest --override-ini addopts=--import-mode=importlib tests/graphs"


def pytest_collection_modifyitems(config, items):
    if config.getoption("jaxtyping_packages"):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=NEEDS))
