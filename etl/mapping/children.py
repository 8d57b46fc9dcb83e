"""Lists in records: their elements are mapped as records are, and stay beside the row that they belong to.

In the rows of a record the children have a column of their own name: a list, for each element of which there is a
struct with its place in the source's list, its mapped columns, and its own children.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from etl.config import ELEMENT, Child, ColumnSource, Condition, Load
from etl.database import ChildTarget, Target
from etl.errors import SourceError, TargetMismatch
from etl.json_cells import JSON_CELL, are_json_cells
from etl.mapping.conversion import Converted, Refused
from etl.mapping.feeds import AnyFeed
from etl.mapping.paths import Listed, Parted, SourcePath, find_path, paths_of
from etl.mapping.plan import ChildPlan, Plan, SourceFacts, plan_mapping
from etl.mapping.typed import plain_array, plain_type
from etl.records import Cause, Column, Orphan, Reason, RecordBatch

PLACE, COLUMNS, CHILDREN = "place", "columns", "children"

NO_ELEMENT = Refused(Reason.NOT_NULL, "is NULL, which is no row")

_IS_LIST = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)


# What goes where


def plan_records(source: pa.Schema, target: Target, load: Load, facts: SourceFacts) -> Plan:
    """Settle which source column, list or constant feeds which column of the target and of its children.

    Raises what ``plan_mapping`` raises, for each child too; SourceError for one that is no list.
    """
    return _planned(source, target.columns, target.children, load.children, load, facts)


@dataclass(frozen=True, slots=True)
class _ChildLoad:
    """A child as ``plan_mapping`` takes it."""

    name: str
    columns: Mapping[str, ColumnSource]
    ignore_columns: Sequence[str]
    filter: Sequence[Condition] = ()


def _planned(
    source: pa.Schema,
    columns: Sequence[Column],
    targets: Sequence[ChildTarget],
    children: Mapping[str, Child],
    load: Load | _ChildLoad,
    facts: SourceFacts,
) -> Plan:
    inner = replace(facts, transform=None, transform_name="")

    def plan_lists(mapped: pa.Schema) -> tuple[ChildPlan, ...]:
        return tuple(_plan_child(mapped, target, children[target.name], load.name, inner) for target in targets)

    return plan_mapping(source, columns, load, facts, plan_lists)


def _plan_child(source: pa.Schema, target: ChildTarget, child: Child, load: str, facts: SourceFacts) -> ChildPlan:
    name = f"{load}.{target.name}"
    path = _list_path(source, child.source or target.name, name)
    elements = _unseen_elements(path, target, child) or _element_schema(path.type)
    columns = dict(child.columns) or _element_column(elements, target)
    mapping = _planned(
        elements,
        target.mapped_columns,
        target.target.children,
        child.children,
        _ChildLoad(name, columns, child.ignore_columns),
        facts,
    )
    if target.through is not None and target.key_among([column.name for column in mapping.columns]) is None:
        raise TargetMismatch(
            f'Load "{name}": the elements give no key by which a row of {target.target.name} could be found.',
            f"Map the columns of a unique constraint of {target.target.name} in its columns.",
        )
    return ChildPlan(target.name, target.target.name, path, mapping, target.is_lenient)


def _list_path(source: pa.Schema, name: str, load: str) -> SourcePath:
    path = find_path(source, name)
    if path is None:
        known = ", ".join(f'"{other}"' for other in paths_of(source))
        raise SourceError(
            f'Load "{load}": there is no column "{name}"; the source has {known}.',
            "Name the column of lists by source.",
        )
    if not _has_lists(path.type):
        told = "no list in any record" if are_json_cells(path.type) else f"type {path.type}"
        raise SourceError(
            f'Load "{load}": column "{name}" has {told}, and only lists have children.',
            "Map its fields under [load.columns] by their paths, or name another column by source.",
        )
    return path


def _has_lists(type_: pa.DataType) -> bool:
    if are_json_cells(type_):
        return type_.element is not None
    return any(is_list(plain_type(type_)) for is_list in _IS_LIST)


def _element_schema(lists: pa.DataType) -> pa.Schema:
    if are_json_cells(lists):
        return pa.schema(list(lists.element.fields.items()) or [(ELEMENT, lists.element)])
    element = plain_type(plain_type(lists).value_type)
    return pa.schema(list(element.fields) if types.is_struct(element) else [(ELEMENT, element)])


def _unseen_elements(path: SourcePath, target: ChildTarget, child: Child) -> pa.Schema | None:
    """Of JSON lists without an element in the whole file: what the config names, and what is called as a column is."""
    if not are_json_cells(path.type) or not path.type.element.is_open:
        return None
    by_name = [column.name for column in target.mapped_columns if not column.is_generated]
    names = dict.fromkeys(name for name in by_name if name not in child.columns and name not in child.ignore_columns)
    return pa.schema(list({**dict.fromkeys(names, JSON_CELL), **path.type.element.fields}.items()))


def _element_column(elements: pa.Schema, target: ChildTarget) -> dict[str, ColumnSource]:
    """Where elements are no structs there is one column that they can feed, or the config has to say which."""
    if elements.names != [ELEMENT]:
        return {}
    free = [column.name for column in target.mapped_columns if not (column.has_default or column.is_generated)]
    names = target.key or free
    return {names[0]: ColumnSource.model_validate({"from": ELEMENT})} if len(names) == 1 else {}


# Elements to rows


@dataclass(frozen=True, slots=True)
class Elements:
    """The elements of a column of lists, list behind list, as records: numbers and lines are those of their records.

    ``owners`` are the places of these in their record batch, ``places`` those in the list, from 1. ``refused`` are
    elements that are no rows, ``refused_lists`` the records that have no list in its place.
    """

    records: RecordBatch
    owners: NDArray[np.int64]
    places: NDArray[np.int64]
    refused: Mapping[int, Refused]
    refused_lists: Mapping[int, Refused]

    @classmethod
    def of(cls, records: RecordBatch, path: SourcePath, fields: pa.Schema) -> Elements:
        """The elements of the lists at ``path``, with the columns ``fields``."""
        lists = path.cells(records.columns)
        listed = _listed(lists.values)
        lengths, count = listed.lengths, len(listed.elements)
        owners = np.repeat(np.arange(len(lengths)), lengths)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        parted = _parted(listed.elements, fields)
        nulls = np.flatnonzero(listed.elements.is_null().to_numpy(zero_copy_only=False)).tolist()
        elements = replace(
            records,
            columns=pa.RecordBatch.from_arrays(parted.columns, schema=fields),
            numbers=records.numbers[owners],
            lines=None if records.lines is None else records.lines[owners],
            rejects=(),
            offsets=None,
        )
        refused = {**parted.refused, **dict.fromkeys(nulls, NO_ELEMENT)}
        return cls(elements, owners, np.arange(count) - starts + 1, refused, {**lists.refused, **listed.refused})


def _listed(lists: pa.Array) -> Listed:
    if are_json_cells(lists.type):
        from etl.mapping.json_paths import part_lists  # only for JSON lines

        return part_lists(lists)
    plain = plain_array(lists)
    lengths = pc.fill_null(pc.list_value_length(plain), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return Listed(lengths, plain_array(pc.list_flatten(plain)), {})


def _parted(flat: pa.Array, schema: pa.Schema) -> Parted:
    if are_json_cells(flat.type) and (flat.type.fields or flat.type.is_open):
        from etl.mapping.json_paths import part_objects  # only for JSON lines

        return part_objects(flat, schema)
    if not types.is_struct(flat.type):
        return Parted([flat], {})
    return Parted([pc.struct_field(flat, [place]) for place in range(flat.type.num_fields)], {})


@dataclass(frozen=True, slots=True)
class MappedChildren:
    """The lists of mapped elements, one for each record; what was refused by records, and what was left out."""

    lists: pa.Array
    refused: Mapping[int, tuple[str, Refused]]
    orphans: tuple[Orphan, ...] = ()


def map_children(records: RecordBatch, plan: ChildPlan) -> MappedChildren:
    """Map the elements of a column of lists. An element that cannot be mapped is left out, or refuses its record."""
    elements = Elements.of(records, plan.path, plan.mapping.source)
    converted = [column.convert(elements.records) for column in plan.mapping.columns]
    inner = [map_children(elements.records, child) for child in plan.mapping.children]
    bare = {place: ("", why) for place, why in elements.refused.items()}  # and not by what is in them
    refused = {**first_refusals(plan.mapping.columns, converted, inner), **bare}
    good = np.ones(len(elements.places), dtype=bool)
    good[list(refused)] = False
    lists = _as_lists(plan, elements, converted, inner, good, len(records.numbers))
    told = {place: (f"{plan.name}.{column}" if column else plan.name, why) for place, (column, why) in refused.items()}
    by_record = {place: (plan.name, why) for place, why in elements.refused_lists.items()}
    if plan.is_lenient:
        return MappedChildren(lists, by_record, _orphans(plan, elements, told, inner))
    for place in sorted(told):
        column, why = told[place]
        message = f"{plan.name}[{elements.places[place]}] ({plan.table}): {why.message}"
        by_record.setdefault(int(elements.owners[place]), (column, Refused(why.reason, message)))
    return MappedChildren(lists, by_record, _orphans(plan, elements, {}, inner))


def first_refusals(
    columns: Sequence[AnyFeed], converted: Sequence[Converted], children: Sequence[MappedChildren]
) -> dict[int, tuple[str, Refused]]:
    """By place the first column that refuses it, in the order of ``columns`` and then of the children, and why."""
    refused: dict[int, tuple[str, Refused]] = {}
    for column, cells in zip(columns, converted, strict=True):
        for place, why in cells.refused.items():
            refused.setdefault(place, (column.name, why))
    for mapped in children:
        for place, told in mapped.refused.items():
            refused.setdefault(place, told)
    return refused


def _orphans(
    plan: ChildPlan,
    elements: Elements,
    refused: Mapping[int, tuple[str, Refused]],
    inner: Sequence[MappedChildren],
) -> tuple[Orphan, ...]:
    """The elements that are left out, and those of the children of others."""

    def step(place: int) -> tuple[str, int]:
        return plan.name, int(elements.places[place])

    own = [
        Orphan(int(elements.owners[place]), (step(place),), Cause(why.reason, why.message, column=column))
        for place, (column, why) in refused.items()
    ]
    theirs = [
        Orphan(
            int(elements.owners[orphan.index]),
            (step(orphan.index), *orphan.path),
            replace(orphan.cause, column=f"{plan.name}.{orphan.cause.column}"),
        )
        for children in inner
        for orphan in children.orphans
        if orphan.index not in refused
    ]
    return (*own, *theirs)


def _as_lists(
    plan: ChildPlan,
    elements: Elements,
    converted: Sequence[Converted],
    inner: Sequence[MappedChildren],
    good: NDArray[np.bool_],
    records: int,
) -> pa.Array:
    columns = pa.RecordBatch.from_arrays([cells.values for cells in converted], schema=plan.mapping.schema)
    parts = {PLACE: pa.array(elements.places), COLUMNS: columns.to_struct_array()}
    if inner:
        names = [child.name for child in plan.mapping.children]
        parts[CHILDREN] = pa.StructArray.from_arrays([children.lists for children in inner], names)
    rows = pa.StructArray.from_arrays(list(parts.values()), list(parts)).filter(pa.array(good))
    counts = np.bincount(elements.owners[good], minlength=records)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), rows)
