"""The tensor shapes that this library speaks of, each named once.

Axes: ``batch`` comes first, the axes of the image last (height before width); ``axes`` counts the latter.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Integer, Shaped
from torch import Tensor

Images: TypeAlias = Shaped[Tensor, "batch ..."]
"""Images, signals or volumes of any dtype, one a row; the axes that a plan cuts come last."""

Source: TypeAlias = Shaped[Tensor, "source ..."]
"""Another batch, whose images are pasted; it may be of another length."""

Partners: TypeAlias = Int64[Tensor, " batch"]
"""For each sample the position in the batch of the one that is pasted into it."""

Boxes: TypeAlias = Int64[Tensor, "1 2 axes"] | Int64[Tensor, "batch 2 axes"]
"""One box for the whole batch, or one a sample: where it starts and where it stops (exclusive) along each axis."""

Holes: TypeAlias = Int64[Tensor, "holes 2 axes"]
"""Any number of boxes that the whole batch shares."""

Opacity: TypeAlias = Float64[Tensor, " 1"] | Float64[Tensor, " batch"]
"""How much of the partner shows inside the box, from 0 to 1."""

Kept: TypeAlias = Float64[Tensor, " batch"]
"""How much of each sample's own content is left, from 0 to 1 (the paper's lambda, after clipping)."""

Ids: TypeAlias = Integer[Tensor, "batch ..."]
"""Class indices, one a sample (or one a pixel)."""

Rows: TypeAlias = Float[Tensor, "batch ..."]
"""A float row a sample: one-hot, soft or multi-label targets, or what a regression aims for."""

Labels: TypeAlias = Shaped[Tensor, "batch ..."]
"""Targets of either kind, ``Ids`` or ``Rows``."""

Logits: TypeAlias = Float[Tensor, "batch classes ..."]
"""Unnormalised scores, classes on the second axis."""

Channels: TypeAlias = Float32[Tensor, " channels"]
"""One number a channel."""

Table: TypeAlias = Float[Tensor, "channels 256"]
"""What each value of a byte becomes in each channel."""

Hit: TypeAlias = Bool[Tensor, " batch"]
"""Whether each prediction is right."""

Losses: TypeAlias = Float[Tensor, "..."]
"""Losses before or after the reduction."""

Extent: TypeAlias = Float64[np.ndarray, "axes 1"]
"""The image's side along each axis, in whole pixels: a column, to meet the boxes side by side."""

Chances: TypeAlias = Float64[np.ndarray, "axes boxes"]
"""Numbers in [0, 1), from which places follow."""

Sides: TypeAlias = Float64[np.ndarray, "axes boxes"]
"""The sides of boxes, in whole pixels."""

Edges: TypeAlias = Float64[np.ndarray, "axes boxes"]
"""Where boxes start, in whole pixels; also outside the image."""

Volumes: TypeAlias = Int64[np.ndarray, " boxes"]
"""How many pixels each box covers."""

Masks: TypeAlias = Bool[Tensor, "boxes ..."]
"""Which pixels something covers, one mask for the whole batch or one a sample."""

Drawn: TypeAlias = Float64[np.ndarray, " boxes"]
"""What was drawn for each box."""

Coins: TypeAlias = Bool[Tensor, " boxes"]
"""Whether something happens to each box."""

Classes: TypeAlias = Int64[Tensor, " batch"]
"""The class of each sample, on the host."""

Choices: TypeAlias = Int64[Tensor, " batch"]
"""For each sample the position of what was drawn for it."""
