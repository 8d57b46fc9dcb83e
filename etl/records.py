"""The values that the parts hand each other: records, rows, verdicts, counts and results.

Everything here is frozen. The words are those of the glossary in ``docs/glossary.md``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from etl.errors import AccountingError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


class Verdict(enum.IntEnum):
    """What became of a record."""

    WRITTEN = 0
    UPDATED = 1
    UNCHANGED = 2
    DUPLICATE = 3
    REJECTED = 4
    FILTERED = 5


class Phase(enum.StrEnum):
    """Where a record was refused. ``DUPLICATE`` is used with ``record_duplicates`` only.

    ``CHILD`` is for an element of a list that was left out of its record, which itself was written.
    """

    READ = "read"
    MAP = "map"
    WRITE = "write"
    DUPLICATE = "duplicate"
    CHILD = "child"


class Reason(enum.StrEnum):
    """Why a record was refused, in words that do not change with the database or its language."""

    UNIQUE = "unique"
    FOREIGN_KEY = "foreign_key"
    NOT_NULL = "not_null"
    CHECK = "check"
    EXCLUSION = "exclusion"
    CONSTRAINT = "constraint"  # class 23 that is none of the above, such as a trigger's RAISE(ABORT)
    TYPE = "type"
    RANGE = "range"
    TOO_LONG = "too_long"
    DATA = "data"  # class 22 that is none of the above
    COMPUTE = "compute"  # a function that the config names fails for the record
    TRANSFORM = "transform"  # the user's function names the record
    COLUMN_COUNT = "column_count"
    ENCODING = "encoding"
    QUOTE = "quote"
    ESCAPE = "escape"
    SYNTAX = "syntax"  # a line that is no JSON object


class Kind(enum.Enum):
    """The types of target columns, each with one Arrow type that the mapper gives and every writer takes."""

    SMALLINT = "smallint"  # int16
    INTEGER = "integer"  # int32
    BIGINT = "bigint"  # int64
    NUMERIC = "numeric"  # decimal128(precision, scale) when precision <= 38, else string in plain decimal notation
    REAL = "real"  # float32
    DOUBLE = "double precision"  # float64
    BOOLEAN = "boolean"  # bool
    DATE = "date"  # date32, years 1 to 9999
    TIME = "time"  # time64[us]
    TIMESTAMP = "timestamp"  # timestamp[us], years 1 to 9999
    TIMESTAMPTZ = "timestamp with time zone"  # timestamp[us, tz=UTC]
    TEXT = "text"  # string; length: most characters
    CHAR = "char"  # string; length: most characters
    UUID = "uuid"  # string, 36 characters, lower case
    JSON = "json"  # string, valid JSON text exactly as it came
    BYTES = "bytes"  # binary
    ENUM = "enum"  # string, one of labels
    OTHER = "other"  # string: the database reads it and its error is a reject


@dataclass(frozen=True, slots=True)
class ColumnType:
    """The type of a target column and the limits that go with it.

    ``exact_digits`` is the number of significant decimal digits that the database stores exactly in a NUMERIC
    (15 on SQLite, which keeps an 8-byte float; None: no limit). ``has_nan`` says whether NaN can be stored
    (SQLite stores NULL in its place).
    """

    kind: Kind
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    labels: tuple[str, ...] = ()
    exact_digits: int | None = None
    has_nan: bool = True


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the target table."""

    name: str
    type: ColumnType
    nullable: bool = True
    has_default: bool = False
    is_primary_key: bool = False
    is_generated: bool = False  # GENERATED ALWAYS AS (…): no value can be given


@dataclass(frozen=True, slots=True)
class Position:
    """How far a source has been read: ``record`` records, ``offset`` bytes of its decoded text, up to ``line``.

    ``offset`` and ``line`` (the physical line that comes next, from 1) are for CSV and JSON lines; Parquet and Arrow
    need the record alone.
    """

    record: int = 0
    offset: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Reject:
    """A refused record with its place and the reason: one line of ``etl rejects``.

    ``values`` are the source's own texts by source column name; ``raw`` is the record's own text where it could not
    be split into fields, bytes that are no text written as ``\\xNN``.
    """

    record: int
    line: int | None
    phase: Phase
    reason: Reason
    message: str
    sqlstate: str | None = None
    constraint: str | None = None
    column: str | None = None
    values: dict[str, str | None] | None = None
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """A bounded number of records of one source.

    ``columns`` holds the records that could be split into fields, one row each: strings for CSV, JSON cells for JSON
    lines, the file's own types for Parquet and Arrow. ``numbers`` and ``lines`` give for each of these rows the
    record's number and physical line (``lines`` is None for Parquet and Arrow). ``rejects`` are the records that could
    not be read. ``end`` is the position behind the last record, ``consumed`` the bytes of the file (as stored, so
    compressed ones) read by then. ``offsets`` holds for files of lines where each record begins, the rejects among
    them, as ``Position.offset`` counts.
    """

    columns: pa.RecordBatch
    numbers: NDArray[np.int64]
    lines: NDArray[np.int64] | None
    rejects: tuple[Reject, ...]
    end: Position
    consumed: int
    offsets: NDArray[np.int64] | None = None

    @property
    def read(self) -> int:
        """Records in this batch, those that could not be read among them."""
        return len(self.numbers) + len(self.rejects)

    def line_of(self, index: int) -> int | None:
        return None if self.lines is None else int(self.lines[index])


