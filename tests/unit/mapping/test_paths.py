"""Fields of structs as columns, against what Python sees in the same records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.config import Load
from etl.errors import SourceError
from etl.mapping import map_records, plan_mapping
from etl.mapping.paths import find_path
from etl.records import Column, ColumnType, Kind, Position, RecordBatch

TEXT = ColumnType(Kind.TEXT)
BIG = ColumnType(Kind.BIGINT)
NAMES = st.sampled_from(["a", "b", "a.b", "b.a", "c"])


def records_of(columns: pa.RecordBatch) -> RecordBatch:
    numbers = np.arange(1, columns.num_rows + 1)
    return RecordBatch(columns, numbers, None, (), Position(columns.num_rows), 0)


def load(**values: Any) -> Load:
    return Load(source=("-",), table="t", name="t", **values)


def mapped(source: pa.RecordBatch, target: list[Column], **values: Any) -> list[dict[str, Any]]:
    rows = map_records(records_of(source), plan_mapping(source.schema, target, load(**values)))
    found: list[dict[str, Any]] = rows.columns.to_pylist()
    return found


PEOPLE = pa.RecordBatch.from_pylist(
    [
        {"id": 1, "address": {"city": "Évora", "geo": {"lat": 38}}},
        {"id": 2, "address": {"city": None, "geo": None}},
        {"id": 3, "address": None},
    ]
)


def test_a_field_is_taken_by_its_path_and_null_where_a_struct_on_the_way_is() -> None:
    target = [Column("id", BIG), Column("city", TEXT), Column("lat", BIG)]

    rows = mapped(PEOPLE, target, columns={"city": "address.city", "lat": "address.geo.lat"})

    assert rows == [
        {"id": 1, "city": "Évora", "lat": 38},
        {"id": 2, "city": None, "lat": None},
        {"id": 3, "city": None, "lat": None},
    ]


def test_a_target_column_that_has_a_path_for_its_name_takes_the_field() -> None:
    target = [Column("id", BIG), Column("address.city", TEXT), Column("address.geo.lat", BIG)]

    assert mapped(PEOPLE, target)[0] == {"id": 1, "address.city": "Évora", "address.geo.lat": 38}


def test_a_column_with_a_dot_in_its_name_comes_before_a_field_of_that_path() -> None:
    source = pa.RecordBatch.from_pylist([{"a": {"b": 1}, "a.b": 2}])

    assert mapped(source, [Column("x", BIG)], columns={"x": "a.b"}, ignore_columns="a") == [{"x": 2}]


def test_a_field_that_nothing_takes_is_told_by_its_path() -> None:
    target = [Column("id", BIG), Column("city", TEXT)]

    with pytest.raises(SourceError, match=r'no target column takes source column "address\.geo\.lat"'):
        mapped(PEOPLE, target, columns={"city": "address.city"})


@pytest.mark.parametrize("ignored", ["address.geo", "address.geo.lat", "address", "*"])
def test_fields_can_be_ignored_by_their_path_or_by_that_of_what_they_are_in(ignored: str) -> None:
    target = [Column("id", BIG), Column("city", TEXT)]

    rows = mapped(PEOPLE, target, columns={"city": "address.city"}, ignore_columns=ignored)

    assert [row["city"] for row in rows] == ["Évora", None, None]


def test_a_path_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(SourceError, match=r'missing column "address\.town"') as caught:
        mapped(PEOPLE, [Column("id", BIG), Column("t", TEXT)], columns={"t": "address.town"})

    assert '"address.geo.lat"' in str(caught.value)


def test_a_struct_as_a_whole_still_goes_into_a_json_column() -> None:
    target = [Column("id", BIG), Column("address", ColumnType(Kind.JSON)), Column("city", TEXT)]

    rows = mapped(PEOPLE, target, columns={"city": "address.city", "address": "address"})

    assert rows[0] == {"id": 1, "address": '{"city":"Évora","geo":{"lat":38}}', "city": "Évora"}


def test_two_fields_of_one_name_are_none_that_a_path_could_name() -> None:
    doubled = pa.struct([("x", pa.int64()), ("x", pa.int64())])

    assert find_path(pa.schema([("s", doubled)]), "s.x.y") is None


# Structs of any shape: what a path gives is what Python finds on the same way


def types_of_structs(depth: int) -> st.SearchStrategy[pa.DataType]:
    leaf = st.just(pa.int64())
    if depth == 0:
        return leaf
    fields = st.dictionaries(NAMES, types_of_structs(depth - 1), min_size=1, max_size=3)
    return st.one_of(leaf, fields.map(lambda named: pa.struct(list(named.items()))))


def values_of(type_: pa.DataType) -> st.SearchStrategy[Any]:
    if not pa.types.is_struct(type_):
        return st.one_of(st.none(), st.integers(-5, 5))
    return st.one_of(st.none(), st.fixed_dictionaries({field.name: values_of(field.type) for field in type_.fields}))


def ways(type_: pa.DataType) -> list[list[str]]:
    if not pa.types.is_struct(type_):
        return [[]]
    return [[], *([field.name, *rest] for field in type_.fields for rest in ways(field.type))]


def along(value: Any, way: list[str]) -> Any:
    for name in way:
        value = None if value is None else value[name]
    return value


@settings(max_examples=60)
@given(st.data())
def test_a_path_gives_what_python_finds_on_the_way(data: st.DataObject) -> None:
    type_ = pa.struct([("s", data.draw(types_of_structs(3)))])
    rows = data.draw(st.lists(values_of(type_).filter(lambda row: row is not None), max_size=6))
    columns = pa.RecordBatch.from_struct_array(pa.array(rows, type_))
    first = data.draw(st.integers(0, len(rows)))
    part = columns.slice(first)
    all_ways = ways(type_)[1:]
    for way in all_ways:
        name = ".".join(way)
        if sum(".".join(other) == name for other in all_ways) > 1:
            continue  # which of them is meant is told by the length of the names
        path = find_path(columns.schema, name)
        assert path is not None
        assert path.cells(part).values.to_pylist() == [along(row, way) for row in rows[first:]]
