"""What is in a table's files: the type of each column, its NULLs, and which columns are a key of them.

Every record is looked at, a record batch at a time. Of a column that may be a key 8 bytes are kept for each record, and
of no more than ``MOST_VALUES`` in all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.config import Format, Load
from etl.errors import EtlError
from etl.json_cells import are_json_cells
from etl.mapping.arrow_types import type_of_arrow
from etl.mapping.column_bytes import ColumnBytes
from etl.mapping.found_types import TEXT, TypeFinder, joined_type
from etl.mapping.kinds import Reading, choose_conversion, conversion_of_texts
from etl.mapping.spelling import Spelling
from etl.mapping.unquoting import has_documents, texts_of_json
from etl.readers import Source, open_reader
from etl.records import ColumnType, Kind, Position, Reader, RecordBatch

MOST_VALUES = 20_000_000
Hashes = NDArray[np.uint64]

_LONGEST_KEY = 100  # bytes
_MOST_PAIRED = 8  # columns that are looked at in pairs
# How good a key a type makes; what is not here makes none.
_PREFERENCE = {
    kind: rank
    for rank, kinds in enumerate(
        ((Kind.SMALLINT, Kind.INTEGER, Kind.BIGINT), (Kind.UUID,), (Kind.TEXT,), (Kind.DATE, Kind.TIMESTAMP))
    )
    for kind in kinds
}
_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y", "%Y/%m/%d", "%d %b %Y", "%d-%b-%Y")
_TIMES = (" %H:%M", " %H:%M:%S")
_FORMATS = dict.fromkeys(_DATES, Kind.DATE) | {
    date + time: Kind.TIMESTAMP for date in (*_DATES[:6], "%Y/%m/%d") for time in _TIMES
}


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """A source column. ``format`` is how its dates are written, if that is in one way and not ISO's."""

    name: str
    type: ColumnType
    nulls: int
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """All sources of a table: its columns, how many records were read, how many could not be, and a key."""

    columns: tuple[ColumnProfile, ...]
    records: int
    unreadable: int
    key: tuple[str, ...] = ()

    def column(self, name: str) -> ColumnProfile:
        return next(column for column in self.columns if column.name == name)


