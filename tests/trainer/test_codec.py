"""Values come back from their JSON as they were, of the same types; anything else is refused."""

import json
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from cutmix.trainer.checkpoints.codec import DEPTH, CodecError, decode, encode
from cutmix.trainer.checkpoints.tensorfile import DTYPES, bytes_of, name_of

FLOATS = st.floats() | st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308])
PLAIN = st.none() | st.booleans() | st.integers() | FLOATS | st.text() | st.binary() | st.sampled_from(["$", "$dict"])
KEYS = st.recursive(PLAIN, lambda keys: st.tuples(keys, keys) | st.frozensets(keys, max_size=3), max_leaves=4)


def containers(values):
    return (
        st.lists(values, max_size=4)
        | st.lists(values, max_size=4).map(tuple)
        | st.dictionaries(KEYS, values, max_size=4)
        | st.dictionaries(st.text() | st.sampled_from(["a", "$", "$int", "$set", "$dict"]), values, max_size=4)
        | st.dictionaries(KEYS, values, max_size=4).map(Counter)
    )


VALUES = st.recursive(PLAIN | KEYS | st.sets(KEYS, max_size=4), containers, max_leaves=20)


def form(value):
    """What tells two values apart: their types all through, the bits of floats, the order of dicts."""
    kind = type(value)
    if isinstance(value, dict):
        return kind, [(form(key), form(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return kind, [form(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted((form(item) for item in value), key=repr)
    if isinstance(value, float):
        return kind, "nan" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, torch.Tensor):
        return kind, value.dtype, value.shape, bytes(bytes_of(value))
    return kind, value


@given(VALUES)
def test_a_value_comes_back_as_it_was(value):
    assert form(decode(encode(value))) == form(value)


@given(VALUES)
def test_the_text_is_strict_json_in_ascii(value):
    def refuse(constant):
        raise AssertionError(constant)

    text = encode(value)

    assert text.isascii()
    json.loads(text, parse_constant=refuse)


@given(st.integers(min_value=64, max_value=20_000).map(lambda bits: 3**bits - 2**bits))
def test_a_whole_number_of_any_length_comes_back(number):
    assert decode(encode([number, -number])) == [number, -number]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=name_of)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 1, 3)], ids=str)
def test_a_tensor_comes_back_to_the_bit(dtype, shape):
    numbers = torch.arange(math.prod(shape) * dtype.itemsize, dtype=torch.uint8) % 251
    tensor = numbers.view(dtype).reshape(shape)

    assert form(decode(encode({"lr": tensor}))) == form({"lr": tensor})


def test_the_text_of_a_set_is_the_same_in_each_process():
    words = {"momentum", "dampening", "nesterov"}

    assert encode(words) == '{"$set": ["dampening", "momentum", "nesterov"]}'


def sgd(rate):
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=rate, momentum=0.9)


SCHEDULERS = {
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.StepLR(o, 2), lr_scheduler.MultiStepLR(o, [1, 4])]
    ),
    "ConstantLR": lr_scheduler.ConstantLR,
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 6),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.3, step_size_up=2, mode="exp_range", gamma=0.9),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "LinearLR": lr_scheduler.LinearLR,
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 3, 3, 5]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=20),
    "PolynomialLR": lr_scheduler.PolynomialLR,
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.MultiStepLR(o, [2])], [3]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "SWALR": lambda o: SWALR(o, 0.05),
}


def step(optimizer, scheduler, times):
    for _ in range(times):
        optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))


def test_every_scheduler_of_torch_is_in_the_list():
    kinds = [kind for kind in vars(lr_scheduler).values() if isinstance(kind, type)]
    known = {kind.__name__ for kind in kinds if issubclass(kind, lr_scheduler.LRScheduler)}

    assert known - {"LRScheduler", "_LRScheduler"} == SCHEDULERS.keys() - {"SWALR"}


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_scheduler_goes_on_from_its_text(make, rate):
    optimizer, again = sgd(rate), sgd(rate if isinstance(rate, float) else rate.clone())
    scheduler, resumed = make(optimizer), make(again)
    step(optimizer, scheduler, 4)
    kept = scheduler.state_dict()
    groups = optimizer.state_dict()["param_groups"]

    resumed.load_state_dict(decode(encode(kept)))
    again.load_state_dict({"state": {}, "param_groups": decode(encode(groups))})
    assert form(resumed.state_dict()) == form(kept)
    step(optimizer, scheduler, 4)
    step(again, resumed, 4)
    assert form(resumed.state_dict()) == form(scheduler.state_dict())
    assert form(again.param_groups[0]["lr"]) == form(optimizer.param_groups[0]["lr"])


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float64(1.5), "numpy.float64"),
        (np.arange(3), "numpy.ndarray"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        (defaultdict(list), "collections.defaultdict"),
        (deque([1]), "collections.deque"),
        (Fraction(1, 3), "fractions.Fraction"),
        (1j, "builtins.complex"),
        (Word("a"), "test_codec.Word"),
        (torch.Size([1]), "torch.Size"),
        (torch.float32, "torch.dtype"),
        (len, "builtins.builtin_function_or_method"),
        (object(), "builtins.object"),
        (torch.nn.Parameter(torch.ones(1)), "torch.nn.parameter.Parameter"),
    ],
)
def test_what_would_not_come_back_exactly_is_refused_with_its_type_and_place(value, kind):
    with pytest.raises(CodecError, match=rf"value\['callbacks'\]\[0\]\[2\] must be .* got a \S*{kind.split('.')[-1]};"):
        encode({"callbacks": [(1, 2, value)]})


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(2).to_sparse(),
        torch.empty(2, device="meta"),
        torch.ones(2).as_subclass(type("Named", (torch.Tensor,), {})),
    ],
    ids=["sparse", "meta", "subclass"],
)
def test_a_tensor_that_is_more_than_its_numbers_is_refused_with_its_place(tensor):
    with pytest.raises(CodecError, match=r"value\['lr'\] must be"):
        encode({"lr": tensor})


