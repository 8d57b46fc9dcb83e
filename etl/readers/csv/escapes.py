"""Escapes, put out of the way: each is masked by bytes that mean nothing to who looks for quotes and line ends.

An escape and the character behind it become two bytes that are in no UTF-8 text, so that places stay what they are:
``\\,`` is two bytes, and so is its mask. Framing, scanning and pyarrow read the masked text and need not know of
escapes; what they have found is unmasked at the end, a column at a time. Bytes of these kinds may be in a file that is
no UTF-8: its records are found and refused in the text as it is, which is kept beside the masked one.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_CR = 0x0D
_LF = 0x0A
_MARK = 0xFF  # in place of the escape
_FIRST_CODE = 0xF8  # and of the character behind it, the first of up to six; no byte from here on is in UTF-8


class Escapes:
    """The escapes of one dialect. ``specials`` are the bytes that one may stand before, beside itself and line ends."""

    def __init__(self, escape: bytes, specials: bytes) -> None:
        self._escape = escape[0]
        self._codes = np.zeros(256, np.uint8)
        escapable = bytes(dict.fromkeys(bytes([_CR, _LF, self._escape]) + specials))
        self._codes[list(escapable)] = np.arange(_FIRST_CODE, _FIRST_CODE + len(escapable))
        plain = np.arange(256, dtype=np.uint8)
        plain[self._codes[list(escapable)]] = list(escapable)
        self._plain = plain

    def are_in(self, raw: bytes) -> bool:
        return self._escape in raw

    def complete_part(self, text: bytes) -> int:
        """Return how much of ``text`` can be masked before it is known what follows: all but an escape at its end."""
        body = text.removesuffix(b"\r")  # an LF may follow, and be masked with it
        run = len(body) - len(body.rstrip(bytes([self._escape])))
        return len(body) - 1 if run % 2 else len(text)

    def mask(self, text: bytes) -> bytes:
        """Return the text masked; it begins outside of an escape, and an escape at its end is none."""
        if self._escape not in text:
            return text
        block = np.frombuffer(text, np.uint8)
        places = self._active(np.flatnonzero(block == self._escape))
        places = places[places + 1 < len(block)]
        codes = self._codes[block[places + 1]]
        places, codes = places[codes > 0], codes[codes > 0]
        masked = block.copy()
        masked[places] = _MARK
        masked[places + 1] = codes
        self._mask_feeds(block, masked, places)
        return masked.tobytes()

    @staticmethod
    def _active(places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the escapes that are not escaped themselves: the first, third, … of each run of them."""
        if not places.size:
            return places
        indices = np.arange(len(places))
        begins_run = np.ones(len(places), np.bool_)
        begins_run[1:] = np.diff(places) != 1
        first_of_run = np.maximum.accumulate(np.where(begins_run, indices, 0))
        active: NDArray[np.int64] = places[(indices - first_of_run) % 2 == 0]
        return active

    def _mask_feeds(self, block: NDArray[np.uint8], masked: NDArray[np.uint8], places: NDArray[np.int64]) -> None:
        """Mask the LF of each CR LF behind an escape: it is one line end."""
        feeds = places[block[places + 1] == _CR] + 2
        feeds = feeds[feeds < len(block)]
        masked[feeds[block[feeds] == _LF]] = self._codes[_LF]

    def masks_in(self, text: bytes) -> NDArray[np.int64]:
        """Return the places of the escapes in a masked text."""
        return np.flatnonzero(np.frombuffer(text, np.uint8) == _MARK)

    def unmask(self, field: bytes) -> bytes | None:
        """Return a field as it is meant; None where an escape stands before a character that needs none."""
        if self._escape in field:
            return None
        return field.translate(self._plain.tobytes(), bytes([_MARK]))

    def unmask_column(self, column: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
        """Return a column of texts as they are meant, and the rows where an escape is before what needs none."""
        _, offsets, buffer = column.buffers()
        if buffer is None or not buffer.size:
            return column, np.empty(0, np.int64)
        edges = np.frombuffer(offsets, np.int32, len(column) + 1, column.offset * 4)
        data = np.frombuffer(buffer, np.uint8)
        loose = np.flatnonzero(data == self._escape)
        rows = np.unique(np.searchsorted(edges, loose, side="right") - 1)
        if rows.size:
            rows = rows[column.is_valid().to_numpy(zero_copy_only=False)[rows]]
        marks = np.flatnonzero(data == _MARK)
        if not marks.size:
            return column, rows
        texts = self._plain[np.delete(data, marks)]
        moved = (edges - np.searchsorted(marks, edges)).astype(np.int32)
        # The bits of what is NULL begin at the same row as before.
        validity = None if column.null_count == 0 else _bits(column.is_valid())
        buffers = [validity, pa.py_buffer(moved), pa.py_buffer(texts)]
        return pa.Array.from_buffers(pa.string(), len(column), buffers, column.null_count), rows


def _bits(mask: pa.BooleanArray) -> pa.Buffer:
    """A column of booleans as the bits that say which cells of another are there."""
    return pa.py_buffer(np.packbits(mask.to_numpy(zero_copy_only=False), bitorder="little"))
