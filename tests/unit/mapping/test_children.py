"""Lists of structs to rows of their own, against what Python sees in the same records."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.mapping.children import Elements, map_children
from etl.mapping.paths import find_path
from etl.mapping.plan import ChildPlan, plan_mapping
from etl.mapping.rows import MOST_SHOWN, source_texts
from etl.records import Column, ColumnType, Kind
from tests.unit.mapping.test_paths import load, records_of

STRUCT = pa.struct([("a", pa.int64()), ("in", pa.struct([("b", pa.string())]))])
TARGET = [Column("a", ColumnType(Kind.SMALLINT)), Column("b", ColumnType(Kind.TEXT, length=2))]

elements = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "a": st.one_of(st.none(), st.integers(-3, 3), st.just(70_000)),
            "in": st.one_of(st.none(), st.fixed_dictionaries({"b": st.sampled_from([None, "", "é", "xx", "xxx"])})),
        }
    ),
)
records = st.lists(st.one_of(st.none(), st.lists(elements, max_size=4)), max_size=6)


def plan_for(schema: pa.Schema, *, is_lenient: bool) -> ChildPlan:
    path = find_path(schema, "outer.list")
    assert path is not None
    mapping = plan_mapping(pa.schema(list(path.type.value_type)), TARGET, load(columns={"b": "in.b"}))
    return ChildPlan("list", "t", path, mapping, is_lenient)


def row_of(element: dict[str, Any]) -> dict[str, Any]:
    return {"a": element["a"], "b": None if element["in"] is None else element["in"]["b"]}


def is_bad(element: dict[str, Any] | None) -> bool:
    return element is None or element["a"] == 70_000 or len(row_of(element)["b"] or "") > 2


@pytest.mark.parametrize("list_type", [pa.list_, pa.large_list])
@settings(max_examples=60)
@given(lists=records, first=st.integers(0, 3), is_lenient=st.booleans())
def test_elements_become_rows_with_their_places(list_type: Any, lists: Any, first: int, is_lenient: bool) -> None:
    type_ = pa.struct([("list", list_type(STRUCT))])
    columns = pa.RecordBatch.from_arrays([pa.array([{"list": each} for each in lists], type_)], ["outer"])
    part, lists = columns.slice(first), lists[first:]

    mapped = map_children(records_of(part), plan_for(columns.schema, is_lenient=is_lenient))

    placed = [list(enumerate(each or [], 1)) for each in lists]
    bad = [[place for place, element in each if is_bad(element)] for each in placed]
    assert mapped.lists.to_pylist() == [
        [{"place": place, "columns": row_of(element)} for place, element in each if not is_bad(element)]
        for each in placed
    ]
    left_out = sorted((orphan.index, orphan.path) for orphan in mapped.orphans)
    if is_lenient:
        assert left_out == [(record, (("list", place),)) for record, places in enumerate(bad) for place in places]
        assert mapped.refused == {}
    else:
        assert left_out == []
        assert {record: why.message.partition(" ")[0] for record, (_, why) in mapped.refused.items()} == {
            record: f"list[{places[0]}]" for record, places in enumerate(bad) if places
        }


def test_lists_of_one_length_are_lists_too() -> None:
    lists = pa.array([[1, 2], None, [3, None]], pa.list_(pa.int64(), 2))
    columns = pa.RecordBatch.from_arrays([lists], ["list"])
    path = find_path(columns.schema, "list")
    assert path is not None

    found = Elements.of(records_of(columns), path, pa.schema([("element", pa.int64())]))

    assert found.records.columns.to_pylist() == [{"element": 1}, {"element": 2}, {"element": 3}, {"element": None}]
    assert found.records.numbers.tolist() == [1, 1, 3, 3]
    assert (found.owners.tolist(), found.places.tolist(), list(found.refused)) == ([0, 0, 2, 2], [1, 2, 1, 2], [3])


def test_a_nested_value_in_a_reject_is_cut_as_long_records_are() -> None:
    (text,) = source_texts(pa.array([["x" * 100_000]]))

    assert text is not None
    assert len(text) == MOST_SHOWN + 1
    assert text.endswith("x…")
