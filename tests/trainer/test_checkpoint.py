"""What is written to a checkpoint comes back."""

import pytest
import torch

from cutmix.core.time import Timestamp
from cutmix.trainer.checkpoints.checkpoint import Content, checkpoints, name_for, newest, read, remove, write
from cutmix.trainer.checkpoints.tensorfile import DTYPES, bytes_of, name_of
from small_checkpoints import content, number_in, two_in


def stored(tensors, tmp_path):
    """What comes back of ``tensors``."""
    write(tmp_path / "ep0-ba1", Content({"weights": tensors}, {}))
    return read(tmp_path / "ep0-ba1").tensors["weights"]


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and bytes_of(one) == bytes_of(other)


@pytest.fixture
def two(tmp_path):
    return two_in(tmp_path)


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "runs" / "ep0-ba3", content(2.5))

    assert number_in(tmp_path / "runs" / "ep0-ba3") == 2.5
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "ep0-ba3",
        "manifest.json",
        "runs",
        "state.json",
        "training.safetensors",
        "weights.safetensors",
    ]


def test_the_newest_is_the_one_with_most_batches_then_epochs(tmp_path):
    for time in [Timestamp(1, 10), Timestamp(0, 9), Timestamp(0, 10), Timestamp(0, 2)]:
        write(tmp_path / name_for(time), content())

    assert [path.name for path in checkpoints(tmp_path)] == ["ep0-ba2", "ep0-ba9", "ep0-ba10", "ep1-ba10"]
    assert newest(tmp_path) == tmp_path / "ep1-ba10"
    assert newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=name_of)
def test_tensors_of_each_dtype_come_back_to_the_bit(dtype, tmp_path):
    numbers = torch.arange(6 * dtype.itemsize, dtype=torch.uint8) % 251
    tensors = {
        "rows": numbers.view(dtype).reshape(2, 3),
        "one": numbers.view(dtype)[3],
        "none": numbers.view(dtype)[:0],
    }

    found = stored(tensors, tmp_path)

    assert all(same(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "seen",
    [
        lambda t: t.to(memory_format=torch.channels_last),
        lambda t: t.transpose(0, 3),
        lambda t: t[:, 1:, ::2],
        lambda t: t[0, 0, 0, 0].expand(5, 2),
        lambda t: t.as_strided((3, 3), (1, 1)),
        lambda t: torch.complex(t, t + 1).conj(),
        lambda t: torch.complex(t, t + 1).conj().imag,
        torch._neg_view,
        lambda t: t.clone().requires_grad_(),
        torch.nn.Parameter,
    ],
    ids=[
        "channels_last",
        "transposed",
        "sliced",
        "expanded",
        "overlapping",
        "conjugated",
        "negated and strided",
        "negated",
        "grad",
        "parameter",
    ],
)
def test_a_tensor_of_any_strides_comes_back_with_its_numbers(seen, tmp_path):
    tensor = seen(torch.arange(120.0).reshape(2, 3, 4, 5))

    assert same(stored({"it": tensor}, tmp_path)["it"], tensor)


def test_one_memory_seen_alike_is_stored_once_and_comes_back_as_one(tmp_path):
    tied = torch.rand(100, 100)

    found = stored({"embed": tied, "head": tied.view(100, 100), "other": tied.clone()}, tmp_path)

    assert found["embed"] is found["head"]
    assert found["other"] is not found["embed"]
    assert (tmp_path / "ep0-ba1" / "weights.safetensors").stat().st_size < 2.1 * tied.nbytes


def test_different_views_of_one_memory_come_back_apart(tmp_path):
    flat = torch.arange(9.0)
    rows = flat.view(3, 3)
    views = {"flat": flat, "rows": rows, "columns": rows.T, "part": flat[3:7], "minus": torch._neg_view(rows)}
    views |= {"bits": rows.view(torch.int32), "first": rows[0], "diagonal": rows.diagonal()}

    found = stored(views, tmp_path)

    assert all(same(found[name], tensor) for name, tensor in views.items())
    found["flat"].zero_()
    assert same(found["rows"], rows)


def test_tensors_without_numbers_are_not_taken_for_one(tmp_path):
    found = stored({"a": torch.empty(0, 2), "b": torch.empty(0, 2)}, tmp_path)

    assert found["a"] is not found["b"]


@pytest.mark.parametrize(
    ("tensors", "values", "said"),
    [
        ({"sparse": torch.eye(2).to_sparse()}, {}, "sparse must be a plain, dense tensor"),
        ({"meta": torch.empty(2, device="meta")}, {}, "meta must be a plain, dense tensor"),
        ({"__metadata__": torch.ones(2)}, {}, "__metadata__ must be"),
        ({}, {"callbacks": [object()]}, r"value\['callbacks'\]\[0\] must be"),
    ],
    ids=["sparse", "meta", "reserved", "value"],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(tensors, values, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        write(tmp_path / "runs" / "ep0-ba1", Content({"weights": tensors}, values))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["latest", "ep1", "ep1-ba2-old", "ep-1-ba2", ".ep1-ba2.writing"])
def test_a_checkpoint_of_another_name_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"folder must be named .* such as ep3-ba1200, got"):
        write(tmp_path / name, content())


def test_writing_again_replaces_what_was_there(two):
    (two / "ep0-ba2" / "weights.safetensors").write_bytes(b"torn")

    write(two / "ep0-ba2", content(3.0))

    assert number_in(two / "ep0-ba2") == 3.0
    assert sorted(path.name for path in two.iterdir()) == ["ep0-ba1", "ep0-ba2"]


def test_a_checkpoint_is_removed_as_a_whole(two):
    remove(two / "ep0-ba1")

    assert [path.name for path in two.iterdir()] == ["ep0-ba2"]
