"""Files made to run code when they are read are refused, and nothing of them is ever run."""

import ast
import gzip
import hashlib
import io
import json
import os
import pickle
import subprocess
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cutmix
from cutmix.trainer import Trainer, load_weights
from cutmix.trainer.checkpoints.checkpoint import Content, read, write

SOURCE = Path(cutmix.__file__).parent


class Call:
    """Is pickled as a call of ``function``, which whoever reads it makes."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def call(marker):
    return Call(os.mkdir, str(marker))


def raw(harm):
    return pickle.dumps(harm)


def saved(harm, **settings):
    file = io.BytesIO()
    torch.save(harm, file, **settings)
    return file.getvalue()


def archive(members, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return file.getvalue()


def array(harm):
    file = io.BytesIO()
    np.save(file, np.array([harm], dtype=object), allow_pickle=True)
    return file.getvalue()


def arrays(harm):
    file = io.BytesIO()
    np.savez(file, weight=np.array([harm], dtype=object))
    return file.getvalue()


def checkpoint_of_composer(**parts):
    return {"state": {"model": {"weight": torch.ones(1, 1), "bias": torch.ones(1)}, **parts}, "rng": []}


def old_tar_of_torch(harm):
    return archive({"sys_info": raw({}), "pickle": raw(harm), "storages": raw(0), "tensors": raw(0)})


def lines_of_old(marker):
    """The oldest protocol, written by hand."""
    return f"cos\nmkdir\n(V{marker}\ntR.".encode()


def built(marker):
    """A call hidden behind an object that is made first and filled after."""
    return b"\x80\x02ccollections\nOrderedDict\n)R" + lines_of_old(marker)[:-1] + b"b."


HARMFUL = {
    "pickle": lambda marker: raw(call(marker)),
    "pickle in a dict": lambda marker: raw({"weight": call(marker)}),
    "the oldest protocol": lines_of_old,
    "a state that is a call": built,
    "torch.save": lambda marker: saved(call(marker)),
    "torch.save, the old way": lambda marker: saved(call(marker), _use_new_zipfile_serialization=False),
    "one weight": lambda marker: saved({"weight": torch.ones(1, 1), "bias": call(marker)}),
    "one name": lambda marker: saved({"weight": torch.ones(1, 1), Named(str(marker)): torch.ones(1)}),
    "eval": lambda marker: saved({"weight": Call(eval, f"__import__('os').mkdir({str(marker)!r})")}),
    "exec": lambda marker: saved({"weight": Call(exec, f"import os; os.mkdir({str(marker)!r})")}),
    "a process": lambda marker: saved({"weight": Call(subprocess.check_call, ["mkdir", str(marker)])}),
    "numpy's own exec": lambda marker: saved(
        {"weight": Call(np.testing.runstring, f"import os; os.mkdir({str(marker)!r})", {})}
    ),
    "Composer's generators": lambda marker: saved({**checkpoint_of_composer(), "rng": [{"numpy": call(marker)}]}),
    "Composer's callbacks": lambda marker: saved(checkpoint_of_composer(callbacks={"Saver": call(marker)})),
    "Composer's times": lambda marker: saved(checkpoint_of_composer(timestamp={"total_wct": call(marker)})),
    "tar of torch": lambda marker: old_tar_of_torch(call(marker)),
    "tar of Composer": lambda marker: archive({"composer_states.pt": saved(call(marker))}),
    "tar.gz": lambda marker: archive({"composer_states.pt": saved(call(marker))}, "w:gz"),
    "gzip": lambda marker: gzip.compress(raw(call(marker))),
    "npy": lambda marker: array(call(marker)),
    "npz": lambda marker: arrays(call(marker)),
    "a TorchScript archive": lambda marker: zipped(
        {"a/data.pkl": raw(call(marker)), "a/constants.pkl": raw(call(marker)), "a/version": b"3"}
    ),
}


class Named(str):
    """A name that is pickled as a call that returns nothing of use."""

    __slots__ = ()

    def __reduce__(self):
        return os.mkdir, (str(self),)


CARELESS = {
    "pickle": pickle.loads,
    "torch.save": lambda data: torch.load(io.BytesIO(data), weights_only=False),
    "npy": lambda data: np.load(io.BytesIO(data), allow_pickle=True),
    "npz": lambda data: dict(np.load(io.BytesIO(data), allow_pickle=True)),
    "gzip": lambda data: pickle.loads(gzip.decompress(data)),
}
READERS = {
    "pickle in a dict": "pickle",
    "the oldest protocol": "pickle",
    "a state that is a call": "pickle",
    "torch.save, the old way": "torch.save",
    "tar of torch": None,
    "tar of Composer": None,
    "tar.gz": None,
    "a TorchScript archive": None,
}


@pytest.mark.parametrize("name", [name for name in HARMFUL if READERS.get(name, name) is not None])
def test_the_files_do_harm_to_a_careless_reader(name, tmp_path):
    marker = tmp_path / "marker"
    reader = READERS.get(name, name)
    careless = CARELESS.get(reader, CARELESS["torch.save"])

    with suppress(TypeError, AttributeError, ValueError):  # the harm is done before
        careless(HARMFUL[name](marker))

    assert marker.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".tar", ""])
@pytest.mark.parametrize("harm", HARMFUL.values(), ids=HARMFUL)
def test_a_harmful_file_is_refused_under_any_name(harm, suffix, tmp_path):
    marker, path, model = tmp_path / "marker", tmp_path / f"weights{suffix}", nn.Linear(1, 1)
    path.write_bytes(harm(marker))
    before = [parameter.clone() for parameter in model.parameters()]

    with pytest.raises(
        ValueError, match=r"path must be a (file that torch's safe loader reads|whole safetensors file), got"
    ):
        load_weights(model, path)

    assert not marker.exists()
    assert all(map(torch.equal, model.parameters(), before))


@pytest.mark.parametrize("harm", HARMFUL.values(), ids=HARMFUL)
def test_a_harmful_file_is_no_checkpoint(harm, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "ep1-ba9"
    path.write_bytes(harm(marker))

    for go_on in [lambda: read(path), lambda: Trainer(nn.Linear(1, 1), [], load_path=path, progress_bar=False)]:
        with pytest.raises(ValueError, match="ep1-ba9 must be a folder"):
            go_on()

    assert not marker.exists()


@pytest.mark.parametrize("name", ["state.json", "weights.safetensors", "training.safetensors"])
@pytest.mark.parametrize("harm", HARMFUL.values(), ids=HARMFUL)
def test_a_harmful_file_in_a_checkpoint_is_refused_even_where_its_digest_is_right(harm, name, tmp_path):
    marker, folder = tmp_path / "marker", tmp_path / "ep1-ba9"
    write(folder, Content({"weights": {"weight": torch.ones(1)}, "training": {}}, {}))
    data = harm(marker)
    (folder / name).write_bytes(data)
    fields = json.loads((folder / "manifest.json").read_text())
    del fields["sha256"]
    fields["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    seal = hashlib.sha256(json.dumps(fields, indent=1).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**fields, "sha256": seal}, indent=1))

    with pytest.raises(ValueError, match=f"ep1-ba9/{name} must hold what this library writes"):
        read(folder)

    assert not marker.exists()


# What the source itself must not do.

READS_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "pandas"}
RUNS_TEXT = {"eval", "exec", "__import__"}


def imported(node):
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return {name.split(".")[0] for name in names}


def dangers_in(source):
    """What in ``source`` would run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom) and imported(node) & READS_CODE:
            yield f"line {node.lineno}: imports {imported(node) & READS_CODE}"
        if isinstance(node, ast.Call):
            called, settings = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            is_safe = settings.get("weights_only") == "True"
            if called in RUNS_TEXT or called in ("torch.jit.load", "torch.hub.load"):
                yield f"line {node.lineno}: calls {called}"
            if (called == "torch.load" or "weights_only" in settings) and not is_safe:
                yield f"line {node.lineno}: loads without weights_only=True"
            if settings.get("allow_pickle", "False") != "False":
                yield f"line {node.lineno}: allows pickles"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_of_the_library_runs_what_it_reads(path):
    assert not list(dangers_in(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import dill as json",
        "def f():\n    import shelve",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=careful)",
        "load(path, weights_only=False)",
        "torch.jit.load(path)",
        "eval(text)",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_what_would_run_what_it_reads_is_found(source):
    assert list(dangers_in(source))
