"""Read Composer's signatures and events out of its source, which is not imported, into ``composer_signatures.json``.

``python docs/composer_signatures.py FOLDER``, where FOLDER holds a checkout of Composer at a released version.
"""

import ast
import json
import sys
from pathlib import Path

READ = {
    "Trainer": "composer/trainer/trainer.py",
    "CutMix": "composer/algorithms/cutmix/cutmix.py",
    "MixUp": "composer/algorithms/mixup/mixup.py",
    "CutOut": "composer/algorithms/cutout/cutout.py",
    "LabelSmoothing": "composer/algorithms/label_smoothing/label_smoothing.py",
}
SAVED = Path(__file__).with_name("composer_signatures.json")
REQUIRED = "required"


def signatures(folder: Path) -> dict:
    """Return the arguments of each class with their defaults, as they are written, and where they were read."""
    version = _assigned(folder / "composer" / "_version.py", "__version__")
    return {
        "version": version,
        "source": f"https://github.com/mosaicml/composer/blob/v{version}/",
        "signatures": {
            name: {"path": path, "arguments": arguments(folder / path, name)} for name, path in READ.items()
        },
        "events": events(folder / "composer" / "core" / "event.py"),
    }


def arguments(file: Path, name: str) -> dict[str, str]:
    """Return the default of each argument that the class ``name`` is made with."""
    body = _class(file, name).body
    (init,) = (part for part in body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
    given, named = init.args.args[1:], init.args.kwonlyargs
    required = [None] * (len(given) - len(init.args.defaults))
    defaults = [*required, *init.args.defaults, *init.args.kw_defaults]
    return {
        argument.arg: REQUIRED if default is None else ast.unparse(default)
        for argument, default in zip([*given, *named], defaults, strict=True)
    }


def events(file: Path) -> list[str]:
    """List the names of the moments."""
    return [ast.unparse(part.targets[0]) for part in _class(file, "Event").body if isinstance(part, ast.Assign)]


def _class(file: Path, name: str) -> ast.ClassDef:
    (kind,) = (part for part in _parsed(file).body if isinstance(part, ast.ClassDef) and part.name == name)
    return kind


def _assigned(file: Path, name: str) -> str:
    (value,) = (
        part.value
        for part in _parsed(file).body
        if isinstance(part, ast.Assign) and [ast.unparse(target) for target in part.targets] == [name]
    )
    return ast.literal_eval(value)


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    SAVED.write_text(json.dumps(signatures(Path(sys.argv[1])), indent=1) + "\n", encoding="utf-8")