def test_what_holds_itself_is_refused():
    endless = []
    endless.append(endless)

    with pytest.raises(CodecError, match=f"at most {DEPTH} deep"):
        encode(endless)


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}, lambda v: {1: v}], ids=range(4))
def test_what_can_be_written_can_be_read_however_deep(wrap):
    value = None
    for _ in range(DEPTH):
        value = wrap(value)

    assert decode(encode(value)) == value
    with pytest.raises(CodecError, match="deep"):
        encode(wrap(value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nan",
        "NaN",
        "[Infinity]",
        "[-Infinity]",
        "[1e999]",
        "[" + "9" * 5000 + "]",
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        "[" * (DEPTH + 2) + "]" * (DEPTH + 2),
        '{"a": 1, "a": 2}',
        '{"$unknown": 1}',
        '{"$set": [1], "b": 2}',
        '{"$set": [1], "$tuple": [2]}',
        '{"$set": [1, 1]}',
        '{"$set": [[1]]}',
        '{"$set": [{"$dict": []}]}',
        '{"$frozenset": 3}',
        '{"$tuple": 3}',
        '{"$dict": [[1, 2], [1, 3]]}',
        '{"$dict": [[1]]}',
        '{"$dict": [[[], 1]]}',
        '{"$dict": {"ab": 1}}',
        '{"$dict": ["ab"]}',
        '{"$tuple": "ab"}',
        '{"$set": {"a": 1}}',
        '{"$Counter": [1]}',
        '{"$int": "12z"}',
        '{"$int": [1]}',
        '{"$float": "0x1p3"}',
        '{"$float": {}}',
        '{"$bytes": "?"}',
        '{"$bytes": 7}',
        '{"$Tensor": {}}',
        '{"$Tensor": {"dtype": "float32", "shape": [2], "data": "AAAAAA=="}}',
        '{"$Tensor": {"dtype": "float32", "shape": [1000000000000000000000], "data": ""}}',
        '{"$Tensor": {"dtype": "float32", "shape": ["1"], "data": "AAAAAA=="}}',
        '{"$Tensor": {"dtype": "float32", "shape": [1], "data": "AAAA"}}',
        '{"$Tensor": {"dtype": "load", "shape": [], "data": "AAAA"}}',
        '{"$Tensor": {"dtype": ["float32"], "shape": [], "data": "AAAA"}}',
    ],
    ids=lambda text: text[:40],
)
def test_a_text_that_nobody_wrote_is_refused_by_name(text):
    with pytest.raises(CodecError, match=r"^(text|value)(\[.*)? must"):
        decode(text)


TAGS = ["$int", "$float", "$bytes", "$tuple", "$dict", "$Counter", "$set", "$frozenset", "$Tensor"]
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda trees: (
        st.lists(trees, max_size=3)
        | st.dictionaries(st.sampled_from(TAGS) | st.just("a"), trees, max_size=2)
        | st.fixed_dictionaries({"$Tensor": st.fixed_dictionaries({"dtype": trees, "shape": trees, "data": trees})})
    ),
    max_leaves=12,
)


@given(TREES)
def test_any_json_is_read_or_refused_by_name(tree):
    with suppress(CodecError):
        decode(json.dumps(tree))


@pytest.mark.parametrize("tag", TAGS)
def test_no_tag_runs_what_it_holds(tag, tmp_path):
    marker = tmp_path / "marker"
    call = f"__import__('pathlib').Path({str(marker)!r}).touch()"

    with pytest.raises(CodecError):
        decode(json.dumps({tag: call}))
    assert not marker.exists()
