"""Which source column feeds which target column, and what the user is told when it cannot be."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etl.config import ColumnSource, Condition
from etl.errors import ConfigError, EtlError, SourceError, TargetMismatch
from etl.mapping import Plan, plan_mapping
from etl.records import Column, ColumnType, Kind, Position, RecordBatch


def Entry(source: str | None = None, **keys: Any) -> ColumnSource:
    return ColumnSource.model_validate(keys if source is None else {"from": source} | keys)


@dataclass(frozen=True)
class OrdersLoad:
    columns: Mapping[str, ColumnSource] = field(default_factory=dict)
    ignore_columns: Sequence[str] = ()
    name: str = "orders"
    filter: Sequence[Condition] = ()


TABLE = (
    Column("id", ColumnType(Kind.BIGINT), is_primary_key=True),
    Column("name", ColumnType(Kind.TEXT)),
    Column("day", ColumnType(Kind.DATE)),
    Column("total", ColumnType(Kind.INTEGER), is_generated=True),
)


def source(*names: str) -> pa.Schema:
    return pa.schema([pa.field(name, pa.string()) for name in names])


def plan(names: Sequence[str], load: OrdersLoad = OrdersLoad()) -> Plan:
    return plan_mapping(source(*names), TABLE, load)


def records(**columns: list[object]) -> RecordBatch:
    batch = pa.RecordBatch.from_pydict(columns)
    return RecordBatch(batch, np.arange(1, batch.num_rows + 1), None, (), Position(batch.num_rows), 0)


def fault(names: Sequence[str], load: OrdersLoad = OrdersLoad()) -> EtlError:
    with pytest.raises(EtlError) as caught:
        plan(names, load)
    return caught.value


def test_same_names_are_mapped_in_the_order_of_the_table() -> None:
    planned = plan(["day", "id"])
    assert planned.schema == pa.schema([("id", pa.int64()), ("day", pa.date32())])
    assert planned.source_columns == ("id", "day")


def test_an_entry_takes_its_source_column_and_its_name_is_free() -> None:
    planned = plan(["Order ID", "name"], OrdersLoad({"id": Entry("Order ID")}))
    assert planned.source_columns == ("Order ID", "name")


def test_a_source_column_may_feed_several_target_columns() -> None:
    planned = plan(["id"], OrdersLoad({"id": Entry("id"), "name": Entry("id")}))
    assert planned.source_columns == ("id",)
    assert planned.schema.names == ["id", "name"]


def test_a_source_column_that_an_entry_uses_is_not_matched_by_its_name_too() -> None:
    planned = plan(["name"], OrdersLoad({"id": Entry("name")}))
    assert planned.schema.names == ["id"]


def test_an_ignored_source_column_is_not_matched_by_its_name() -> None:
    assert plan(["id", "name"], OrdersLoad(ignore_columns=("name",))).schema.names == ["id"]


def test_a_star_ignores_what_is_left() -> None:
    planned = plan(["id", "x", "total"], OrdersLoad(ignore_columns=("*",)))
    assert planned.source_columns == ("id",)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("PT", Kind.TEXT, "PT"),
        (5, Kind.INTEGER, 5),
        ("6", Kind.INTEGER, 6),
        (1.0, Kind.INTEGER, 1),
        (True, Kind.BOOLEAN, True),
        (dt.date(2023, 1, 31), Kind.DATE, dt.date(2023, 1, 31)),
        (dt.datetime(2023, 1, 31, 12), Kind.TIMESTAMP, dt.datetime(2023, 1, 31, 12)),
        (dt.time(12, 34), Kind.TIME, dt.time(12, 34)),
        (2**70, Kind.TEXT, str(2**70)),
    ],
)
def test_constants_are_converted_at_planning(value: object, kind: Kind, expected: object) -> None:
    target = [Column("id", ColumnType(Kind.BIGINT)), Column("c", ColumnType(kind))]
    planned = plan_mapping(source("id"), target, OrdersLoad({"c": Entry(value=value)}))
    values = planned.columns[1].convert(records(id=["1", "2"])).values
    assert values.to_pylist() == [expected, expected]
    assert planned.source_columns == ("id",)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("five", Kind.INTEGER),
        (1.5, Kind.INTEGER),
        (2**70, Kind.BIGINT),
        (dt.datetime(2023, 1, 1, tzinfo=dt.UTC), Kind.DATE),
    ],
)
def test_a_constant_that_does_not_fit_is_a_config_error(value: object, kind: Kind) -> None:
    target = [Column("id", ColumnType(Kind.BIGINT)), Column("c", ColumnType(kind))]
    with pytest.raises(ConfigError) as caught:
        plan_mapping(source("id"), target, OrdersLoad({"c": Entry(value=value)}))
    for part in ('Load "orders"', 'target column "c"', kind.value):
        assert part in str(caught.value)
    assert str(value) not in str(caught.value)


def test_an_unknown_target_column_suggests_a_close_one() -> None:
    error = fault(["id"], OrdersLoad({"names": Entry("id")}))
    assert type(error) is TargetMismatch
    assert str(error) == (
        'Load "orders" cannot be mapped: the table has no column "names" (did you mean "name"?). '
        "Correct the names under [load.columns]."
    )


def test_a_missing_source_column_is_named_with_those_that_are_there() -> None:
    error = fault(["Id", "name"], OrdersLoad({"id": Entry("id"), "day": Entry("Id")}))
    assert type(error) is SourceError
    assert str(error) == (
        'Load "orders" cannot be mapped: missing column "id" (did you mean "Id"?); '
        'the source has "Id", "name". '
        "Correct the names under [load.columns] or the source's header."
    )


def test_a_source_column_that_nothing_takes_is_an_error() -> None:
    error = fault(["id", "Name"])
    assert type(error) is SourceError
    assert str(error) == (
        'Load "orders" cannot be mapped: no target column takes source column "Name" (did you mean "name"?). '
        "Map it under [load.columns] or add it to ignore_columns."
    )


def test_a_generated_column_takes_no_value() -> None:
    by_entry = fault(["id"], OrdersLoad({"total": Entry(value=1)}))
    assert type(by_entry) is TargetMismatch
    assert 'target column "total" is generated by the database' in str(by_entry)
    by_name = fault(["id", "total"])
    assert type(by_name) is TargetMismatch
    assert "Add it to ignore_columns." in str(by_name)


def test_a_source_that_feeds_nothing_is_an_error() -> None:
    error = fault(["x"], OrdersLoad(ignore_columns=("*",)))
    assert type(error) is SourceError
    assert 'no target column takes a source column: the source has "x", the table "id"' in str(error)
    only_constants = fault(["x"], OrdersLoad({"id": Entry(value=1)}, ignore_columns=("*",)))
    assert type(only_constants) is SourceError


def test_a_name_that_the_source_has_twice_is_an_error() -> None:
    assert 'more than one column "id"' in str(fault(["id", "id"]))


def test_a_bad_format_is_a_config_error_that_names_the_column() -> None:
    error = fault(["id", "day"], OrdersLoad({"day": Entry("day", format="%Q")}))
    assert type(error) is ConfigError
    assert 'target column "day": the format is none' in str(error)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    columns = {
        "names": Entry("id"),
        "day": Entry("missing"),
        "name": Entry(file=True),
        "id": Entry("id", format="%d"),
    }
    target = [replace(column, type=ColumnType(Kind.INTEGER)) if column.name == "name" else column for column in TABLE]
    with pytest.raises(EtlError) as caught:
        plan_mapping(source("id", "extra"), target, OrdersLoad(columns))
    error = caught.value
    assert type(error) is ConfigError
    for part in (
        '"names"',
        '"missing"',
        '"extra"',
        'target column "id": a format is for dates',
        'target column "name"',
    ):
        assert part in str(error)


def test_a_source_type_that_cannot_be_stored_names_the_column() -> None:
    with pytest.raises(TargetMismatch, match='target column "id": a column of type list'):
        plan_mapping(pa.schema([("id", pa.list_(pa.int8()))]), TABLE, OrdersLoad())


def test_a_type_that_changes_under_way_is_a_source_error() -> None:
    with pytest.raises(SourceError, match="has type int64"):
        plan(["id"]).columns[0].convert(records(id=[1]))
