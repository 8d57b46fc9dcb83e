"""What feeds a target column: an origin, which gives the cells, and how they become values of the target's type.

One class for each kind of origin. Each says which source columns it needs, which Arrow type its cells have, and in
words where they come from, for ``etl check``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from etl.config import ColumnSource
from etl.errors import SourceError
from etl.mapping.conversion import Conversion, Converted, then
from etl.mapping.paths import SourcePath
from etl.mapping.unquoting import cell_texts
from etl.records import RecordBatch


class Origin(Protocol):
    """Where the cells of a target column come from, before they are converted."""

    @property
    def type(self) -> pa.DataType: ...
    @property
    def source_columns(self) -> tuple[str, ...]: ...
    def cells(self, records: RecordBatch) -> Converted:
        """One cell of ``type`` for each record."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A target column that is made of something in the source; ``default`` stands in for NULL."""

    name: str
    type: pa.DataType
    origin: Origin
    conversion: Conversion
    words: str
    default: pa.Scalar | None = None

    @property
    def source_columns(self) -> tuple[str, ...]:
        return self.origin.source_columns

    def convert(self, records: RecordBatch) -> Converted:
        converted = then(self.origin.cells(records), self.conversion)
        if self.default is None or not converted.values.null_count:
            return converted
        return Converted(pc.fill_null(converted.values, self.default), converted.refused)


@dataclass(frozen=True, slots=True)
class FromConstant:
    """A target column that has the same value in every row."""

    name: str
    type: pa.DataType
    constant: pa.Scalar
    words: str
    source_columns: tuple[str, ...] = ()

    def convert(self, records: RecordBatch) -> Converted:
        return Converted(pa.repeat(self.constant, len(records.numbers)))


AnyFeed = Feed | FromConstant


# Origins


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column of the source, or a field in one, as it is."""

    path: SourcePath

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def type(self) -> pa.DataType:
        return self.path.type

    @property
    def source_columns(self) -> tuple[str, ...]:
        """What the reader has to give."""
        return (self.path.column,)

    def __str__(self) -> str:
        return f'"{self.name}"'

    def cells(self, records: RecordBatch) -> Converted:
        cells = self.path.cells(records.columns)
        if cells.values.type != self.type:
            raise SourceError(f'Source column "{self.name}" has type {cells.values.type}, but had {self.type} before.')
        return cells


@dataclass(frozen=True, slots=True)
class RecordNumber:
    """The number of the record in its source, from 1."""

    source_columns: tuple[str, ...] = ()

    @property
    def type(self) -> pa.DataType:
        return pa.int64()

    def __str__(self) -> str:
        return "the record's number"

    def cells(self, records: RecordBatch) -> Converted:
        return Converted(pa.array(records.numbers, self.type))


@dataclass(frozen=True, slots=True)
class LineNumber:
    """The physical line where the record begins; NULL where a source has no lines."""

    source_columns: tuple[str, ...] = ()

    @property
    def type(self) -> pa.DataType:
        return pa.int64()

    def __str__(self) -> str:
        return "the record's line"

    def cells(self, records: RecordBatch) -> Converted:
        if records.lines is None:
            return Converted(pa.nulls(len(records.numbers), self.type))
        return Converted(pa.array(records.lines, self.type))


@dataclass(frozen=True, slots=True)
class Concatenation:
    """The texts of some columns, one behind the other; NULLs are left out, and of NULLs alone the result is NULL."""

    columns: tuple[SourceColumn, ...]
    separator: str

    @property
    def type(self) -> pa.DataType:
        return pa.string()

    @property
    def source_columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for column in self.columns for name in column.source_columns))

    def __str__(self) -> str:
        between = f' with "{self.separator}" between' if self.separator else ""
        return f"{' and '.join(map(str, self.columns))} joined{between}"

    def cells(self, records: RecordBatch) -> Converted:
        texts = [then(column.cells(records), cell_texts) for column in self.columns]
        refused = {place: why for converted in reversed(texts) for place, why in converted.refused.items()}
        return Converted(reduce(self._joined, [converted.values for converted in texts]), refused)

    def _joined(self, before: pa.Array, behind: pa.Array) -> pa.Array:
        # Not null_handling="skip": Arrow 26 then gives no cell at all where every one is NULL.
        return pc.coalesce(pc.binary_join_element_wise(before, behind, self.separator), before, behind)


# What is done to texts before they are converted


def cleaning(entry: ColumnSource, null_words: Sequence[str] = ()) -> Callable[[pa.Array], pa.Array] | None:
    """What ``trim``, ``case`` and ``empty_as_null`` ask for, in this order; None if they ask for nothing.

    ``null_words`` are the texts that the source's reader gives as NULL.
    """
    steps: list[Callable[[pa.Array], pa.Array]] = []
    if entry.trim:
        steps.append(pc.utf8_trim_whitespace)
    if entry.case is not None:
        steps.append(pc.utf8_upper if entry.case == "upper" else pc.utf8_lower)
    if entry.empty_as_null:
        steps.append(_without_empty)
    if entry.empty_as_null is False and "" in null_words:
        steps.append(_with_empty)
    return partial(_in_turn, steps=tuple(steps)) if steps else None


def _in_turn(texts: pa.Array, steps: tuple[Callable[[pa.Array], pa.Array], ...]) -> pa.Array:
    for step in steps:
        texts = step(texts)
    return texts


def _without_empty(texts: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _with_empty(texts: pa.Array) -> pa.Array:
    return pc.fill_null(texts, "")


def reading_words(entry: ColumnSource) -> str:
    """How the cells are read, as the end of a sentence."""
    parts = (
        f" as {' or '.join(entry.format)}" if entry.format else "",
        f" in {entry.timezone}" if entry.timezone else "",
        ", trimmed" if entry.trim else "",
        f", in {entry.case} case" if entry.case else "",
        ", empty as NULL" if entry.empty_as_null else "",
        ", a bare empty field as the empty text" if entry.empty_as_null is False else "",
        f", else {entry.default!r}" if entry.default is not None else "",
    )
    return "".join(parts)
