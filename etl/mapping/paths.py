"""Columns inside columns: fields of structs and JSON objects, named by paths such as ``address.city``, at any depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from etl.json_cells import are_json_cells
from etl.mapping.conversion import Converted, Refused, then
from etl.mapping.typed import plain_array, plain_type

_Fields = Sequence[tuple[str, pa.DataType]]


@dataclass(frozen=True, slots=True)
class SourcePath:
    """A source column, or a field of it: ``column`` is what the reader is asked for, ``fields`` are places in structs.

    ``name`` is the path as it was written.
    """

    name: str
    column: str
    fields: tuple[int, ...]
    type: pa.DataType

    def cells(self, records: pa.RecordBatch) -> Converted:
        """The cells, one for each record; where a struct on the way is NULL, so is the field.

        A JSON value on the way that is no object is refused.
        """
        steps = [partial(_field, place=place) for place in self.fields]
        return reduce(then, steps, Converted(records.column(self.column)))


def _field(cells: pa.Array, place: int) -> Converted:
    if not are_json_cells(cells.type):
        return Converted(pc.struct_field(plain_array(cells), [place]))
    from etl.mapping.json_paths import field_of  # only for JSON lines

    return field_of(cells, list(cells.type.fields)[place])


@dataclass(frozen=True, slots=True)
class Listed:
    """Lists laid end to end: how many elements each has (NULL has none), and the elements. What is no list is refused,
    and has none."""

    lengths: NDArray[np.int64]
    elements: pa.Array
    refused: Mapping[int, Refused]


@dataclass(frozen=True, slots=True)
class Parted:
    """Elements as columns, a cell for each field; what is to have fields and has none is refused."""

    columns: Sequence[pa.Array]
    refused: Mapping[int, Refused]


def find_path(source: pa.Schema, name: str) -> SourcePath | None:
    """What ``name`` names; None where there is nothing of that name.

    A column, or a field, whose own name has dots is found before a path that would read the same: the longest name
    comes first.
    """
    found = _find(_fields_of_schema(source), name)
    if found is None:
        return None
    (column, *fields), type_ = found
    return SourcePath(name, source.names[column], tuple(fields), type_)


def _find(fields: _Fields, name: str) -> tuple[list[int], pa.DataType] | None:
    counted = Counter(field for field, _ in fields)
    ways = [
        (place, field, type_)
        for place, (field, type_) in enumerate(fields)
        if field == name or (name.startswith(f"{field}.") and counted[field] == 1)
    ]
    for place, field, type_ in sorted(ways, key=lambda way: -len(way[1])):
        if field == name:
            return [place], type_
        inner = _find(_fields_of_type(type_), name[len(field) + 1 :])
        if inner is not None:
            return [place, *inner[0]], inner[1]
    return None


def paths_of(source: pa.Schema) -> Iterator[str]:
    """The names of all columns and of all fields in their structs, the outer before the inner ones."""
    for name, type_ in _fields_of_schema(source):
        yield name
        yield from _inner_paths(name, type_)


def leaves_of(source: pa.Schema, column: str) -> list[str]:
    """The paths of a column's innermost fields; of one that is no struct, its own name."""
    return _leaves(column, source.field(column).type)


def is_inside(path: str, names: Iterable[str]) -> bool:
    """Whether ``path`` is one of ``names``, or a field of one."""
    return any(path == name or path.startswith(f"{name}.") for name in names)


def _leaves(name: str, type_: pa.DataType) -> list[str]:
    fields = _fields_of_type(type_)
    return [leaf for field, inner in fields for leaf in _leaves(f"{name}.{field}", inner)] if fields else [name]


def _inner_paths(name: str, type_: pa.DataType) -> Iterator[str]:
    for field, inner in _fields_of_type(type_):
        yield f"{name}.{field}"
        yield from _inner_paths(f"{name}.{field}", inner)


def _fields_of_schema(schema: pa.Schema) -> _Fields:
    return list(zip(schema.names, schema.types, strict=True))


def _fields_of_type(type_: pa.DataType) -> _Fields:
    if are_json_cells(type_):
        return list(type_.fields.items())
    plain = plain_type(type_)
    return [(field.name, field.type) for field in plain.fields] if types.is_struct(plain) else []
