"""Algorithms as the command line writes them: ``cutmix:alpha=1.0,p=0.5``."""

from dataclasses import fields
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from cutmix.algorithms.cutmix import CutMix
from cutmix.algorithms.cutout import CutOut
from cutmix.algorithms.mixup import MixUp
from cutmix.algorithms.schedule import Schedule
from cutmix.core.algorithm import Algorithm
from cutmix.core.time import Time

RECIPES: dict[str, type[Algorithm]] = {"cutmix": CutMix, "mixup": MixUp, "cutout": CutOut}
BASELINE = ("baseline", "none")


def parse(spec: str) -> Algorithm | None:
    """Make the algorithm that ``spec`` names, with its settings; ``None`` for the baseline.

    Raises:
        ValueError: when the algorithm, a setting or a value is unknown; the choices are listed.
    """
    name, _, settings = spec.partition(":")
    if name in BASELINE and not settings:
        return None
    if name not in RECIPES:
        raise ValueError(f"algorithm must be one of {', '.join((BASELINE[0], *RECIPES))}, got {spec!r}")
    return RECIPES[name](**_keywords(spec, settings, settable(RECIPES[name])))


def settable(recipe: type[Algorithm]) -> dict[str, type]:
    """Return the settings that can be written as text, each with its type."""
    hints = get_type_hints(recipe)
    kinds = {field.name: _kind(hints[field.name]) for field in fields(recipe)}  # ty: ignore[invalid-argument-type]
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _kind(hint: object) -> type | None:
    if get_origin(hint) is Literal:
        return str
    kinds = set(get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)) - {type(None), Schedule}
    if Time in kinds:
        return str
    return next((kind for kind in (float, int, bool, str) if kinds == {kind}), None)


def _keywords(spec: str, settings: str, kinds: dict[str, type]) -> dict[str, object]:
    keywords = {}
    for setting in filter(None, settings.split(",")):
        name, _, text = setting.partition("=")
        if name not in kinds or name in keywords:
            raise ValueError(f"each setting must be one of {', '.join(kinds)}, once, got {setting!r} in {spec!r}")
        keywords[name] = _value(spec, setting, text, kinds[name])
    return keywords


def _value(spec: str, setting: str, text: str, kind: type) -> object:
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        rule = "true or false" if kind is bool else f"of type {kind.__name__}"
        raise ValueError(f"the value must be {rule}, got {setting!r} in {spec!r}") from None
