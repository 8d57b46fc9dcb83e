"""How a CSV file is written, found by reading its first records in each of the ways that it may be."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from etl.config import Csv, Load
from etl.errors import EtlError
from etl.mapping.found_types import TEXT, TypeFinder
from etl.mapping.spelling import USUAL, Spelling
from etl.readers import Source, open_decompressed, open_reader
from etl.records import ColumnType, Position, RecordBatch

DELIMITERS = (",", ";", "\t", "|")
QUOTES = ('"', "'", "")
CODE_PAGES = ("cp1252", "latin-1")
MOST_RECORDS = 10_000  # that are read in each way
_GOOD_SHARE = 0.9  # of the records
_SOME_SHARE = 0.5
_CHUNK = 1 << 20
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NOT_IN_CP1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")


def find_dialect(source: Source) -> Csv:
    """The dialect of a CSV source. Raises SourceError when it cannot be read at all."""
    encoding = _find_encoding(source)
    delimiter, quote = _find_marks(source, encoding)
    dialect = Csv(delimiter=delimiter, quote=quote, encoding=encoding, header=False)
    dialect = dialect.model_copy(update={"header": _has_header(source, dialect)})
    decimal, thousands = _find_spelling(source, dialect)
    return dialect.model_copy(update={"decimal": decimal, "thousands": thousands})


def _find_encoding(source: Source) -> str:
    """UTF-8, unless more of what is not ASCII is no UTF-8 than is: then the code page of Western Windows or Latin 1."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    others = broken = 0
    undefined = False
    for number, chunk in enumerate(_chunks(source)):
        if number == 0 and (marked := next((name for mark, name in _MARKS if chunk.startswith(mark)), None)):
            return marked
        text = decoder.decode(chunk)
        if text.isascii() and chunk.isascii():
            continue
        others += sum(not character.isascii() for character in text)
        broken += text.count("\ufffd")
        undefined = undefined or not _NOT_IN_CP1252.isdisjoint(chunk)
    if 2 * broken <= others:
        return "utf-8"
    return CODE_PAGES[1 if undefined else 0]


