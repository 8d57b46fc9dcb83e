"""Which source column feeds which target column, settled before a record is read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from etl.config import ColumnSource, Condition
from etl.errors import ConfigError, EtlError, SourceError, TargetMismatch
from etl.mapping.conversion import Converted
from etl.mapping.feeds import (
    AnyFeed,
    Concatenation,
    Feed,
    FromConstant,
    LineNumber,
    Origin,
    RecordNumber,
    SourceColumn,
    cleaning,
    reading_words,
)
from etl.mapping.kinds import AS_IT_IS, Reading, choose_conversion, conversion_of_texts
from etl.mapping.paths import SourcePath, find_path, is_inside, leaves_of, paths_of
from etl.mapping.spelling import USUAL, Spelling
from etl.mapping.typed import plain_array, plain_type
from etl.mapping.unquoting import cell_texts
from etl.records import Column, ColumnType

if TYPE_CHECKING:
    from etl.mapping.computations import Argument, Computation
    from etl.mapping.filtering import RecordFilter
    from etl.mapping.transforms import Function, Transform


class Load(Protocol):
    """What the mapper needs to know of a load."""

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, ColumnSource]: ...
    @property
    def ignore_columns(self) -> Sequence[str]: ...
    @property
    def filter(self) -> Sequence[Condition]: ...


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What else is known of a source: how it is shown, the texts that its reader gives as NULL, how it writes numbers
    and booleans (constants are written as usual), and ``transform``.
    """

    path: str = ""
    null_words: Sequence[str] = ()
    spelling: Spelling = USUAL
    transform: Function | None = None
    transform_name: str = ""


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
    """How records become rows: filtered, transformed, mapped. ``columns`` are in the order of the target table.

    ``source`` are the source's own columns, ``children`` are lists in what is mapped.
    """

    columns: tuple[AnyFeed, ...]
    source: pa.Schema
    filter: RecordFilter | None = None
    transform: Transform | None = None
    children: tuple[ChildPlan, ...] = ()

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The source columns that are needed, each once: all of them where they are transformed."""
        if self.transform is not None:
            return tuple(self.source.names)
        fed = (name for column in self.columns for name in column.source_columns)
        lists = (child.path.column for child in self.children)
        filtered = () if self.filter is None else self.filter.source_columns
        return tuple(dict.fromkeys((*fed, *lists, *filtered)))

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of ``Rows.columns``."""
        return pa.schema([(column.name, column.type) for column in self.columns])


def _no_lists(source: pa.Schema) -> tuple[ChildPlan, ...]:
    return ()


def plan_mapping(
    source: pa.Schema,
    target: Sequence[Column],
    load: Load,
    facts: SourceFacts = SourceFacts(),
    plan_lists: Callable[[pa.Schema], tuple[ChildPlan, ...]] = _no_lists,
) -> Plan:
    """Settle which records are taken, and what feeds each target column; ``plan_lists`` settles it for their children.

    The filter looks at the source's own columns; where there is a transform, all else looks at what that returns. An
    entry of ``[load.columns]`` decides for its target column, and may use a source column that others use
    too. A target column without an entry takes the source column of the same name (case-sensitive), unless an
    entry uses that source column already or ``ignore_columns`` names it. A target column that nothing feeds
    keeps its default.

    Raises one error that tells everything that is wrong: ConfigError if a constant or a format does not fit,
    TargetMismatch if the table has not what the load names or cannot hold it, SourceError if the file lacks a
    column, or has one that nothing takes and ``ignore_columns`` does not name. The first of these that
    applies is its class.
    """
    transform = _transform(source, load, facts)
    mapped = source if transform is None else transform.schema
    children = plan_lists(mapped)
    draft = _Draft(mapped, target, load, facts, {child.path.name for child in children})
    record_filter = _filter(draft, source)
    matches = {**_match_entries(draft), **_match_names(draft)}
    feeds = [_feed(draft, column, matches[column.name]) for column in target if column.name in matches]
    _check_left_over(draft, matches.values())
    draft.raise_faults()
    return Plan(tuple(feed for feed in feeds if feed is not None), source, record_filter, transform, children)


def plan_taking(source: pa.Schema, load: Load, facts: SourceFacts) -> Plan:
    """The part of a plan that needs no table: which records are taken, and what a transform makes of them.

    Raises what ``plan_mapping`` raises for the filter and the transform.
    """
    transform = _transform(source, load, facts)
    draft = _Draft(source, (), load, facts, set())
    record_filter = _filter(draft, source)
    draft.raise_faults()
    return Plan((), source, record_filter, transform)


