"""The lines of a text file as UTF-8, a block at a time; a line that is longer than may be is cut short, not kept."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from etl.readers.files import Location, OpenedFile, open_decompressed
from etl.records import Position

BLOCK_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines, without their LF. The first one begins at ``offset`` and is the physical line ``number``.

    The last one is cut short if ``passed`` is not 0: so many bytes of it, its LF among them, were passed over.
    ``consumed`` are the stored bytes read by then.
    """

    texts: tuple[bytes, ...]
    offset: int
    number: int
    consumed: int
    passed: int = 0


def read_lines(
    location: Location, shown: str, start: Position, most_bytes: int, block_size: int = BLOCK_SIZE
) -> Iterator[Lines]:
    """Yield the lines behind ``start``, whose offset does not count a byte order mark. Raises SourceError.

    A line of more than ``most_bytes`` may be cut short, but not to fewer than one more than that.
    """
    with open_decompressed(location, shown) as file:
        rest, is_complete = _go_to(file, start.offset), False
        offset, number, size = start.offset, start.line, block_size
        while not is_complete:
            piece = file.read(size)
            is_complete = len(piece) < size
            data = rest + piece
            cut = len(data) if is_complete else data.rfind(b"\n") + 1
            passed = 0
            if not cut and len(data) > most_bytes:
                cut = len(data)
                passed, is_complete, rest = _pass_line(file, block_size)
            elif not cut:
                rest, size = data, 2 * size
                continue
            else:
                rest = data[cut:]
            texts = _split(data[:cut])
            ahead = 0 if file.is_compressed else len(rest)
            if texts:
                yield Lines(texts, offset, number, file.stored - ahead, passed)
            offset, number, size = offset + cut + passed, number + len(texts), block_size


def _go_to(file: OpenedFile, offset: int) -> bytes:
    """Pass over ``offset`` bytes behind the byte order mark, if there is one; what was read beyond that."""
    head = file.read(len(codecs.BOM_UTF8))
    if head == codecs.BOM_UTF8:
        head = b""
    if offset > len(head):
        file.skip(offset - len(head))
    return head[offset:]


def _pass_line(file: OpenedFile, size: int) -> tuple[int, bool, bytes]:
    """Read on to the end of the line: how many bytes that took, whether it is the last one, what was read beyond."""
    passed = 0
    while True:
        piece = file.read(size)
        end = piece.find(b"\n") + 1
        if end:
            return passed + end, False, piece[end:]
        passed += len(piece)
        if len(piece) < size:
            return passed, True, b""


def _split(text: bytes) -> tuple[bytes, ...]:
    texts = text.split(b"\n")
    if not texts[-1]:
        texts.pop()
    return tuple(texts)
