"""What feeds a target column: texts cleaned, defaults, the file, the record, joined and computed columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from etl.config import ColumnSource, Condition
from etl.errors import ConfigError, EtlError, SourceError
from etl.mapping import SourceFacts, map_records, plan_mapping
from etl.mapping.computations import FUNCTIONS
from etl.records import Column, ColumnType, Kind, Position, Reason, RecordBatch, Rows

TEXT = ColumnType(Kind.TEXT)
PLAIN = SourceFacts()
NUMERIC = ColumnType(Kind.NUMERIC, precision=12, scale=2)


@dataclass(frozen=True)
class ThingsLoad:
    columns: Mapping[str, ColumnSource]
    ignore_columns: tuple[str, ...] = ("*",)
    name: str = "things"
    filter: tuple[Condition, ...] = ()


def batch(lines: bool = True, **columns: Any) -> RecordBatch:
    arrays = {name: cells if isinstance(cells, pa.Array) else pa.array(cells, pa.string())
              for name, cells in columns.items()}  # fmt: skip
    made = pa.RecordBatch.from_pydict(arrays)
    numbers = np.arange(11, 11 + made.num_rows, dtype=np.int64)
    return RecordBatch(made, numbers, numbers * 2 if lines else None, (), Position(10 + made.num_rows), 0)


def mapped(records: RecordBatch, type_: ColumnType, facts: SourceFacts = PLAIN, /, **entry: Any) -> Rows:
    load = ThingsLoad({"x": ColumnSource.model_validate(entry), "same": ColumnSource.model_validate({"from": "a"})})
    table = [Column("x", type_), Column("same", TEXT)]
    return map_records(records, plan_mapping(records.columns.schema, table, load, facts))


def cells(records: RecordBatch, type_: ColumnType, facts: SourceFacts = PLAIN, /, **entry: Any) -> list[object]:
    rows = mapped(records, type_, facts, **entry)
    assert not rows.rejects
    found: list[object] = rows.columns.column(0).to_pylist()
    return found


def fault(records: RecordBatch, type_: ColumnType, **entry: Any) -> EtlError:
    with pytest.raises(EtlError) as caught:
        mapped(records, type_, **entry)
    return caught.value


# Texts


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [" Ab\t", "", None, "\u00a0é "]),
        ({"trim": True}, ["Ab", "", None, "é"]),
        ({"case": "upper"}, [" AB\t", "", None, "\u00a0É "]),
        ({"case": "lower", "trim": True}, ["ab", "", None, "é"]),
        ({"empty_as_null": True}, [" Ab\t", None, None, "\u00a0é "]),
        ({"empty_as_null": False}, [" Ab\t", "", "", "\u00a0é "]),
        ({"default": "?"}, [" Ab\t", "", "?", "\u00a0é "]),
        ({"default": "?", "empty_as_null": True}, [" Ab\t", "?", "?", "\u00a0é "]),
    ],
)
def test_texts_are_cleaned_as_asked(keys: dict[str, Any], expected: list[object]) -> None:
    given = batch(a=[" Ab\t", "", None, "\u00a0é "])
    assert cells(given, TEXT, SourceFacts(null_words=("",)), **{"from": "a"}, **keys) == expected


def test_what_trim_leaves_empty_can_be_null() -> None:
    assert cells(batch(a=["  ", " 7 "]), TEXT, **{"from": "a"}, trim=True, empty_as_null=True) == [None, "7"]


def test_texts_are_cleaned_before_they_are_converted() -> None:
    label = ColumnType(Kind.ENUM, labels=("open", "paid"))
    assert cells(batch(a=[" Paid ", "OPEN"]), label, **{"from": "a"}, trim=True, case="lower") == ["paid", "open"]
    day = ColumnType(Kind.DATE)
    assert cells(batch(a=[" 31/01/2023", ""]), day, **{"from": "a"}, trim=True, empty_as_null=True, format="%d/%m/%Y",
                 default=dt.date(1970, 1, 1)) == [dt.date(2023, 1, 31), dt.date(1970, 1, 1)]  # fmt: skip


def test_a_bare_empty_field_that_is_not_told_from_other_nulls_is_a_config_error() -> None:
    facts = SourceFacts(null_words=("", "NULL"))
    with pytest.raises(ConfigError, match="cannot tell an empty field from the other words of null"):
        mapped(batch(a=["x"]), TEXT, facts, **{"from": "a"}, empty_as_null=False)


def test_a_null_of_a_typed_source_is_no_empty_field() -> None:
    assert cells(batch(a=["x", None]), TEXT, **{"from": "a"}, empty_as_null=False) == ["x", None]


def test_cleaning_is_for_texts() -> None:
    error = fault(batch(a=pa.array([1])), ColumnType(Kind.INTEGER), **{"from": "a"}, trim=True)
    assert isinstance(error, ConfigError)
    assert "trim, case and empty_as_null are for texts" in str(error)


def test_broken_texts_are_refused_and_not_cleaned() -> None:
    broken = pa.array([b"a", b"\xff", b"b\0"]).view(pa.string())
    rows = mapped(batch(a=broken), TEXT, **{"from": "a"}, trim=True, case="upper")
    assert rows.columns.column(0).to_pylist() == ["A"]
    assert [(reject.record, reject.reason) for reject in rows.rejects] == [(12, Reason.ENCODING), (13, Reason.ENCODING)]


# Defaults, and what is not in the record


def test_a_default_stands_in_for_a_column_that_the_source_has_not() -> None:
    given = batch(a=["1", "2"])
    assert cells(given, ColumnType(Kind.INTEGER), **{"from": "gone"}, default=7) == [7, 7]
    assert isinstance(fault(given, TEXT, **{"from": "gone"}), SourceError)


def test_a_default_that_does_not_fit_is_a_config_error() -> None:
    error = fault(batch(a=["1"]), ColumnType(Kind.INTEGER), **{"from": "a"}, default="x")
    assert 'target column "x": the default does not fit type integer' in str(error)


def test_a_default_saves_no_cell_that_is_refused() -> None:
    rows = mapped(batch(a=["1", "x", None]), ColumnType(Kind.INTEGER), **{"from": "a"}, default=0)
    assert rows.columns.column(0).to_pylist() == [1, 0]
    assert [reject.record for reject in rows.rejects] == [12]


def test_a_default_without_an_offset_is_in_the_zone_of_the_column() -> None:
    moment = ColumnType(Kind.TIMESTAMPTZ)
    entry = {"from": "a", "timezone": "Europe/Lisbon", "default": dt.datetime(2023, 7, 31, 12)}
    assert cells(batch(a=[None]), moment, **entry) == [dt.datetime(2023, 7, 31, 11, tzinfo=dt.UTC)]
    error = fault(batch(a=["x"]), moment, **(entry | {"default": dt.datetime(2023, 3, 26, 1, 30)}))
    assert "the default does not fit type timestamp with time zone: no such time" in str(error)


def test_file_record_and_line_are_columns() -> None:
    given = batch(a=["x", "y"])
    assert cells(given, TEXT, SourceFacts("in/a.csv"), file=True) == ["in/a.csv", "in/a.csv"]
    assert cells(given, ColumnType(Kind.BIGINT), record=True) == [11, 12]
    assert cells(given, TEXT, record=True) == ["11", "12"]
    assert cells(given, ColumnType(Kind.INTEGER), line=True) == [22, 24]
    assert cells(batch(False, a=["x"]), ColumnType(Kind.INTEGER), line=True) == [None]


def test_a_path_that_the_column_cannot_hold_is_told_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="the path of the source does not fit type text: longer than 3 characters"):
        mapped(batch(a=["x"]), ColumnType(Kind.TEXT, length=3), SourceFacts("a.csv"), file=True)


# Joined and computed


def test_joined_texts_leave_nulls_out() -> None:
    given = batch(a=["Ann", None, "", None], b=["Lee", "Lee", "Lee", None])
    assert cells(given, TEXT, concat=["a", "b"], separator=" ") == ["Ann Lee", "Lee", " Lee", None]
    assert cells(given, TEXT, concat=["a", "b", "a"]) == ["AnnLeeAnn", "Lee", "Lee", None]


def test_typed_columns_are_joined_by_their_texts() -> None:
    given = batch(a=pa.array([1, 2]), b=pa.array([dt.date(2023, 1, 31), None]))
    assert cells(given, TEXT, concat=["a", "b"], separator="/") == ["1/2023-01-31", "2"]


def test_a_joined_date_and_time_is_read_by_a_format() -> None:
    given = batch(a=["31/01/2023"], t=["12:30"])
    type_ = ColumnType(Kind.TIMESTAMP)
    assert cells(given, type_, concat=["a", "t"], separator=" ", format="%d/%m/%Y %H:%M") == [
        dt.datetime(2023, 1, 31, 12, 30)
    ]


@pytest.mark.parametrize(
    ("columns", "type_", "entry", "expected"),
    [
        ({"a": ["PT-123", None]}, TEXT,
         {"compute": "utf8_slice_codeunits", "args": "a", "options": {"start": 0, "stop": 2}}, ["PT", None]),
        ({"a": ["1 234,50"]}, NUMERIC,
         {"compute": "replace_substring_regex", "args": ["a"], "options": {"pattern": "[^0-9]", "replacement": ""}},
         [Decimal("123450.00")]),
        ({"a": ["on 31/01/2023"]}, ColumnType(Kind.DATE),
         {"compute": "replace_substring", "args": ["a"], "options": {"pattern": "on ", "replacement": ""},
          "format": "%d/%m/%Y"}, [dt.date(2023, 1, 31)]),
        ({"a": ["3", None], "b": ["0.10", "1"]}, NUMERIC,
         {"compute": "multiply", "args": ["a", "b"], "as": "numeric(12,2)"}, [Decimal("0.30"), None]),
        ({"a": ["1250"]}, NUMERIC,
         {"compute": "divide", "args": ["a", {"value": 100}], "as": "numeric(12,2)"}, [Decimal("12.50")]),
        ({"a": ["3"]}, ColumnType(Kind.INTEGER),
         {"compute": "subtract", "args": [{"value": 10}, "a"], "as": "integer"}, [7]),
        ({"a": ["31/01/2023"]}, ColumnType(Kind.INTEGER),
         {"compute": "year", "args": ["a"], "as": "date", "format": "%d/%m/%Y"}, [2023]),
        ({"a": [None, "x"], "b": ["y", "z"]}, TEXT, {"compute": "coalesce", "args": ["a", "b"]}, ["y", "x"]),
        ({"a": ["paid", "void"]}, ColumnType(Kind.BOOLEAN),
         {"compute": "equal", "args": ["a", {"value": "paid"}]}, [True, False]),
        ({"a": pa.array([2, 3])}, ColumnType(Kind.INTEGER), {"compute": "negate", "args": "a"}, [-2, -3]),
        ({"a": ["ab"]}, TEXT, {"compute": "utf8_reverse", "args": "a", "case": "upper"}, ["BA"]),
    ],
)  # fmt: skip
def test_columns_are_computed(
    columns: dict[str, Any], type_: ColumnType, entry: dict[str, Any], expected: list[object]
) -> None:
    assert cells(batch(**columns), type_, **entry) == expected


def test_a_record_that_a_function_fails_for_is_refused_alone() -> None:
    given = batch(a=["6"] * 100, b=["0" if place in (3, 4, 99) else "2" for place in range(100)])
    rows = mapped(given, ColumnType(Kind.INTEGER), compute="divide", args=["a", "b"], **{"as": "integer"})
    assert rows.columns.column(0).to_pylist() == [3] * 97
    assert [(reject.record, reject.reason) for reject in rows.rejects] == [
        (14, Reason.COMPUTE),
        (15, Reason.COMPUTE),
        (110, Reason.COMPUTE),
    ]
    assert {reject.message for reject in rows.rejects} == {"divide cannot be computed: a division by zero"}
    assert rows.rejects[0].values == {"a": "6", "b": "0"}


def test_an_overflow_is_refused_and_does_not_wrap_around() -> None:
    given = batch(a=["2147483647", "1"])
    rows = mapped(given, ColumnType(Kind.BIGINT), compute="add", args=["a", {"value": 1}], **{"as": "integer"})
    assert rows.columns.column(0).to_pylist() == [2]
    assert rows.rejects[0].message == "add cannot be computed: the result is too large"


def test_an_argument_that_cannot_be_read_is_refused_for_that() -> None:
    rows = mapped(batch(a=["x", "4"]), ColumnType(Kind.DOUBLE), compute="sqrt", args="a", **{"as": "double"})
    assert rows.columns.column(0).to_pylist() == [2.0]
    assert [(reject.record, reject.reason) for reject in rows.rejects] == [(11, Reason.TYPE)]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"compute": "utf8_uper", "args": "a"}, 'compute allows (did you mean "utf8_upper"?)'),
        ({"compute": "random", "args": "a"}, '"random" is none of the functions that compute allows'),
        ({"compute": "call_function", "args": "a"}, "is none of the functions that compute allows"),
        ({"compute": "utf8_upper", "args": ["a", "a"]}, "utf8_upper takes 1 args, and 2 are given"),
        ({"compute": "utf8_upper", "args": "a", "options": {"memory_pool": 1}}, "no option memory_pool; it has none"),
        ({"compute": "utf8_lpad", "args": "a", "options": {"size": 1}}, "utf8_lpad has no option size; it has width"),
        ({"compute": "utf8_lpad", "args": "a", "options": {"width": "x"}}, "cannot be computed with (string)"),
        ({"compute": "add", "args": ["a", "a"], "options": {"x": 1}}, "add has no option x; it has none"),
        ({"compute": "utf8_lpad", "args": "a"}, "utf8_lpad cannot be computed with (string)"),
        ({"compute": "match_substring_regex", "args": "a", "options": {"pattern": "("}}, "Invalid regular expression"),
        ({"compute": "add", "args": ["a", "a"]}, "Say by as how texts are read."),
        ({"compute": "add", "args": ["a", "a"], "as": "money"}, 'as = "money" is no type that arguments are read in'),
        ({"compute": "add", "args": ["a", "a"], "as": "numeric"}, 'as = "numeric" has not its digits'),
        ({"compute": "add", "args": ["a", "gone"], "as": "integer"}, 'missing column "gone"'),
        ({"compute": "equal", "args": [{"value": 1}, {"value": 1}]}, "compute needs a source column among its args"),
        ({"compute": "add", "args": ["a", {"value": "x"}], "as": "integer"}, "the constant does not fit type integer"),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_told_before_anything_is_read(entry: dict[str, Any], told: str) -> None:
    assert told in str(fault(batch(a=["1"]), TEXT, **entry))


def test_every_allowed_function_looks_at_one_record_alone() -> None:
    for name in FUNCTIONS:
        assert pc.get_function(name).kind == "scalar", name
    assert FUNCTIONS.isdisjoint({"random", "strptime", "assume_timezone", "binary_repeat", "index_in"})


def test_columns_that_are_joined_or_computed_still_feed_those_of_their_names() -> None:
    given = batch(a=["1"], b=["2"])
    load = ThingsLoad({"total": ColumnSource.model_validate({"concat": ["a", "b"]})}, ignore_columns=())
    plan = plan_mapping(given.columns.schema, [Column(name, TEXT) for name in ("a", "total")], load)
    assert map_records(given, plan).columns.to_pylist() == [{"a": "1", "total": "12"}]
    assert plan.source_columns == ("a", "b")
