"""Checkpoints that were damaged, that lie, or that are of another run."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cutmix.trainer.checkpoints.checkpoint import Content, checkpoints, newest, read, write
from cutmix.trainer.checkpoints.manifest import Listed, Manifest
from cutmix.trainer.checkpoints.weights import load_weights
from reliability.job import Job, network
from reliability.runs import check_same, copy_of_undisturbed, finish, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from reliability.checking import Attempt

CUTS: dict[str, Callable[[bytes], bytes]] = {
    "0": lambda _: b"",
    "1": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "size - 1": lambda data: data[:-1],
}


def cut(attempt: Attempt) -> None:
    """Cut each file of the newest checkpoint: it is refused by name, the one before is used, with the same end."""
    shorten = CUTS[attempt.one_of(CUTS)]
    names = sorted(file.name for file in checkpoints(undisturbed().checkpoints)[-1].iterdir())
    for name in names:
        job = copy_of_undisturbed(attempt.folder / name)
        _damage(job, name, shorten)
    finish(job)
    assert name in (job.folder / "said").read_text()
    check_same(job)


def flip(attempt: Attempt) -> None:
    """Flip a bit of the newest checkpoint: its file is refused by name, and the one before is used."""
    job = copy_of_undisturbed(attempt.folder)
    name = attempt.one_of(sorted(file.name for file in checkpoints(job.checkpoints)[-1].iterdir()))

    def flipped(data: bytes) -> bytes:
        place, bit = attempt.chance.randrange(len(data)), attempt.chance.randrange(8)
        return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]

    _damage(job, name, flipped)


def _damage(job: Job, name: str, change: Callable[[bytes], bytes]) -> None:
    *_, before, damaged = checkpoints(job.checkpoints)
    file = damaged / name
    file.write_bytes(change(file.read_bytes()))
    refusal = _refusal(lambda: read(damaged))
    assert str(file) in refusal, refusal
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert newest(job.checkpoints) == before
    assert str(file) in str(said[0].message)


def malicious(attempt: Attempt) -> None:
    """Hand a file that runs code when it is unpickled: it is refused, and nothing has run."""
    marker = attempt.folder / "marker"
    path = attempt.one_of(MALICIOUS)(attempt.folder, Payload(marker))
    _refusal(lambda: Job(attempt.folder).trainer(load_path=path))
    with suppress(ValueError, TypeError):  # which reads the weights alone
        load_weights(network(), path)
    assert not marker.exists(), "it has run"


def _refusal(load: Callable[[], object]) -> str:
    try:
        load()
    except (ValueError, TypeError) as error:
        return str(error)
    raise AssertionError("it was taken")


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _pickled(protocol: int) -> Callable[[Path, Payload], Path]:
    def make(folder: Path, payload: Payload) -> Path:
        return _file(folder / "weights.pkl", pickle.dumps(payload, protocol))

    return make


def _saved(*, zipped: bool) -> Callable[[Path, Payload], Path]:
    def make(folder: Path, payload: Payload) -> Path:
        torch.save({"state": {"model": payload}}, folder / "weights.pt", _use_new_zipfile_serialization=zipped)
        return folder / "weights.pt"

    return make


def _tar(folder: Path, payload: Payload) -> Path:
    with tarfile.open(folder / "weights.tar", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(payload)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return folder / "weights.tar"


def _npy(folder: Path, payload: Payload) -> Path:
    np.save(folder / "weights.npy", np.array([payload], dtype=object), allow_pickle=True)
    return folder / "weights.npy"


def _npz(folder: Path, payload: Payload) -> Path:
    np.savez(folder / "weights.npz", weights=np.array([payload], dtype=object), allow_pickle=True)
    return folder / "weights.npz"


def _in_place_of(name: str, *, sealed: bool) -> Callable[[Path, Payload], Path]:
    """Return what puts a pickle in the place of a file of a checkpoint."""

    def make(folder: Path, payload: Payload) -> Path:
        copied = checkpoints(copy_of_undisturbed(folder).checkpoints)[-1]
        data = pickle.dumps(payload)
        _file(copied / name, data)
        if sealed:
            manifest = Manifest.of(checkpoints(undisturbed().checkpoints)[-1])
            files = {**manifest.files, name: Listed(len(data), hashlib.sha256(data).hexdigest())}
            _file(copied / "manifest.json", replace(manifest, files=files).text())
        return copied

    return make


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


MALICIOUS = (
    _pickled(0),
    _pickled(2),
    _pickled(5),
    _saved(zipped=True),
    _saved(zipped=False),
    _tar,
    _npy,
    _npz,
    _in_place_of("weights.safetensors", sealed=True),
    _in_place_of("training.safetensors", sealed=True),
    _in_place_of("state.json", sealed=True),
    _in_place_of("manifest.json", sealed=False),
)


def of_another_run(attempt: Attempt) -> None:
    """Load a checkpoint that is not of this run: the difference is named, and the model in memory stays as it is."""
    change, named = attempt.one_of(OTHERS)
    content = read(checkpoints(undisturbed().checkpoints)[-1])
    path = attempt.folder / "ep4-ba48"
    change(path, content)
    model, optimizer = Job(attempt.folder).made()
    before = [value.clone() for value in model.state_dict().values()]
    refusal = _refusal(lambda: Job(attempt.folder).trainer((model, optimizer), load_path=path))
    assert named in refusal, refusal
    assert all(map(torch.equal, before, model.state_dict().values())), "the model has changed"
    assert not optimizer.state, "the optimizer has changed"


def _with_weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path, Content], None]:
    def make(path: Path, content: Content) -> None:
        weights = dict(content.tensors["weights"])
        change(weights)
        write(path, replace(content, tensors={**content.tensors, "weights": weights}))

    return make


def _with_values(**values: object) -> Callable[[Path, Content], None]:
    return lambda path, content: write(path, replace(content, values={**content.values, **values}))


def _newer_format(path: Path, content: Content) -> None:
    write(path, content)
    manifest = path / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields.pop("sha256")
    fields["format"] += 1
    digest = hashlib.sha256(json.dumps(fields, indent=1).encode()).hexdigest()
    manifest.write_text(json.dumps({**fields, "sha256": digest}, indent=1))


OTHERS = (
    (_with_weights(lambda weights: weights.pop("1.running_mean")), "1.running_mean"),
    (_with_weights(lambda weights: weights.update(another=torch.zeros(2))), "another"),
    (_with_weights(lambda weights: weights.update({"5.bias": torch.zeros(7)})), "5.bias"),
    (_with_values(processes=2), "its number of processes is 2, here it is 1"),
    (_with_values(seed=8), "its seed is 8, here it is 7"),
    (_newer_format, "must be of format 1 or older, got format 2"),
)