@dataclass(frozen=True, slots=True)
class Rows:
    """The mapped rows of a record batch.

    ``columns`` has one Arrow column for each target column that the source gives, in the Arrow type of its ``Kind``;
    ``indices`` gives for each row its row in ``RecordBatch.columns``; ``rejects`` are the records that could not be
    mapped, ``filtered`` is the number of those that were left out on purpose.
    """

    columns: pa.RecordBatch
    indices: NDArray[np.int64]
    rejects: tuple[Reject, ...]
    filtered: int = 0
    orphans: tuple[Orphan, ...] = ()  # elements of lists that could not be mapped, where they cost themselves alone
    nested: RecordBatch | None = None  # what the lists are in, where a transform has returned other records


@dataclass(frozen=True, slots=True)
class Encoded:
    """The data of a COPY. ``chunks`` hold ``chunk_rows`` rows each, the last one what is left; each can go without
    the others."""

    head: bytes
    chunks: tuple[bytes, ...]
    tail: bytes
    chunk_rows: int

    def __iter__(self) -> Iterator[bytes]:
        return iter((self.head, *self.chunks, self.tail))

    def part(self, first: int, chunks: int) -> Encoded:
        """The COPY of so many chunks alone, from the ``first`` one on."""
        return Encoded(self.head, self.chunks[first : first + chunks], self.tail, self.chunk_rows)


@dataclass(frozen=True, slots=True)
class Cause:
    """The database's word on a row that it refuses.

    ``is_elsewhere`` says that a unique constraint which is broken is not the key that the load means, or not one of the
    record's own table: that makes no duplicate.
    """

    reason: Reason
    message: str
    sqlstate: str | None = None
    constraint: str | None = None
    column: str | None = None
    is_elsewhere: bool = False

    @property
    def verdict(self) -> Verdict:
        return Verdict.DUPLICATE if self.reason is Reason.UNIQUE and not self.is_elsewhere else Verdict.REJECTED


