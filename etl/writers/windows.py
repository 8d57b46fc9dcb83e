"""Where the keys of a piece lie, when they are whole numbers: mostly close together, whatever strays from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def window_of(numbers: NDArray[np.int64]) -> tuple[int, int]:
    """The least and the greatest of most numbers: of the middle half, and a little more than as much around it."""
    ordered = np.sort(numbers, kind="stable")  # at once, where they are in order
    quarter = len(ordered) // 4
    low, high = int(ordered[quarter]), int(ordered[-1 - quarter])
    reach = (high - low) * 11 // 20 + 1
    return max(low - reach, int(ordered[0])), min(high + reach, int(ordered[-1]))


def most_of(keys: int) -> int:
    """How many keys of a table are too many to be read for so many of a piece: an eighth more."""
    return keys + keys // 8 + 1
