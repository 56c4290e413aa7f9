"""Many processes train as one: the same samples, the same weights on each, the same numbers."""

import ast
from pathlib import Path

import cutmix
from cutmix.trainer.processes import join

SOURCES = Path(cutmix.__file__).parent


def test_one_file_talks_to_torch_distributed():
    def talks(node):
        match node:
            case ast.Import():
                return any(name.name.startswith("torch.distributed") for name in node.names)
            case ast.ImportFrom(module=module, names=names):
                return any(f"{module}.{name.name}".startswith("torch.distributed") for name in names)
            case ast.Attribute():
                return ast.unparse(node) == "torch.distributed"
        return False

    trees = {path.relative_to(SOURCES).as_posix(): ast.parse(path.read_text()) for path in SOURCES.rglob("*.py")}

    assert {name for name, tree in trees.items() if any(map(talks, ast.walk(tree)))} == {"trainer/processes.py"}


def test_without_a_launcher_a_world_is_of_one_process_that_hears_itself(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    world = join("cpu")

    assert (world.rank, world.size, world.local_rank) == (0, 1, 0)
    assert world.broadcast("a") == "a"
    assert world.gathered("a") == ["a"]
