"""One way in for every kind of data: ``load``."""

from cutmix.data.images import Splits


def load(
    data: str,
    eval_data: str | None = None,
    *,
    image_size: int | None = None,
    train_size: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
) -> Splits:
    """Read ``data`` into memory: what to train on, what to test on, and notes on what was found."""
    raise NotImplementedError
