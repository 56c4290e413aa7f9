"""What the project promises about itself."""

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import cutmix

ROOT = Path(__file__).parents[1]
LIGHT = {"cutmix", "jaxtyping", "numpy", "torch"}


def in_a_fresh_interpreter(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_cutmix_loads_nothing_heavy():
    loaded = in_a_fresh_interpreter(
        "import sys, torch; before = set(sys.modules); import cutmix;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )

    assert set(loaded) - set(sys.stdlib_module_names) <= LIGHT


def test_the_front_door_has_at_most_nine_names_and_they_are_all_there():
    assert len(cutmix.__all__) <= 9
    assert all(hasattr(cutmix, name) for name in cutmix.__all__)


def test_the_version_stands_in_one_place():
    citation = (ROOT / "CITATION.cff").read_text()

    assert cutmix.__version__ == version("cutmix")
    assert f"\nversion: {cutmix.__version__}\n" in citation


def test_the_card_runs_on_what_a_bare_install_brings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bare = {requirement.split(">")[0] for requirement in project["dependencies"]}
    loaded = in_a_fresh_interpreter(
        "import sys, torch; before = set(sys.modules);"
        "import cutmix.functional, cutmix.algorithms, cutmix.trainer;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )

    assert set(loaded) - set(sys.stdlib_module_names) - {"cutmix"} <= bare
