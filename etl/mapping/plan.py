"""Which source column feeds which target column, settled before a record is read."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from etl.errors import ConfigError, EtlError, SourceError, TargetMismatch
from etl.mapping.conversion import Conversion, Converted
from etl.mapping.kinds import choose_conversion, conversion_of_texts
from etl.mapping.paths import SourcePath, find_path, is_inside, leaves_of, paths_of
from etl.records import Column


class ColumnSource(Protocol):
    """Where a target column takes its values from: exactly one of ``source`` and ``value``."""

    @property
    def source(self) -> str | None: ...
    @property
    def format(self) -> str | None: ...
    @property
    def value(self) -> object: ...


class Load(Protocol):
    """What the mapper needs to know of a load."""

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, ColumnSource]: ...
    @property
    def ignore_columns(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class FromSource:
    """A target column that takes a source column, or a field of one."""

    name: str
    type: pa.DataType
    path: SourcePath
    conversion: Conversion

    @property
    def source(self) -> str:
        """The source column that the reader has to give."""
        return self.path.column

    def convert(self, records: pa.RecordBatch) -> Converted:
        array = self.path.values(records)
        if array.type != self.path.type:
            raise SourceError(
                f'Source column "{self.path.name}" has type {array.type}, but had {self.path.type} before.'
            )
        return self.conversion(array)


@dataclass(frozen=True, slots=True)
class FromConstant:
    """A target column that has the same value in every row."""

    name: str
    type: pa.DataType
    constant: pa.Scalar

    def convert(self, records: pa.RecordBatch) -> Converted:
        return Converted(pa.repeat(self.constant, records.num_rows))


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """How the elements of a list become rows: ``path`` leads to the list, ``mapping`` is that of its elements.

    With ``is_lenient`` an element that cannot be mapped costs itself alone, else its record.
    """

    name: str
    table: str
    path: SourcePath
    mapping: Plan
    is_lenient: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """How records become rows. ``columns`` are in the order of the target table; ``children`` are lists in them."""

    columns: tuple[FromSource | FromConstant, ...]
    children: tuple[ChildPlan, ...] = ()

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The source columns that are needed, each once."""
        own = [column.source for column in self.columns if isinstance(column, FromSource)]
        return tuple(dict.fromkeys([*own, *(child.path.column for child in self.children)]))

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of ``Rows.columns``."""
        return pa.schema([(column.name, column.type) for column in self.columns])


def plan_mapping(source: pa.Schema, target: Sequence[Column], load: Load, lists: Collection[str] = ()) -> Plan:
    """Settle which source column or constant feeds each target column. ``lists`` are source columns of children.

    An entry of ``[load.columns]`` decides for its target column, and may use a source column that others use
    too. A target column without an entry takes the source column of the same name (case-sensitive), unless an
    entry uses that source column already or ``ignore_columns`` names it. A target column that nothing feeds
    keeps its default.

    Raises one error that tells everything that is wrong: ConfigError if a constant or a format does not fit,
    TargetMismatch if the table has not what the load names or cannot hold it, SourceError if the file lacks a
    column, or has one that nothing takes and ``ignore_columns`` does not name. The first of these that
    applies is its class.
    """
    draft = _Draft(source, target, load, lists)
    matches = {**_match_entries(draft), **_match_names(draft)}
    feeds = [_feed(draft, column, matches[column.name]) for column in target if column.name in matches]
    _check_left_over(draft, matches.values())
    draft.raise_faults()
    return Plan(tuple(feed for feed in feeds if feed is not None))


@dataclass(slots=True)
class _Draft:
    """What is given, and what was found wrong with it so far."""

    source: pa.Schema
    target: Sequence[Column]
    load: Load
    lists: Collection[str]
    faults: list[EtlError] = field(default_factory=list)

    @property
    def ignores_rest(self) -> bool:
        return "*" in self.load.ignore_columns

    @property
    def used_by_entries(self) -> set[str]:
        return {entry.source for entry in self.load.columns.values() if entry.source is not None} | {*self.lists}

    def raise_faults(self) -> None:
        for kind in (ConfigError, TargetMismatch, SourceError):
            if any(isinstance(fault, kind) for fault in self.faults):
                problems = "; ".join(fault.problem for fault in self.faults)
                remedies = dict.fromkeys(fault.remedy for fault in self.faults if fault.remedy)
                raise kind(f'Load "{self.load.name}" cannot be mapped: {problems}.', " ".join(remedies))


def _match_entries(draft: _Draft) -> dict[str, ColumnSource]:
    columns = {column.name: column for column in draft.target}
    matches = {}
    for name, entry in draft.load.columns.items():
        fault = _target_fault(name, columns) or _source_fault(entry, draft.source)
        if fault is None:
            matches[name] = entry
        else:
            draft.faults.append(fault)
    return matches


def _target_fault(name: str, columns: Mapping[str, Column]) -> EtlError | None:
    if name not in columns:
        close = _close(name, columns)
        return TargetMismatch(
            f'the table has no column "{name}"{close or _list_of(columns)}',
            "Correct the names under [load.columns].",
        )
    if columns[name].is_generated:
        return TargetMismatch(
            f'target column "{name}" is generated by the database and takes no value',
            f'Remove "{name}" from [load.columns].',
        )
    return None


def _source_fault(entry: ColumnSource, source: pa.Schema) -> EtlError | None:
    if entry.source is None or find_path(source, entry.source) is not None:
        return None
    known = list(paths_of(source))
    close = _close(entry.source, known)
    return SourceError(
        f'missing column "{entry.source}"{close}; the source has {_quoted(known)}',
        "Correct the names under [load.columns] or the source's header.",
    )


@dataclass(frozen=True, slots=True)
class _SameName:
    """The entry that a target column without one has by its name."""

    source: str
    format: str | None = None
    value: object = None


def _match_names(draft: _Draft) -> dict[str, ColumnSource]:
    not_free = draft.used_by_entries | set(draft.load.ignore_columns)
    names = set(draft.source.names)
    free = (names - not_free) | {path for path in paths_of(draft.source) if not is_inside(path, not_free)}
    return {
        column.name: _SameName(column.name)
        for column in draft.target
        if column.name in free and column.name not in draft.load.columns and not column.is_generated
    }


def _feed(draft: _Draft, column: Column, entry: ColumnSource) -> FromSource | FromConstant | None:
    try:
        if entry.source is None:
            return FromConstant(column.name, conversion_of_texts(column.type).type, _constant(column, entry.value))
        return _from_source(draft.source, column, entry.source, entry.format)
    except EtlError as error:
        draft.faults.append(type(error)(f'target column "{column.name}": {error.problem}', error.remedy))
        return None


def _from_source(source: pa.Schema, column: Column, name: str, format_: str | None) -> FromSource:
    if source.names.count(name) > 1:
        raise SourceError(f'the source has more than one column "{name}"', "Give each its own name.")
    path = find_path(source, name)
    assert path is not None, "looked for before"
    conversion = choose_conversion(path.type, column.type, format_)
    return FromSource(column.name, conversion_of_texts(column.type).type, path, conversion)


def _constant(column: Column, value: object) -> pa.Scalar:
    kind = column.type.kind.value
    cells = _cells_of(value)
    try:
        converted = choose_conversion(cells.type, column.type)(cells)
    except TargetMismatch as mismatch:
        raise ConfigError(f"the constant does not fit: {mismatch.problem}", _CORRECT_CONSTANT) from mismatch
    if converted.refused:
        raise ConfigError(f"the constant does not fit type {kind}: {converted.refused[0].message}", _CORRECT_CONSTANT)
    return converted.values[0]


_CORRECT_CONSTANT = "Correct the value under [load.columns]."


def _cells_of(value: object) -> pa.Array:
    try:
        return pa.array([value])
    except (OverflowError, pa.ArrowInvalid, UnicodeEncodeError):  # an integer of more than 64 bits
        return pa.array([str(value)], pa.string())


def _check_left_over(draft: _Draft, entries: Iterable[ColumnSource]) -> None:
    taken = {entry.source for entry in entries} | draft.used_by_entries
    if not draft.ignores_rest:
        left = [path for name in draft.source.names for path in _left_of(draft, name, taken - {None})]
        draft.faults += [_left_over_fault(draft, name) for name in dict.fromkeys(left)]
    if not draft.faults and not taken - {None}:
        draft.faults.append(
            SourceError(
                f"no target column takes a source column: the source has {_quoted(draft.source.names)}, "
                f"the table {_quoted(column.name for column in draft.target)}",
                "Map at least one under [load.columns].",
            )
        )


def _left_of(draft: _Draft, column: str, taken: Iterable[str | None]) -> list[str]:
    """A column of the source that nothing takes; of a struct of which some is taken, the fields that nothing takes."""
    settled = [*filter(None, taken), *draft.load.ignore_columns]
    if draft.source.names.count(column) == 1 and any(is_inside(path, [column]) for path in settled):
        return [leaf for leaf in leaves_of(draft.source, column) if not _is_settled(draft, column, leaf, settled)]
    return [] if column in settled else [column]


def _is_settled(draft: _Draft, column: str, leaf: str, settled: Collection[str]) -> bool:
    """A field that has the path of another column by its own name is reached by the struct around it only."""
    path = find_path(draft.source, leaf)
    is_reached = path is not None and path.column == column
    return column in settled or (is_reached and is_inside(leaf, settled))


def _left_over_fault(draft: _Draft, name: str) -> EtlError:
    generated = {column.name for column in draft.target if column.is_generated}
    if name in generated:
        return TargetMismatch(
            f'target column "{name}" is generated by the database and takes no value',
            "Add it to ignore_columns.",
        )
    close = _close(name, [column.name for column in draft.target if column.name not in draft.load.columns])
    return SourceError(
        f'no target column takes source column "{name}"{close}',
        "Map it under [load.columns] or add it to ignore_columns.",
    )


def _close(name: str, names: Iterable[str]) -> str:
    # Without regard to case, since the commonest slip is "Id" for "id".
    by_lower = {other.lower(): other for other in names if other != name}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f' (did you mean "{by_lower[close[0]]}"?)' if close else ""


def _list_of(names: Iterable[str]) -> str:
    return f" (it has {_quoted(names)})"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "none"
