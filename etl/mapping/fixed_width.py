"""Texts of one width as a matrix of bytes, one row a text, and back: each part has its fixed place."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

Bytes = np.ndarray[tuple[int, int], np.dtype[np.uint8]]


def fixed_width_bytes(texts: pa.Array, width: int) -> Bytes:
    """The bytes of texts that are all ``width`` bytes long and none of them NULL, one row each."""
    if not len(texts):
        return np.empty((0, width), np.uint8)
    start = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset]
    return np.frombuffer(texts.buffers()[2], np.uint8, len(texts) * width, int(start)).reshape(-1, width)


def texts_of_bytes(rows: Bytes) -> pa.Array:
    """The reverse of ``fixed_width_bytes``."""
    offsets = np.arange(0, (len(rows) + 1) * rows.shape[1], rows.shape[1], dtype=np.int32)
    data = np.ascontiguousarray(rows)
    return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(data))
