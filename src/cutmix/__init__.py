"""CutMix in every training loop: exact, fast, and measured on your own data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutmix.algorithms import CutMix, CutOut, LabelSmoothing, MixUp, OneOf
    from cutmix.mixing import mix
    from cutmix.plans import Plan
    from cutmix.targets import MixedTarget
    from cutmix.trainer import Trainer

__version__ = "0.1.0"
__all__ = ["CutMix", "CutOut", "LabelSmoothing", "MixUp", "MixedTarget", "OneOf", "Plan", "Trainer", "mix"]

_MAKERS = {
    **dict.fromkeys(("CutMix", "CutOut", "LabelSmoothing", "MixUp", "OneOf"), "cutmix.algorithms"),
    "MixedTarget": "cutmix.targets",
    "Plan": "cutmix.plans",
    "Trainer": "cutmix.trainer",
    "mix": "cutmix.mixing",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what it is, its maker says
    """Import what the front door names when it is first asked for, so that ``import cutmix`` stays light."""
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_MAKERS[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