@dataclass(frozen=True, slots=True)
class Orphan:
    """An element of a list that was left out: ``index`` is its record's place in ``Rows.columns``.

    ``path`` leads to it: the name of the children and the place in their list, from 1, of it and what it is in.
    """

    index: int
    path: tuple[tuple[str, int], ...]
    cause: Cause

    @property
    def name(self) -> str:
        """The name of the children, such as ``lines``, and of those that they are in before it."""
        return ".".join(name for name, _ in self.path)


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """What became of the elements of lists: ``read = written + found + rejected + skipped``.

    ``found`` are shared ones that were there already, ``rejected`` those that were left out of records which were
    written, ``skipped`` those of records, or of elements, that were not written.
    """

    read: int = 0
    written: int = 0
    found: int = 0
    rejected: int = 0
    skipped: int = 0

    def __add__(self, other: ChildCounts) -> ChildCounts:
        return ChildCounts(
            self.read + other.read,
            self.written + other.written,
            self.found + other.found,
            self.rejected + other.rejected,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused row: ``index`` is its place in ``Rows.columns``."""

    index: int
    cause: Cause

    @property
    def verdict(self) -> Verdict:
        return self.cause.verdict

    @property
    def reason(self) -> Reason:
        return self.cause.reason

    @property
    def message(self) -> str:
        return self.cause.message

    @property
    def sqlstate(self) -> str | None:
        return self.cause.sqlstate

    @property
    def constraint(self) -> str | None:
        return self.cause.constraint

    @property
    def column(self) -> str | None:
        return self.cause.column


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows that are refused for the same cause, by their places in ``Rows.columns``."""

    places: NDArray[np.int64]
    cause: Cause


def summed(parts: Iterable[Mapping[str, ChildCounts]]) -> dict[str, ChildCounts]:
    """The counts of all parts together, by the name of the children."""
    total: dict[str, ChildCounts] = {}
    for part in parts:
        for name, counts in part.items():
            total[name] = total.get(name, ChildCounts()) + counts
    return total


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a writer did with the rows it was given: those neither refused, updated nor unchanged are written.

    ``settled`` is the number of pieces whose verdicts had to be found row by row. Of the rows that are not refused
    ``updated`` have changed a row that was there, or took its place, and ``unchanged`` have found one that they need
    not change. ``children`` counts, by the name of the children, the elements that are written and those that were
    found; ``orphans`` are those that were left out.
    """

    rows: int
    refused: tuple[Refused, ...] = ()
    settled: int = 0
    updated: int = 0
    unchanged: int = 0
    orphans: tuple[Orphan, ...] = ()
    children: Mapping[str, ChildCounts] = field(default_factory=dict)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Each refused row by itself, in the order of the rows."""
        found = [Refusal(int(place), group.cause) for group in self.refused for place in group.places]
        return tuple(sorted(found, key=lambda refusal: refusal.index))


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records met which verdict. ``check`` is rule 2: the counts add up."""

    read: int = 0
    written: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0
    rejected: int = 0
    filtered: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.read + other.read,
            self.written + other.written,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.duplicates + other.duplicates,
            self.rejected + other.rejected,
            self.filtered + other.filtered,
        )

    def check(self, what: str) -> None:
        """Raise ``AccountingError`` unless every record read has exactly one verdict."""
        accounted = self.written + self.updated + self.unchanged + self.duplicates + self.rejected + self.filtered
        if self.read != accounted:
            raise AccountingError(
                f"The counts of {what} do not add up: {self.read} read, {accounted} accounted for; "
                "nothing of the open transaction was committed.",
                "This is a bug of etl: please report it with the output of `etl check`.",
            )


@dataclass(frozen=True, slots=True)
class RejectCount:
    """Rejects of one load, counted by what refused them."""

    phase: str
    reason: str
    count: int
    sqlstate: str | None = None
    constraint: str | None = None
    column: str | None = None


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one source: ``loaded``, ``already_loaded`` or ``partial``."""

    path: str
    status: Literal["loaded", "already_loaded", "partial"]
    counts: Counts = Counts()


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What became of one load; ``counts`` and ``seconds`` are those of the whole run, a resume's past among them."""

    name: str
    table: str
    method: str
    counts: Counts
    seconds: float
    rejects: tuple[RejectCount, ...] = ()
    files: tuple[FileResult, ...] = ()
    children: Mapping[str, ChildCounts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timing:
    """What an execution has cost: savepoints, rollbacks to one, pieces settled row by row, seconds by phase, retries.

    ``read``, ``map`` and ``encode`` go on beside the others, on a thread of their own; ``wait`` is for them, ``write``
    and ``commit`` are for the database, ``start`` is what was looked up before the first record.
    """

    savepoints: int
    rollbacks: int
    settled: int
    seconds: dict[str, float]
    retries: int = 0


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a run. ``exit_code`` is that of ``etl load``; ``error`` the sentence the user sees, if any.

    ``counts`` are those of the whole run, what was committed before a resume among them; ``seconds`` and ``timing`` are
    those of this execution.
    """

    run_id: str
    job: str
    status: Literal["completed", "failed", "stopped"]
    exit_code: int
    dry_run: bool
    seconds: float
    counts: Counts = Counts()
    loads: tuple[LoadResult, ...] = field(default=())
    error: str | None = None
    timing: Timing | None = None

    @property
    def has_rejects(self) -> bool:
        """Whether a record was rejected, or a child left out of one."""
        left_out = (counts.rejected for load in self.loads for counts in load.children.values())
        return bool(self.counts.rejected) or any(left_out)


class Reporter(Protocol):
    """Who is told how a run goes on: a progress bar, log lines, or nobody."""

    def waiting(self, sentence: str) -> None:
        """The run waits, before it begins; ``sentence`` says for whom, and for how long at most."""

    def load_started(self, name: str, table: str, method: str, reason: str, size: int) -> None:
        """A load begins: its sources hold ``size`` bytes in all; ``reason`` says why ``method`` was chosen."""

    def records_done(self, size: int, counts: Counts) -> None:
        """A record batch is done, not yet committed: ``size`` more bytes, ``counts`` of this batch."""

    def committed(self) -> None:
        """All that was done so far is committed."""

    def load_finished(self) -> None:
        """The load ended; an error may have cut it short."""


class Reader(Protocol):
    """An opened source. Opening it has checked its header or its footer; nothing else has been read."""

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of the source's columns, in file order: strings for CSV, JSON cells for JSON lines."""

    def batches(self, start: Position, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield the record batches behind ``start``, in order.

        ``columns`` are the source columns that the mapper takes; a reader may leave out the others or give them too.
        Raises SourceError, naming the file, when the source cannot be read on.
        """
