"""JSON lines: one object a line. Each value is taken as the text that stands in the file, so that nothing is guessed.

msgspec checks the syntax of a line and parts it into values in one go, without reading numbers or strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import msgspec
import numpy as np
import pyarrow as pa

from etl.config import RECORD_BYTES
from etl.errors import SourceError
from etl.json_cells import json_cells
from etl.json_values import NULL, Members, may_repeat_a_key, members_of, repeated_keys, texts_of
from etl.readers.files import Location
from etl.readers.json_shapes import NOTHING, Shape, Wanted
from etl.readers.lines import BLOCK_SIZE, Lines, read_lines
from etl.records import Phase, Position, Reason, RecordBatch, Reject

MOST_COLUMNS = 32_767  # of a table of SQLite; PostgreSQL has 1,600
_MOST_CELLS = 2_000_000  # of a record batch: a record has every column, and may have given one of them
_MOST_RAW_BYTES = 64 << 10
_WHITE_SPACE = b" \t\r"


class JsonLinesReader:
    """Reads the JSON lines at ``location``; messages call them ``shown``.

    Opening it reads all of the file: its columns are the keys of all its records, in the order in which they come, and
    what is inside them is found as far as it is ``wanted``.
    ``known`` is the schema that was found so before. A line that is no JSON object, gives a key twice, has bytes that
    are no UTF-8 or is longer than ``max_record_bytes`` is a reject. Raises SourceError when the file cannot be read,
    has lines of which none is an object, or more than ``MOST_COLUMNS`` keys.
    """

    def __init__(
        self,
        location: Location,
        shown: str,
        max_record_bytes: int = RECORD_BYTES,
        known: pa.Schema | None = None,
        wanted: Wanted = NOTHING,
        *,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        self._shown = shown
        self._most_bytes = max_record_bytes
        self._read_lines = partial(read_lines, location, shown, most_bytes=max_record_bytes, block_size=block_size)
        self.schema: pa.Schema = self._schema(wanted) if known is None else known

    def batches(self, start: Position, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield the record batches behind ``start`` with the source columns ``columns``.

        A key that a record has not is NULL. Raises SourceError when the file cannot be read on.
        """
        most_lines = max(1, _MOST_CELLS // max(1, len(columns)))
        record = start.record
        for lines in self._read_lines(start):
            for part in _parts(lines, most_lines):
                batch = self._batch(part, record, columns)
                if batch.read:
                    yield batch
                record = batch.end.record

    def _schema(self, wanted: Wanted) -> pa.Schema:
        shape = Shape(wanted)
        has_lines = has_objects = False
        for lines in self._read_lines(Position()):
            parsed = _parse(lines.texts, self._most_bytes)
            has_lines |= bool(parsed.places)
            has_objects |= bool(parsed.objects)
            shape.add_objects(parsed.objects)
            if shape.most_keys > MOST_COLUMNS:
                raise SourceError(
                    f"{self._shown} has more than {MOST_COLUMNS:,} different keys, and no table has as many columns.",
                    "Write what is keyed by data as a list, or as an object in a column of its own.",
                )
        if has_lines and not has_objects:
            raise SourceError(
                f"No line of {self._shown} is a JSON object.",
                "Write one object a line, such as `jq -c '.[]'` makes of an array, in UTF-8.",
            )
        return pa.schema(list(shape.type.fields.items()) if has_objects else [])

    def _batch(self, lines: Lines, record: int, columns: Sequence[str]) -> RecordBatch:
        """The records of ``lines``, behind ``record`` others."""
        parsed = _parse(lines.texts, self._most_bytes, takes_empty=bool(self.schema.names))
        schema = pa.schema([self.schema.field(name) for name in columns])
        places = np.array(parsed.places, np.int64)
        sizes = np.fromiter(map(len, lines.texts), np.int64, len(lines.texts)) + 1
        begins = lines.offset + np.concatenate(([0], np.cumsum(sizes)))
        numbers = np.arange(record + 1, record + 1 + len(places), dtype=np.int64)
        bad = sorted(parsed.flaws)
        rejects = tuple(
            self._reject(int(numbers[index]), lines.number + int(places[index]), flaw, lines.texts[int(places[index])])
            for index, flaw in ((index, parsed.flaws[index]) for index in bad)
        )
        end = Position(record + len(places), int(begins[-1]) - 1 + (lines.passed or 1), lines.number + len(lines.texts))
        return RecordBatch(
            columns=pa.RecordBatch.from_arrays(
                [json_cells(_texts(parsed.objects, field.name), field.type) for field in schema], schema=schema
            ),
            numbers=np.delete(numbers, bad),
            lines=np.delete(places + lines.number, bad),
            rejects=rejects,
            end=end,
            consumed=lines.consumed,
            offsets=begins[:-1][places],
        )

    def _reject(self, record: int, line: int, flaw: _Flaw, text: bytes) -> Reject:
        raw, message = text.rstrip(_WHITE_SPACE), flaw.message
        most = min(_MOST_RAW_BYTES, self._most_bytes)  # of a longer line no more need have been kept
        if len(raw) > most:
            raw = raw[:most]
            message += f" (raw is cut off after {most} bytes)"
        shown = raw.decode(errors="backslashreplace").replace("\0", "\\x00")
        return Reject(record, line, Phase.READ, flaw.reason, message, raw=shown)


def _parts(lines: Lines, most: int) -> Iterator[Lines]:
    """The same, so many at a time."""
    offset = lines.offset
    for first in range(0, len(lines.texts), most):
        texts = lines.texts[first : first + most]
        is_last = first + most >= len(lines.texts)
        yield Lines(texts, offset, lines.number + first, lines.consumed, lines.passed if is_last else 0)
        offset += sum(map(len, texts)) + len(texts)


@dataclass(frozen=True, slots=True)
class _Flaw:
    """Why a line is no record that can be taken."""

    reason: Reason
    message: str


_NOT_UTF8 = _Flaw(Reason.ENCODING, "holds bytes that are not UTF-8")
_NUL = _Flaw(Reason.ENCODING, "holds a NUL byte")
_TOO_DEEP = _Flaw(Reason.SYNTAX, "is nested too deep")
_NO_OBJECT = _Flaw(Reason.SYNTAX, "is JSON, but no object")
_NO_KEY = _Flaw(Reason.SYNTAX, "is an object without a key, as are all others in the file")


@dataclass(frozen=True, slots=True)
class _Parsed:
    """``places`` are those of the lines that are records, ``flaws`` by place among these; ``objects`` are the rest."""

    places: list[int]
    objects: list[Members]
    flaws: dict[int, _Flaw]


def _parse(texts: Sequence[bytes], most_bytes: int, *, takes_empty: bool = True) -> _Parsed:
    stripped = list(map(bytes.rstrip, texts, repeat(_WHITE_SPACE)))
    places = [place for place, text in enumerate(stripped) if text] if not all(stripped) else list(range(len(texts)))
    written = stripped if len(places) == len(stripped) else [stripped[place] for place in places]
    if takes_empty and _are_texts(written, most_bytes):
        try:
            objects = list(map(members_of, written))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            if not may_repeat_a_key(written, objects):
                return _Parsed(places, objects, {})
    return _parsed_one_by_one(places, written, most_bytes, takes_empty)


def _are_texts(lines: Sequence[bytes], most_bytes: int) -> bool:
    """Whether none of them is too long and all are UTF-8; a NUL is no JSON, and found with what else is none."""
    return max(map(len, lines), default=0) <= most_bytes and _is_utf8(b"\n".join(lines))


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parsed_one_by_one(places: list[int], lines: Sequence[bytes], most_bytes: int, takes_empty: bool) -> _Parsed:
    objects, flaws = [], {}
    for index, line in enumerate(lines):
        found = _read(line, most_bytes)
        if isinstance(found, dict) and not found and not takes_empty:
            found = _NO_KEY
        if isinstance(found, _Flaw):
            flaws[index] = found
        else:
            objects.append(found)
    return _Parsed(places, objects, flaws)


def _read(line: bytes, most_bytes: int) -> Members | _Flaw:
    if len(line) > most_bytes:
        return _Flaw(Reason.TOO_LONG, f"longer than {most_bytes:,} bytes (max_record_bytes)")
    if not _is_utf8(line):
        return _NOT_UTF8
    if b"\0" in line:
        return _NUL
    try:
        values = members_of(line)
    except msgspec.ValidationError:
        return _NO_OBJECT
    except msgspec.DecodeError as error:
        return _Flaw(Reason.SYNTAX, f"is no valid JSON: {str(error).removeprefix('JSON is malformed: ')}")
    except RecursionError:
        return _TOO_DEEP
    repeated = repeated_keys(line) if may_repeat_a_key([line], [values]) else []
    return _Flaw(Reason.SYNTAX, f"gives the key {', '.join(repeated)} more than once") if repeated else values


def _texts(objects: Sequence[Members], key: str) -> pa.Array:
    """The texts of the values of a key, NULL where there is none."""
    return texts_of(list(map(dict.get, objects, repeat(key), repeat(NULL))))
