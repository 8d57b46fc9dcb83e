"""Framed records to columns of strings with pyarrow; records with a flaw are left out and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from etl.errors import AccountingError
from etl.readers.csv.escapes import Escapes
from etl.readers.csv.framing import Flaw, Frames
from etl.readers.csv.grammar import Dialect, Grammar
from etl.readers.csv.text import BOM
from etl.records import Reason

_NUL = Flaw(Reason.ENCODING, "holds a NUL byte")
_NOT_ESCAPED = Flaw(Reason.ESCAPE, "an escape before a character that needs none, or before nothing")


@dataclass(frozen=True, slots=True)
class Parsed:
    """``columns`` has a row for each record but those whose index is in ``flaws``."""

    columns: pa.RecordBatch
    flaws: dict[int, Flaw]


class Parser:
    """Splits records into fields. ``expectation`` says in messages where the number of columns comes from."""

    def __init__(self, dialect: Dialect, grammar: Grammar, names: tuple[str, ...], expectation: str) -> None:
        self.schema = pa.schema([(name, pa.string()) for name in names])
        self._dialect = dialect
        self._grammar = grammar
        self._expectation = expectation
        self._convert = arrow_csv.ConvertOptions(
            column_types=self.schema,
            null_values=_null_words(dialect.null, grammar.escapes),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            check_utf8=False,  # parse() has seen to it, for a third of the time
        )

    def parse(self, frames: Frames) -> Parsed:
        """Return the columns of the good records and the flaws of the others.

        Raises AccountingError when pyarrow finds another number of records than there are frames.
        """
        flaws = dict(frames.flaws)
        if b"\0" in frames.raw or not _are_utf8(frames.raw):
            self._add_flaws_of_text(frames, flaws)
        escapes = None if frames.raw is frames.text else self._grammar.escapes
        if escapes is not None:
            self._add_wrong_counts(frames, escapes, flaws)
        good = _indices_without(len(frames), flaws)
        if not good.size:
            return Parsed(self._empty(), flaws)
        wrong: dict[int, Flaw] = {}
        columns = self._read(_joined(frames, good, bool(flaws), self._dialect.comment != ""), wrong)
        if columns.num_rows + len(wrong) != good.size:
            raise AccountingError(
                f"{good.size} records were framed, but pyarrow read {columns.num_rows + len(wrong)}.",
                "This is a bug of etl: please report it, with the file if you can.",
            )
        flaws.update((int(good[row]), flaw) for row, flaw in wrong.items())
        if escapes is None:
            return Parsed(columns, flaws)
        return self._unescaped(columns, np.delete(good, list(wrong)), escapes, flaws)

    def _add_wrong_counts(self, frames: Frames, escapes: Escapes, flaws: dict[int, Flaw]) -> None:
        """Add the records with escapes and another number of fields: pyarrow cannot tell of masked text."""
        masked = _records_at(escapes.masks_in(frames.text), frames)
        if not masked:
            return
        suspects = np.array(masked)[self._may_have_wrong_count(frames)[masked]]
        for index in suspects.tolist():
            fields = len(self._grammar.split(frames.text[frames.starts[index] : frames.ends[index]]))
            if fields != len(self.schema):
                flaws.setdefault(index, self._wrong_count(fields))

    def _may_have_wrong_count(self, frames: Frames) -> NDArray[np.bool_]:
        """Say of each record whether it may have another number of fields, by its delimiters outside of quotes."""
        block = np.frombuffer(frames.text, np.uint8)
        quotes = np.flatnonzero(block == self._grammar.quote[0]) if self._grammar.quote else np.empty(0, np.int64)
        delimiters = np.flatnonzero(block == self._grammar.delimiter[0])
        records = np.searchsorted(frames.starts, delimiters, side="right") - 1
        quotes_before = np.searchsorted(quotes, frames.starts)
        inside = (records >= 0) & (delimiters < frames.ends[records])  # not in a comment
        inside &= (np.searchsorted(quotes, delimiters) - quotes_before[records]) % 2 == 0
        counts = np.bincount(records[inside], minlength=len(frames))
        suspect: NDArray[np.bool_] = counts != len(self.schema) - 1
        if not self._grammar.strict_quotes:
            suspect |= np.searchsorted(quotes, frames.ends) > quotes_before  # one may be data
        return suspect

    def _unescaped(
        self, columns: pa.RecordBatch, records: NDArray[np.int64], escapes: Escapes, flaws: dict[int, Flaw]
    ) -> Parsed:
        """Return what was parsed without its escapes; ``records`` are the indices of the rows."""
        unmasked = [escapes.unmask_column(column) for column in columns.columns]
        bad = np.unique(np.concatenate([rows for _, rows in unmasked]))
        columns = pa.RecordBatch.from_arrays([column for column, _ in unmasked], schema=self.schema)
        if bad.size:
            good = np.ones(len(records), np.bool_)
            good[bad] = False
            columns = columns.filter(pa.array(good))
            flaws.update(dict.fromkeys(records[bad].tolist(), _NOT_ESCAPED))
        return Parsed(columns, flaws)

    def _empty(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=self.schema)

    def _add_flaws_of_text(self, frames: Frames, flaws: dict[int, Flaw]) -> None:
        block = np.frombuffer(frames.raw, np.uint8)
        for index in _records_at(np.flatnonzero(block == 0), frames):
            flaws.setdefault(index, _NUL)
        invalid = Flaw(Reason.ENCODING, f"holds bytes that are not {self._dialect.encoding}")
        for index in _records_at(np.flatnonzero(block >= 0x80), frames):
            if not _is_utf8(frames.raw[frames.starts[index] : frames.ends[index]]):
                flaws.setdefault(index, invalid)

    def _read(self, text: bytes, wrong: dict[int, Flaw]) -> pa.RecordBatch:
        # pyarrow takes a BOM off every block, and this one may begin with a value that has one.
        if text.startswith(BOM):
            text = BOM + text
        # Without a line end pyarrow takes the last field for quoted if another one is: ``"",`` has no NULL.
        if not text.endswith((b"\n", b"\r")):
            text += b"\n"
        table = arrow_csv.read_csv(
            pa.BufferReader(text),
            # One block, one thread: pyarrow numbers the invalid rows only then.
            read_options=arrow_csv.ReadOptions(
                use_threads=False, column_names=self.schema.names, block_size=len(text) + 1
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self._dialect.delimiter,
                quote_char=self._dialect.quote or False,
                double_quote=self._dialect.doubled_quotes,
                newlines_in_values=True,
                ignore_empty_lines=len(self.schema) > 1,
                invalid_row_handler=self._collect_wrong_counts(wrong),
            ),
            convert_options=self._convert,
        )
        batches = table.to_batches()
        return batches[0] if len(batches) == 1 else self._combined(table)

    def _combined(self, table: pa.Table) -> pa.RecordBatch:
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else self._empty()

    def _collect_wrong_counts(self, wrong: dict[int, Flaw]) -> Callable[[Any], str]:
        def collect(row: Any) -> str:
            # Rows are numbered from 1, invalid ones counted, blank lines not.
            wrong[row.number - 1] = self._wrong_count(row.actual_columns)
            return "skip"

        return collect

    def _wrong_count(self, fields: int) -> Flaw:
        counted = "1 field" if fields == 1 else f"{fields} fields"
        return Flaw(Reason.COLUMN_COUNT, f"has {counted}, {self._expectation} {len(self.schema)}")


def _are_utf8(text: bytes) -> bool:
    """Whether all of a block is valid UTF-8; Arrow sees it ten times as fast as Python, which makes a str of it."""
    places = pa.py_buffer(np.array([0, len(text)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, places, pa.py_buffer(text)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _records_at(places: NDArray[np.int64], frames: Frames) -> list[int]:
    """Return the indices of the records in which the places are; a place in a comment is in none."""
    indices = np.searchsorted(frames.starts, places, "right") - 1
    inside = indices >= 0
    inside[inside] = places[inside] < frames.ends[indices[inside]]
    found: list[int] = np.unique(indices[inside]).tolist()
    return found


def _indices_without(count: int, flaws: dict[int, Flaw]) -> NDArray[np.int64]:
    good = np.ones(count, np.bool_)
    good[list(flaws)] = False
    return np.flatnonzero(good)


def _joined(frames: Frames, good: NDArray[np.int64], is_partial: bool, may_have_comments: bool) -> bytes:
    """Return the text of the good records: all of the text, or runs of good records put together."""
    if not is_partial and not may_have_comments:
        return frames.text
    starts, ends = frames.starts[good], frames.ends[good]
    parts = starts[1:] != ends[:-1] if may_have_comments else np.diff(good) > 1
    edges = [0, *(np.flatnonzero(parts) + 1).tolist(), len(good)]
    starts, ends = starts.tolist(), ends.tolist()
    return b"".join(_ending_in_feed(frames.text[starts[first] : ends[after - 1]]) for first, after in pairwise(edges))


def _null_words(words: tuple[str, ...], escapes: Escapes | None) -> list[str] | list[bytes]:
    """Return what means NULL as it stands in the text that is parsed."""
    return list(words) if escapes is None else [escapes.mask(word.encode()) for word in words]


def _ending_in_feed(run: bytes) -> bytes:
    """Return a run of records, its last CR made CR LF, which an LF put behind it would make of it."""
    return run + b"\n" if run.endswith(b"\r") else run