def computed_type(source: pa.Schema, entry: ColumnSource, function: str) -> pa.DataType:
    """The Arrow type of what an entry computes of a source that has the columns for it.

    Raises ConfigError for a function, arguments or options that do not go together.
    """
    return _computation(source, entry, function).type


def _transform(source: pa.Schema, load: Load, facts: SourceFacts) -> Transform | None:
    if facts.transform is None:
        return None
    try:
        from etl.mapping.transforms import plan_transform  # only for who transforms

        return plan_transform(facts.transform_name, facts.transform, source, facts.path)
    except ConfigError as error:
        raise ConfigError(f'Load "{load.name}" cannot be mapped: {error.problem}.', error.remedy) from error


def _filter(draft: _Draft, source: pa.Schema) -> RecordFilter | None:
    if not draft.load.filter:
        return None
    try:
        from etl.mapping.filtering import plan_filter  # only for who filters

        return plan_filter(source, draft.load.filter)
    except EtlError as error:
        draft.faults.append(error)
        return None


@dataclass(slots=True)
class _Draft:
    """What is given, and what was found wrong with it so far."""

    source: pa.Schema
    target: Sequence[Column]
    load: Load
    facts: SourceFacts
    lists: set[str]
    faults: list[EtlError] = field(default_factory=list)

    @property
    def ignores_rest(self) -> bool:
        return "*" in self.load.ignore_columns

    @property
    def used_by_entries(self) -> set[str]:
        return self.lists | {entry.source for entry in self.load.columns.values() if entry.source is not None}

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
        fault = _target_fault(name, columns) or _source_fault(entry, draft)
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


def _source_fault(entry: ColumnSource, draft: _Draft) -> EtlError | None:
    missing = [name for name in entry.source_columns if find_path(draft.source, name) is None]
    if not missing or (entry.source is not None and entry.default is not None):
        return None
    where = "the source" if draft.facts.transform is None else "what the transform returns"
    known = list(paths_of(draft.source))
    return SourceError(
        f'missing column "{missing[0]}"{_close(missing[0], known)}; {where} has {_quoted(known)}',
        "Correct the names under [load.columns] or the source's header.",
    )


def _match_names(draft: _Draft) -> dict[str, ColumnSource]:
    """The entries that target columns without one have by their names."""
    not_free = draft.used_by_entries | set(draft.load.ignore_columns)
    names = set(draft.source.names)
    free = (names - not_free) | {path for path in paths_of(draft.source) if not is_inside(path, not_free)}
    return {
        column.name: ColumnSource.model_validate({"from": column.name})
        for column in draft.target
        if column.name in free and column.name not in draft.load.columns and not column.is_generated
    }


def _feed(draft: _Draft, column: Column, entry: ColumnSource) -> AnyFeed | None:
    try:
        return _fed(draft, column, entry)
    except EtlError as error:
        draft.faults.append(type(error)(f'target column "{column.name}": {error.problem}', error.remedy))
        return None


def _fed(draft: _Draft, column: Column, entry: ColumnSource) -> AnyFeed:
    type_ = conversion_of_texts(column.type).type
    if entry.value is not None:
        words = f"the constant {entry.value!r}"
        return FromConstant(column.name, type_, constant_of(column.type, entry.value), words)
    if entry.file:
        path = constant_of(column.type, draft.facts.path, "the path of the source")
        return FromConstant(column.name, type_, path, "the path of the source")
    default = None if entry.default is None else _default(column, entry, entry.default)
    if default is not None and entry.source is not None and find_path(draft.source, entry.source) is None:
        words = f'the default {entry.default!r}, since the source has no column "{entry.source}"'
        return FromConstant(column.name, type_, default, words)
    origin = _origin(draft.source, entry)
    conversion = choose_conversion(origin.type, column.type, _reading(draft, entry))
    return Feed(column.name, type_, origin, conversion, f"{origin}{reading_words(entry)}", default)


def _default(column: Column, entry: ColumnSource, value: object) -> pa.Scalar:
    zone = entry.timezone if entry.read_as is None else None
    return constant_of(column.type, value, "the default", Reading(timezone=zone))


def _origin(source: pa.Schema, entry: ColumnSource) -> Origin:
    if entry.record:
        return RecordNumber()
    if entry.line:
        return LineNumber()
    if entry.compute is not None:
        return _computation(source, entry, entry.compute)
    if entry.concat:
        return Concatenation(tuple(_source_column(source, name) for name in entry.concat), entry.separator or "")
    return _source_column(source, entry.source or "")


