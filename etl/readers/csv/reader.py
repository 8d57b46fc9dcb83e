"""The CSV reader: a file's header, then its records as numbered batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from etl.config import RECORD_BYTES
from etl.errors import SourceError
from etl.readers.csv.framing import Flaw, Frames, frame_well_formed
from etl.readers.csv.grammar import Dialect, make_grammar
from etl.readers.csv.header import read_opening
from etl.readers.csv.parsing import Parser
from etl.readers.csv.scanning import Scanned, Scanner
from etl.readers.csv.text import Encoding, Text
from etl.readers.files import Location
from etl.records import Phase, Position, RecordBatch, Reject

BLOCK_SIZE = 8 << 20
FIRST_BLOCK_SIZE = 1 << 20  # doubled up to BLOCK_SIZE: what waits for the first batch need not wait long
MOST_COLUMNS = 32_767  # of a table of SQLite; PostgreSQL has 1,600
_MOST_RAW_BYTES = 64 << 10


class CsvReader:
    """A CSV file, opened: its header has been read, or without one the number of fields of its first record.

    ``names`` are the columns of a file without a header; None names them f1, f2, … A record of more than
    ``max_record_bytes`` is a reject; a few times as much is the most text that is held in memory.

    Raises ConfigError for a dialect that cannot be used, SourceError for a file that cannot be read, has no
    header or one with a bad quote, bytes that are no text or a name twice, has more than ``MOST_COLUMNS``
    columns, or whose first record has not as many fields as ``names``.
    """

    def __init__(
        self,
        source_path: Location,
        shown: str,
        dialect: Dialect,
        *,
        names: tuple[str, ...] | None = None,
        block_size: int = BLOCK_SIZE,
        max_record_bytes: int = RECORD_BYTES,
    ) -> None:
        self._location = source_path
        self._shown = shown
        self._block_size = block_size
        self._encoding = Encoding(dialect.encoding)
        self._grammar = make_grammar(dialect)
        with self._text() as text:
            opening = read_opening(text, shown, dialect, self._grammar, block_size, max_record_bytes)
        self._begin = opening.begin
        header = self._names(names, opening.fields) if opening.names is None else opening.names
        expectation = "expected" if opening.names is None else "the header has"
        if len(header) > MOST_COLUMNS:
            raise SourceError(
                f"{shown} has {len(header)} columns, and no table has more than {MOST_COLUMNS}.",
                "Correct `delimiter` in [load.csv], or the file.",
            )
        self._parser = Parser(dialect, self._grammar, header, expectation)
        self._scanner = Scanner.make(self._grammar, len(header), max_record_bytes)

    @property
    def schema(self) -> pa.Schema:
        """The columns in file order, all of them strings."""
        schema: pa.Schema = self._parser.schema
        return schema

    def batches(self, start: Position, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield the record batches behind ``start``, always with all columns.

        ``start`` is the beginning, ``Position()``, or the ``end`` of a batch. Raises SourceError when the
        file cannot be read on.
        """
        place = self._begin if start == Position() else start
        size = min(FIRST_BLOCK_SIZE, self._block_size)
        with self._text(place.offset) as text:
            while (scanned := self._next_frames(text, size)) is not None:
                size = min(2 * size, self._block_size)
                frames = scanned.frames
                end = Position(
                    place.record + len(frames),
                    place.offset + len(frames.text),
                    place.line + frames.line_count,
                )
                if scanned.cut_short:
                    passed, lines = self._scanner.skip_record(text, self._block_size, scanned.within_quotes)
                    end = replace(end, offset=end.offset + passed, line=end.line + lines)
                if len(frames):
                    yield self._batch(frames, place, end, text.consumed())
                place = end

    def _text(self, offset: int = 0) -> Text:
        return Text(self._location, self._shown, self._encoding, offset, self._grammar.escapes)

    def _next_frames(self, text: Text, size: int) -> Scanned | None:
        """Take the records of the next block of ``size`` bytes off the text; None at its end."""
        while True:
            text.fill(size)
            if not text.left:
                return None
            scanned = self._frames(text, size)
            if scanned.frames.text:
                text.at += len(scanned.frames.text)
                return scanned
            size *= 2

    def _frames(self, text: Text, size: int) -> Scanned:
        is_final = text.is_complete and text.left <= size
        block = text.data[text.at : text.at + size]
        raw = self._raw_of(block, text)
        frames = frame_well_formed(block, raw, self._grammar, is_final, len(self.schema) == 1)
        if frames is not None and self._has_no_long_record(frames, size):
            decided = self._scanner.decided(frames, is_final and len(frames.text) == len(block))
            if decided.text or size <= self._scanner.most_bytes:  # else what goes on behind may be too long
                return Scanned(decided)
        return self._scanner.scan(text, size)

    def _raw_of(self, block: bytes, text: Text) -> bytes:
        """Return the block with its escapes: the same one, if there are none in it."""
        if self._grammar.escapes is None:
            return block
        raw = text.raw[text.at : text.at + len(block)]
        return raw if self._grammar.escapes.are_in(raw) else block

    def _has_no_long_record(self, frames: Frames, size: int) -> bool:
        most = self._scanner.most_bytes
        if not frames.text:
            # Not one record is complete: it may be longer than the block, and than may be.
            return size <= most
        return size <= most or not len(frames) or int((frames.ends - frames.starts).max()) <= most

    def _batch(self, frames: Frames, place: Position, end: Position, consumed: int) -> RecordBatch:
        parsed = self._parser.parse(frames)
        numbers = np.arange(place.record + 1, place.record + 1 + len(frames), dtype=np.int64)
        lines = frames.lines + place.line
        bad = sorted(parsed.flaws)
        rejects = tuple(
            self._reject(number, line, parsed.flaws[index], frames.raw[begin:behind])
            for index, number, line, begin, behind in zip(
                bad,
                *(values[bad].tolist() for values in (numbers, lines, frames.starts, frames.ends)),
                strict=True,
            )
        )
        if bad:
            numbers, lines = np.delete(numbers, bad), np.delete(lines, bad)
        offsets = frames.starts + place.offset
        return RecordBatch(parsed.columns, numbers, lines, rejects, end, consumed, offsets)

    def _reject(self, record: int, line: int, flaw: Flaw, text: bytes) -> Reject:
        raw = text.rstrip(b"\r\n")
        message = flaw.message
        if len(raw) > _MOST_RAW_BYTES:
            raw = _cut_off(raw, _MOST_RAW_BYTES)
            message += f" (raw is cut off after {len(raw)} bytes)"
        return Reject(record, line, Phase.READ, flaw.reason, message, raw=self._encoding.show(raw))

    def _names(self, names: tuple[str, ...] | None, fields: int | None) -> tuple[str, ...]:
        """Return the names of a file without a header whose first record has so many fields."""
        if names is None and fields is None:
            raise SourceError(
                f"The number of columns of {self._shown} cannot be told from its first record.",
                "Name the columns in the config, or correct the file.",
            )
        if names is None:
            return tuple(f"f{number}" for number in range(1, (fields or 0) + 1))
        if fields is not None and fields != len(names):
            raise SourceError(
                f"The first record of {self._shown} has {fields} fields, but {len(names)} are named.",
                "Name as many columns as the file has, or correct `delimiter`.",
            )
        return names


def _cut_off(text: bytes, size: int) -> bytes:
    """Return ``size`` bytes of UTF-8 text, up to three fewer so that no character is parted."""
    for end in range(size, size - 4, -1):
        if text[end] & 0xC0 != 0x80:
            return text[:end]
    return text[:size]
