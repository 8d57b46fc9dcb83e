"""Thrift's compact protocol, as far as the metadata of a Parquet file need it: a few fields of a struct are wanted, all
others are passed over.

The format: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

I32, I64 = 5, 6
_BYTE, _DOUBLE, _BYTES, _LIST, _SET, _MAP, _STRUCT = 3, 7, 8, 9, 10, 11, 12
_DEEPEST = 16

# What is wanted of a value: its type, the fields of a struct by their numbers, or of each struct of a list.
Wanted: TypeAlias = "int | Mapping[int, Wanted] | list[Mapping[int, Wanted]]"

# Bytes of an item of a list, as Arrow keeps it: outer lists (schema, row groups, columns) are of large structs.
_LARGE, _SMALL, _PLAIN = 1_000, 100, 32
_DEEPEST_LARGE = 1


class TooLarge(ValueError):
    """The structs unfold to more bytes than they may."""


@dataclass(slots=True)
class Structs:
    """The structs in ``data``, read from the place ``at`` on.

    Raises ValueError for what is no struct, and for all that Thrift's readers take in some way of their own (a field of
    another type, or twice, or with too large a number): what is read is what Arrow reads. Raises IndexError where the
    data end before the struct does.

    ``unfolded`` are about so many bytes of memory as all that was passed over takes in a reader that keeps it, and
    TooLarge is raised when they are more than ``most``.
    """

    data: bytes
    at: int = 0
    most: int | None = None
    unfolded: int = 0

    def read(self, wanted: Mapping[int, Wanted], depth: int = 0) -> dict[int, Any]:
        """The wanted fields of the struct that comes next, by number."""
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            if number in fields or not 0 < number < 1 << 15:
                raise ValueError(f"it has a field {number} too many")
            if number in wanted:
                fields[number] = self._value(head & 0x0F, wanted[number], number, depth)
            else:
                self._pass(head & 0x0F, depth)
        return fields

    def _value(self, kind: int, wanted: Wanted, number: int, depth: int) -> Any:
        asked = wanted if isinstance(wanted, int) else _LIST if isinstance(wanted, list) else _STRUCT
        if kind != asked:
            raise ValueError(f"field {number} has type {kind} and not {asked}")
        if isinstance(wanted, int):
            value = self._integer()
            if wanted == I32 and not -(1 << 31) <= value < 1 << 31:
                raise ValueError(f"field {number} is out of range")
            return value
        if isinstance(wanted, list):
            kind, size = self._size_of_list()
            if kind != _STRUCT:
                raise ValueError(f"field {number} is a list of type {kind} and not of {_STRUCT}")
            return [self._item(wanted[0], depth) for _ in range(size)]
        return self.read(wanted, depth + 1)

    def _item(self, wanted: Mapping[int, Wanted], depth: int) -> dict[int, Any]:
        self._add(_LARGE if depth <= _DEEPEST_LARGE else _SMALL)
        return self.read(wanted, depth + 1)

    def _pass(self, kind: int, depth: int, *, is_field: bool = True) -> None:
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        if kind in (1, 2):
            self.at += not is_field  # in a field's head already
        elif kind in (_BYTE, _DOUBLE):
            self.at += 1 if kind == _BYTE else 8
        elif 4 <= kind <= I64:
            self._varint()
        elif kind == _BYTES:
            size = self._varint()
            self._add(size)
            self.at += size
        elif kind in (_LIST, _SET):
            self._pass_all(*self._size_of_list(), depth)
        elif kind == _MAP:
            self._pass_map(depth)
        elif kind == _STRUCT:
            self.read({}, depth + 1)
        else:
            raise ValueError(f"a field has type {kind}")

    def _pass_all(self, kind: int, size: int, depth: int) -> None:
        for _ in range(size):
            if kind == _STRUCT:
                self._item({}, depth)
            else:
                self._add(_PLAIN)
                self._pass(kind, depth + 1, is_field=False)

    def _pass_map(self, depth: int) -> None:
        size = self._count(self._varint())
        kinds = self._byte() if size else 0
        for _ in range(size):
            self._add(_SMALL)
            for kind in (kinds >> 4, kinds & 0x0F):
                self._pass(kind, depth + 1, is_field=False)

    def _size_of_list(self) -> tuple[int, int]:
        """The type of its items and how many there are."""
        head = self._byte()
        return head & 0x0F, self._count(self._varint() if head >> 4 == 15 else head >> 4)

    def _count(self, items: int) -> int:
        """So many, of one byte at least. Thrift makes room for them all before it reads the first."""
        if items > len(self.data) - self.at:
            raise IndexError
        return items

    def _add(self, size: int) -> None:
        self.unfolded += size
        if self.most is not None and self.unfolded > self.most:
            raise TooLarge

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) >= 0x80 and shift < 63:
            value |= (byte & 0x7F) << shift
            shift += 7
        value |= byte << shift
        if value >= 1 << 64:
            raise ValueError("a number is out of range")
        return value
