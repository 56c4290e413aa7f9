"""The moments of a training run at which algorithms and callbacks may act."""

from enum import StrEnum, auto


class Event(StrEnum):
    """A moment of a run, in the order of its coming; its value is the name of the ``Callback`` method it calls.

    Evaluation runs between ``BATCH_END`` and ``BATCH_CHECKPOINT``, or between ``EPOCH_END`` and ``EPOCH_CHECKPOINT``.
    """

    INIT = auto()
    FIT_START = auto()
    EPOCH_START = auto()
    BEFORE_DATALOADER = auto()
    AFTER_DATALOADER = auto()
    BATCH_START = auto()
    BEFORE_TRAIN_BATCH = auto()
    BEFORE_FORWARD = auto()
    AFTER_FORWARD = auto()
    BEFORE_LOSS = auto()
    AFTER_LOSS = auto()
    BEFORE_BACKWARD = auto()
    AFTER_BACKWARD = auto()
    AFTER_TRAIN_BATCH = auto()
    BATCH_END = auto()
    BATCH_CHECKPOINT = auto()
    EPOCH_END = auto()
    EPOCH_CHECKPOINT = auto()
    FIT_END = auto()
    EVAL_START = auto()
    EVAL_BATCH_START = auto()
    EVAL_BEFORE_FORWARD = auto()
    EVAL_AFTER_FORWARD = auto()
    EVAL_BATCH_END = auto()
    EVAL_END = auto()