def _chunks(source: Source) -> Iterator[bytes]:
    with open_decompressed(source.location, source.path) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a delimiter and a quote make of the first records."""

    delimiter: str
    quote: str
    columns: int
    good_share: float

    @property
    def rank(self) -> tuple[int, int, float]:
        """Many columns in nearly all records, then in some of them, then one column."""
        if self.columns < 2 or self.good_share < _SOME_SHARE:
            return 0, 0, self.good_share
        return (2, self.columns, self.good_share) if self.good_share >= _GOOD_SHARE else (1, 0, self.good_share)


def _find_marks(source: Source, encoding: str) -> tuple[str, str]:
    """The delimiter that parts nearly all records into the same number of columns, the more the better.

    Another quote than the usual one needs a reason: values that are all in it, or too many records that are bad.
    """
    best = _best_reading(source, QUOTES[0], encoding)
    if best is None:
        return DELIMITERS[0], QUOTES[0]
    for quote in QUOTES[1:]:
        if _are_quoted_by(source, quote, best, encoding) if quote else best.good_share < _SOME_SHARE:
            other = _best_reading(source, quote, encoding)
            best = other if other is not None and other.good_share >= max(_GOOD_SHARE, best.good_share) else best
    return best.delimiter, best.quote


def _best_reading(source: Source, quote: str, encoding: str) -> _Reading | None:
    dialects = [Csv(delimiter=mark, quote=quote, encoding=encoding, header=False) for mark in DELIMITERS]
    readings = [reading for dialect in dialects if (reading := _read_so(source, dialect)) is not None]
    return max(readings, key=lambda reading: reading.rank, default=None)


def _are_quoted_by(source: Source, quote: str, best: _Reading, encoding: str) -> bool:
    """Whether the values of a column, but for its name, are all in ``quote``, which is then no part of them."""
    dialect = Csv(delimiter=best.delimiter, quote=best.quote, encoding=encoding, header=False)
    records = _first_records(source, dialect)
    return any(
        len(values) > 1 and all(len(value) > 1 and value[0] == value[-1] == quote for value in values)
        for batch in records[:1]
        for column in batch.columns.columns
        if (values := [value for value in column.slice(1, 100).to_pylist() if value])
    )


def _read_so(source: Source, dialect: Csv) -> _Reading | None:
    try:
        records = _first_records(source, dialect)
    except EtlError:
        return None
    read = sum(batch.read for batch in records)
    good = sum(len(batch.numbers) for batch in records)
    columns = records[0].columns.num_columns if records else 0
    return _Reading(dialect.delimiter, dialect.quote, columns, good / read) if read else None


def _first_records(source: Source, dialect: Csv) -> list[RecordBatch]:
    """So many records at least, if there are so many."""
    load = Load(source=("-",), table="x", csv=dialect)
    reader = open_reader(source, load, "csv")
    found: list[RecordBatch] = []
    for batch in reader.batches(Position(), reader.schema.names):
        found.append(batch)
        if batch.end.record >= MOST_RECORDS:
            break
    return found


def _has_header(source: Source, dialect: Csv) -> bool:
    """Whether the first record is one of names: it is, unless it goes with the types of all others."""
    records = _first_records(source, dialect)
    if not records or not records[0].columns.num_rows:
        return True
    first = [column[0].as_py() for column in records[0].columns.columns]
    if int(records[0].numbers[0]) != 1:
        return True
    types = list(_types_behind_first(records))
    fits = [_goes_with(value, column) for value, column in zip(first, types, strict=True)]
    return not any(fit is True for fit in fits) or any(fit is False for fit in fits)


def _types_behind_first(records: Sequence[RecordBatch]) -> Iterator[list[pa.Array]]:
    for index in range(records[0].columns.num_columns):
        arrays = [batch.columns.column(index) for batch in records]
        yield [arrays[0].slice(1), *islice(arrays, 1, None)]


def _goes_with(value: str | None, others: list[pa.Array]) -> bool | None:
    """Whether a value has the type of the others; None where that is text, which says nothing."""
    alone, together = TypeFinder(), TypeFinder()
    for array in others:
        alone.add(array)
        together.add(array)
    together.add(pa.array([value], pa.string()))
    if alone.found("postgresql") == TEXT:
        return None
    return together.found("postgresql") != TEXT


# How numbers may be written, and what cannot be written otherwise: "1,234" and "1.234" say nothing.
_SPELLINGS = {
    (",", ""): r"\A[+-]?[0-9]*,(?:[0-9]{1,2}|[0-9]{4,})\z",
    (",", "."): r"\A[+-]?[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+\z",
    (".", ","): r"\A[+-]?[0-9]{1,3}(?:(?:,[0-9]{3})+\.[0-9]+|(?:,[0-9]{3}){2,})\z",
    (".", "'"): r"\A[+-]?[0-9]{1,3}(?:'[0-9]{3})+(?:\.[0-9]+)?\z",
    (",", " "): r"\A[+-]?[0-9]{1,3}(?: [0-9]{3})+,[0-9]+\z",
}


def _find_spelling(source: Source, dialect: Csv) -> tuple[str, str]:
    """The decimal point and the separator of thousands: those that make numbers of most columns which are texts with
    the usual ones, and leave all other columns what they are."""
    try:
        records = _first_records(source, dialect)
    except EtlError:
        return ".", ""
    names = records[0].columns.schema.names if records else []
    columns = [[batch.columns.column(place) for batch in records] for place in range(len(names))]
    usual = [_type_found(column, USUAL) for column in columns]
    gains: dict[tuple[str, str], int] = {}
    for (decimal, thousands), proof in _SPELLINGS.items():
        types = [_type_found(column, Spelling(decimal, thousands)) for column in columns]
        changed = [place for place, type_ in enumerate(types) if type_ != usual[place]]
        is_proven = any(_has_proof(columns[place], proof) for place in changed)
        if is_proven and all(usual[place] == TEXT for place in changed):
            gains[decimal, thousands] = len(changed)
    return max(gains, key=lambda spelling: gains[spelling], default=(".", ""))


def _type_found(column: Sequence[pa.Array], spelling: Spelling) -> ColumnType:
    finder = TypeFinder(spelling)
    for array in column:
        finder.add(array)
    return finder.found("postgresql")


def _has_proof(column: Sequence[pa.Array], pattern: str) -> bool:
    return any(pc.any(pc.match_substring_regex(array, pattern)).as_py() for array in column)
