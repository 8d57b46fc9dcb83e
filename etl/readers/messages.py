"""The messages of an Arrow IPC file or stream: how many records each has, and how much memory it takes, before it is
read.

A compressed buffer begins with its size when it is unfolded, and a file of 4 kB may say a terabyte there. The format is
Arrow's (Columnar.rst, "Serialization and Interprocess Communication"; Message.fbs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct, error

from etl.readers.files import OpenedFile

_DICTIONARY, _RECORDS = 2, 3  # of MessageHeader
_CONTINUATION = b"\xff\xff\xff\xff"
_MOST_METADATA = 16 << 20
_INT16, _INT32, _INT64 = Struct("<h"), Struct("<i"), Struct("<q")


@dataclass(frozen=True, slots=True)
class Message:
    """A record batch, or a dictionary, which stays in memory for all that follow."""

    is_dictionary: bool
    records: int
    open_bytes: int


def read_messages(file: OpenedFile) -> Iterator[Message]:
    """The dictionaries and record batches of a stream, which ``file`` has been opened at the beginning of.

    The bodies are passed over. Raises ValueError where it is no such stream, or is cut off.
    """
    try:
        while (metadata := _metadata(file)) is not None:
            message = _Table.root(metadata)
            body = message.integer(3, _INT64)
            if body < 0:
                raise ValueError("a message ends before it begins")
            kind = metadata[place] if (place := message.place(1)) is not None else 0
            header = message.table(2)
            if kind == _DICTIONARY:
                yield _message(file, header.table(1), body, is_dictionary=True)
            elif kind == _RECORDS:
                yield _message(file, header, body, is_dictionary=False)
            else:
                file.skip(body)
    except (error, IndexError) as flaw:
        raise ValueError("the metadata of a message is damaged") from flaw


def _metadata(file: OpenedFile) -> bytes | None:
    """The metadata of the next message; None at the end of the stream."""
    size = file.read(4)
    if size == _CONTINUATION:
        size = file.read(4)
    if len(size) < 4 or size == bytes(4):
        return None
    length = int.from_bytes(size, "little")
    if length > _MOST_METADATA:
        raise ValueError(f"the metadata of a message has {length:,} bytes, and {_MOST_METADATA:,} are allowed")
    metadata = file.read(length)
    if len(metadata) < length:
        raise ValueError("it is cut off within a message")
    return metadata


def _message(file: OpenedFile, batch: _Table, body: int, *, is_dictionary: bool) -> Message:
    if batch.place(3) is None:
        file.skip(body)
        return Message(is_dictionary, batch.integer(0, _INT64), body)
    read = unfolded = 0
    for offset, length in sorted(batch.pairs(2)):
        if length < 8:
            continue
        if offset < read or offset + length > body:
            raise ValueError("a buffer lies outside of its message")
        file.skip(offset - read)
        unfolded += max(length, _INT64.unpack(file.read(8))[0])  # -1: it is not compressed
        read = offset + 8
    file.skip(body - read)
    return Message(is_dictionary, batch.integer(0, _INT64), body + unfolded)


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a flatbuffer, which begins at ``at``."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, _INT32.unpack_from(data, 0)[0])

    def place(self, field: int) -> int | None:
        """Where a field of it is, by its number; None where it has its default."""
        fields = self.at - _INT32.unpack_from(self.data, self.at)[0]
        entry = 4 + 2 * field
        if entry >= _INT16.unpack_from(self.data, fields)[0]:
            return None
        offset = _INT16.unpack_from(self.data, fields + entry)[0]
        return self.at + offset if offset else None

    def integer(self, field: int, of: Struct) -> int:
        place = self.place(field)
        return 0 if place is None else int(of.unpack_from(self.data, place)[0])

    def table(self, field: int) -> _Table:
        return _Table(self.data, self._behind(field))

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit integers."""
        at = self._behind(field)
        count = _INT32.unpack_from(self.data, at)[0]
        if not 0 <= count <= len(self.data) // 16:
            raise ValueError("the metadata of a message is damaged")
        return [
            (_INT64.unpack_from(self.data, place)[0], _INT64.unpack_from(self.data, place + 8)[0])
            for place in range(at + 4, at + 4 + 16 * count, 16)
        ]

    def _behind(self, field: int) -> int:
        place = self.place(field)
        if place is None:
            raise ValueError("a message has not what it should have")
        return int(place + _INT32.unpack_from(self.data, place)[0])