class ProfiledTable:
    """The sources of a table, which are read once for each question."""

    def __init__(self, load: Load, sources: Sequence[tuple[Source, Format]], dialect: str) -> None:
        self._load = load
        self._sources = sources
        self._dialect = dialect

    def profile(self) -> Profile:
        """Raises SourceError for what cannot be read, TargetMismatch for a type that no column has."""
        found = self._columns()
        return replace(found, key=self._key(found))

    def hashes(self, profile: Profile, name: str, as_type: ColumnType) -> Iterator[Hashes]:
        """Of the values of a column, as values of a type; a record batch at a time, NULLs left out."""
        column = replace(profile.column(name), type=as_type)
        for records, spelling in self._batches([name]):
            yield hashes_of(_typed(records, column, spelling).drop_null())

    def _columns(self) -> Profile:
        builders: dict[str, _ColumnBuilder] = {}
        read = unreadable = 0
        for reader, format_ in self._opened():
            given = {
                name: builders.setdefault(name, _ColumnBuilder(name, TypeFinder(Spelling.of(self._load.csv, format_))))
                for name in reader.schema.names
            }
            for builder in builders.values():
                builder.begin(reader.schema, self._dialect, is_text=format_ in ("csv", "jsonl"))
            for records in reader.batches(Position(), reader.schema.names):
                read += records.read
                unreadable += len(records.rejects)
                for name, builder in given.items():
                    builder.add(records.columns.column(name))
        columns = tuple(builder.column(self._dialect, read - unreadable) for builder in builders.values())
        return Profile(columns, read, unreadable)

    def _key(self, profile: Profile) -> tuple[str, ...]:
        """The best single column that is unique and has no NULL, or the first such pair."""
        rows = profile.records - profile.unreadable
        able = [column for column in profile.columns if not column.nulls and column.type.kind in _PREFERENCE]
        able.sort(key=lambda column: _PREFERENCE[column.type.kind])
        if not rows or not able:
            return ()
        singles = self._unique(able, [(column.name,) for column in able])
        if singles:
            return singles[0]
        paired = [column.name for column in able[:_MOST_PAIRED]]
        pairs = self._unique(able, list(combinations(paired, 2)))
        order = [column.name for column in profile.columns]
        return tuple(sorted(pairs[0], key=order.index)) if pairs else ()

    def _unique(self, columns: Sequence[ColumnProfile], keys: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
        by_name = {column.name: column for column in columns}
        watched = {key: Distinct() for key in keys}
        for records, spelling in self._batches(list(by_name)):
            needed = {name for key in watched for name in key}
            values = {name: _typed(records, by_name[name], spelling) for name in needed}
            fits = {name: _is_short(array) for name, array in values.items()}
            hashed = {name: hashes_of(array) for name, array in values.items() if fits[name]}
            watched = {
                key: seen
                for key, seen in watched.items()
                if all(fits[name] for name in key) and seen.add(_combined([hashed[name] for name in key]))
            }
            watched = _affordable(watched)
            if not watched:
                break
        return [key for key in keys if key in watched and watched[key].is_distinct()]

    def _batches(self, names: Sequence[str]) -> Iterator[tuple[RecordBatch, Spelling]]:
        for reader, format_ in self._opened():
            if set(names) <= set(reader.schema.names):
                spelling = Spelling.of(self._load.csv, format_)
                yield from ((records, spelling) for records in reader.batches(Position(), names))

    def _opened(self) -> Iterator[tuple[Reader, Format]]:
        for source, format_ in self._sources:
            yield open_reader(source, self._load, format_), format_


@dataclass(slots=True)
class _ColumnBuilder:
    """What is known of a column so far."""

    name: str
    finder: TypeFinder
    values: int = 0
    given_type: ColumnType | None = None
    is_text: bool = True
    has_text: bool = False
    has_documents: bool = False
    formats: dict[str, Kind] = field(default_factory=lambda: dict(_FORMATS))

    def begin(self, schema: pa.Schema, dialect: str, *, is_text: bool) -> None:
        self.is_text = is_text
        self.has_text |= is_text
        index = schema.get_field_index(self.name)
        if not is_text and index >= 0:
            type_ = type_of_arrow(self.name, schema.field(index).type, dialect)
            self.given_type = joined_type(self.given_type or type_, type_)

    def add(self, array: pa.Array) -> None:
        self.values += len(array) - array.null_count
        if not self.is_text:
            return
        if are_json_cells(array.type):
            self.has_documents |= has_documents(array)
            array = texts_of_json(array).values
        self.finder.add(array)
        for part in (array.drop_null().slice(0, 64), array):
            self.formats = {text: kind for text, kind in self.formats.items() if _takes(part, kind, text)}

    def column(self, dialect: str, rows: int) -> ColumnProfile:
        if self.has_documents:
            return ColumnProfile(self.name, ColumnType(Kind.JSON), rows - self.values)
        type_ = self.given_type or TEXT
        if self.has_text:
            found = self.finder.found(dialect)
            type_ = joined_type(self.given_type or found, found)
        format_ = next(iter(self.formats)) if len(self.formats) == 1 and self.values and self.has_text else None
        if type_ == TEXT and format_ is not None and self.given_type is None:
            return ColumnProfile(self.name, ColumnType(self.formats[format_]), rows - self.values, format_)
        return ColumnProfile(self.name, type_, rows - self.values)


def _takes(texts: pa.Array, kind: Kind, format_: str) -> bool:
    return not conversion_of_texts(ColumnType(kind), Reading((format_,)))(texts).refused


def _typed(records: RecordBatch, column: ColumnProfile, spelling: Spelling) -> pa.Array:
    """The values as the database will compare them."""
    array = records.columns.column(column.name)
    reading = Reading((column.format,) if column.format else (), spelling=spelling)
    try:
        return choose_conversion(array.type, column.type, reading)(array).values
    except EtlError:
        return pa.nulls(len(array), pa.int64())


def _is_short(array: pa.Array) -> bool:
    return not pa.types.is_string(array.type) or ColumnBytes.of(array).longest <= _LONGEST_KEY


def _affordable(watched: dict[tuple[str, ...], Distinct]) -> dict[tuple[str, ...], Distinct]:
    """The first keys, which are the best ones, are kept where there is no memory for all."""
    kept, total = {}, 0
    for key, seen in watched.items():
        total += seen.size
        if total <= MOST_VALUES:
            kept[key] = seen
    return kept


class Distinct:
    """Values that are all different, by their hashes: two of the same are taken for the same value."""

    def __init__(self) -> None:
        self._sorted: Hashes = np.empty(0, np.uint64)
        self._pending: list[Hashes] = []
        self._pending_size = 0

    @property
    def size(self) -> int:
        return len(self._sorted) + self._pending_size

    def add(self, hashes: Hashes) -> bool:
        """False where a value comes twice, as far as it was looked."""
        self._pending.append(hashes)
        self._pending_size += len(hashes)
        return self._pending_size <= len(self._sorted) or self.is_distinct()

    def is_distinct(self) -> bool:
        merged = np.concatenate([self._sorted, *self._pending])
        self._sorted, self._pending, self._pending_size = merged, [], 0
        merged.sort()
        return not bool((merged[1:] == merged[:-1]).any())

    def has_all(self, hashes: Hashes) -> bool:
        """Whether each of these was added."""
        self.is_distinct()
        if not len(self._sorted):
            return not len(hashes)
        places = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        return bool((self._sorted[places] == hashes).all())


def hashes_of(array: pa.Array) -> Hashes:
    """64 bits for each value of a typed array without NULLs; whole numbers and times have theirs alone."""
    if pa.types.is_string(array.type):
        return _mixed(_text_hashes(array))
    if pa.types.is_date32(array.type):
        array = array.view(pa.int32())
    elif pa.types.is_timestamp(array.type):
        array = array.view(pa.int64())
    if not pa.types.is_integer(array.type):
        return _mixed(_text_hashes(array.cast(pa.string())))
    return _mixed(pc.fill_null(array.cast(pa.int64()), 0).to_numpy().view(np.uint64))


def _text_hashes(texts: pa.Array) -> Hashes:
    column = ColumnBytes.of(pc.fill_null(texts, ""))
    hashes = column.lengths.astype(np.uint64)
    for place in range(column.longest):
        longer = column.lengths > place
        bytes_ = column.data[column.starts[longer] + place].astype(np.uint64)
        hashes[longer] = _mixed(hashes[longer] ^ (bytes_ + np.uint64(place << 8)))
    return hashes


def _combined(parts: Sequence[Hashes]) -> Hashes:
    combined = parts[0]
    for part in parts[1:]:
        combined = _mixed(combined * np.uint64(0x9E3779B97F4A7C15) + part)
    return combined


def _mixed(hashes: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014), which maps no two numbers to one."""
    with np.errstate(over="ignore"):
        hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return hashes ^ (hashes >> np.uint64(31))
