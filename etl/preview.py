"""The first records of a source as they are read: what shows that its dialect is told as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from etl.config import Format, Load
from etl.mapping.rows import source_texts
from etl.readers import Source, open_reader
from etl.records import Position, Reader, RecordBatch
from etl.report import aligned, cut
from etl.showing import visible

RECORDS = 3
_MOST_COLUMNS = 20  # that are shown to people; programs get all of them
_MOST_NAME = 24  # characters of a column's name
_LEAST_CELL = 8


@dataclass(frozen=True, slots=True)
class PreviewRecord:
    """One record: its texts by column, as they were read, or None and why it is a reject."""

    record: int
    line: int | None
    texts: tuple[str | None, ...] | None
    reason: str | None = None
    message: str | None = None

    @property
    def place(self) -> str:
        return f"record {self.record}" if self.line is None else f"line {self.line}"


@dataclass(frozen=True, slots=True)
class Preview:
    """The first records of ``source``; none, if it has none."""

    source: str
    columns: tuple[str, ...]
    records: tuple[PreviewRecord, ...]


def preview_of(source: Source, load: Load, format_: Format, needed: Sequence[str]) -> Preview:
    """Read the first records of a source: all columns of a CSV file, of another one those that are needed.

    Raises SourceError when it cannot be read.
    """
    reader = open_reader(source, load, format_)
    columns = tuple(reader.schema.names) if format_ == "csv" else tuple(needed)
    return Preview(source.path, columns, tuple(_first_records(reader, columns)))


def _first_records(reader: Reader, columns: Sequence[str]) -> list[PreviewRecord]:
    found: list[PreviewRecord] = []
    for batch in reader.batches(Position(), columns):
        found += _records_of(batch, columns)
        if len(found) >= RECORDS:
            break
    return found[:RECORDS]


def _records_of(batch: RecordBatch, columns: Sequence[str]) -> list[PreviewRecord]:
    numbers = batch.numbers[:RECORDS].tolist()
    lines = [None] * len(numbers) if batch.lines is None else batch.lines[:RECORDS].tolist()
    texts = [source_texts(batch.columns.column(name).slice(0, RECORDS)) for name in columns]
    read = [
        PreviewRecord(number, line, tuple(cells)) for number, line, *cells in zip(numbers, lines, *texts, strict=True)
    ]
    refused = [
        PreviewRecord(reject.record, reject.line, None, str(reject.reason), reject.message)
        for reject in batch.rejects[:RECORDS]
    ]
    return sorted([*read, *refused], key=lambda each: each.record)[:RECORDS]


def preview_lines(preview: Preview, width: int) -> Iterator[str]:
    """The records side by side, a line for each source column, no line wider than ``width``."""
    if not preview.records:
        yield f"{preview.source} has no records"
        return
    yield from (line for line in _table(preview, width))
    left = len(preview.columns) - _MOST_COLUMNS
    if left > 0:
        yield f"and {left} columns more: `--json` has all"
    for record in preview.records:
        if record.texts is None:
            yield cut(visible(f"{record.place} is rejected: {record.reason}, {record.message}"), width)


def _table(preview: Preview, width: int) -> Iterator[str]:
    names = [cut(visible(name), _MOST_NAME) for name in preview.columns[:_MOST_COLUMNS]]
    room = width - max(map(len, names)) - 2 * len(preview.records)
    widest = max(_LEAST_CELL, room // len(preview.records))
    rows = [["", *(record.place for record in preview.records)]]
    for index, name in enumerate(names):
        rows.append([name, *(cut(_cell(record, index), widest) for record in preview.records)])
    yield from (cut(line, width) for line in aligned(rows, right=()))


def _cell(record: PreviewRecord, index: int) -> str:
    """A text in quotes, so that blanks at its ends are seen; NULL without."""
    if record.texts is None:
        return "rejected" if index == 0 else ""
    text = record.texts[index]
    return "NULL" if text is None else f'"{visible(text)}"'


def preview_as_dict(preview: Preview) -> dict[str, object]:
    """The same for programs."""
    return {"source": preview.source, "records": [_record_as_dict(preview, record) for record in preview.records]}


def _record_as_dict(preview: Preview, record: PreviewRecord) -> dict[str, object]:
    values = None if record.texts is None else dict(zip(preview.columns, record.texts, strict=True))
    refused = None if record.texts is not None else {"reason": record.reason, "message": record.message}
    return {"record": record.record, "line": record.line, "values": values, "reject": refused}
