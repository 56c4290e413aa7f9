"""Backends apply a plan to a batch; they all give the same bytes."""

from typing import Literal, TypeAlias, get_args

from cutmix.backends import eager, reference
from cutmix.plans import Plan
from cutmix.shapes import Images

Backend: TypeAlias = Literal["auto", "reference", "eager"]


def mix_images(images: Images, plan: Plan, *, out: Images | None = None, backend: Backend = "auto") -> Images:
    """Return the images mixed by ``plan``, whose axes are the images' last ones.

    Args:
        images: (batch, ..., *plan.size). Never written to, unless it is also ``out``.
        plan: what was drawn for this batch.
        out: where to write the result; the images themselves for in place, else memory that shares nothing with them.
            Without it the result is new memory with the strides that ``torch.empty_like(images)`` has.
        backend: "reference" is the plain loop that says what is meant, "eager" the vectorised torch operations;
            "auto" chooses.

    Raises:
        ValueError: when ``backend`` is none of these.
    """
    match backend:
        case "auto" | "eager":
            return eager.mix_images(images, plan, out=out)
        case "reference":
            return reference.mix_images(images, plan, out=out)
        case _:
            raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