def _source_column(source: pa.Schema, name: str) -> SourceColumn:
    if source.names.count(name) > 1:
        raise SourceError(f'the source has more than one column "{name}"', "Give each its own name.")
    path = find_path(source, name)
    assert path is not None, "looked for before"
    return SourceColumn(path)


def _reading(draft: _Draft, entry: ColumnSource) -> Reading:
    """How the cells of an entry's origin are read; what ``as`` reads, its formats are for."""
    null_words = draft.facts.null_words
    if entry.empty_as_null is False and "" in null_words and len(set(null_words)) > 1:
        raise ConfigError(
            "empty_as_null = false cannot tell an empty field from the other words of null in [load.csv]",
            'Leave null = [""] there, or give a default.',
        )
    clean = cleaning(entry, null_words)
    if entry.read_as is not None:
        return Reading(clean=clean)
    return Reading(entry.format, entry.timezone, clean, draft.facts.spelling)


def _computation(source: pa.Schema, entry: ColumnSource, function: str) -> Computation:
    from etl.mapping.computations import Argument, argument_type, check_function, plan_computation

    check_function(function)
    read_as = None if entry.read_as is None else argument_type(entry.read_as)
    arguments: list[Argument | pa.Scalar] = []
    for arg in entry.args:
        if isinstance(arg, str):
            arguments.append(_argument(_source_column(source, arg), read_as, entry))
        else:
            arguments.append(pa.scalar(arg.value) if read_as is None else constant_of(read_as, arg.value))
    if not any(isinstance(arg, Argument) for arg in arguments):
        raise ConfigError("compute needs a source column among its args", "Give one, or a constant by value.")
    return plan_computation(function, arguments, entry.options)


def _argument(column: SourceColumn, read_as: ColumnType | None, entry: ColumnSource) -> Argument:
    from etl.mapping.computations import Argument

    if read_as is not None:
        conversion = choose_conversion(column.type, read_as, Reading(entry.format, entry.timezone))
        return Argument(column, conversion, conversion_of_texts(read_as).type)
    plain = plain_type(column.type)
    if pa.types.is_binary(plain) or pa.types.is_string(plain):
        return Argument(column, cell_texts, pa.string())
    return Argument(column, lambda cells: Converted(plain_array(cells)), plain)


def constant_of(type_: ColumnType, value: object, what: str = "the constant", reading: Reading = AS_IT_IS) -> pa.Scalar:
    """A value of the config in the Arrow type of a target type. Raises ConfigError if it does not fit."""
    cells = _cells_of(value)
    try:
        converted = choose_conversion(cells.type, type_, reading)(cells)
    except TargetMismatch as mismatch:
        raise ConfigError(f"{what} does not fit: {mismatch.problem}", _CORRECT_CONSTANT) from mismatch
    if converted.refused:
        raise ConfigError(
            f"{what} does not fit type {type_.kind.value}: {converted.refused[0].message}", _CORRECT_CONSTANT
        )
    return converted.values[0]


_CORRECT_CONSTANT = "Correct the value under [load.columns]."


def _cells_of(value: object) -> pa.Array:
    try:
        return pa.array([value])
    except (OverflowError, pa.ArrowInvalid, UnicodeEncodeError):  # an integer of more than 64 bits
        return pa.array([str(value)], pa.string())


def _check_left_over(draft: _Draft, entries: Iterable[ColumnSource]) -> None:
    taken = {name for entry in (*entries, *draft.load.columns.values()) for name in entry.source_columns}
    taken |= draft.lists | {name for condition in draft.load.filter for name in condition.source_columns}
    if not draft.ignores_rest:
        left = [path for name in draft.source.names for path in _left_of(draft, name, taken)]
        draft.faults += [_left_over_fault(draft, name) for name in dict.fromkeys(left)]
    if not draft.faults and not taken:
        draft.faults.append(
            SourceError(
                f"no target column takes a source column: the source has {_quoted(draft.source.names)}, "
                f"the table {_quoted(column.name for column in draft.target)}",
                "Map at least one under [load.columns].",
            )
        )


def _left_of(draft: _Draft, column: str, taken: Iterable[str]) -> list[str]:
    """A column of the source that nothing takes; of a struct of which some is taken, the fields that nothing takes."""
    settled = [*taken, *draft.load.ignore_columns]
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
