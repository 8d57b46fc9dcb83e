"""`filter`: which records are loaded, by what the source says."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.config import Condition
from etl.errors import ConfigError, EtlError, SourceError
from etl.mapping.filtering import Judged, plan_filter
from etl.records import Reason


def judged(cells: pa.Array, *conditions: dict[str, Any]) -> Judged:
    columns = pa.RecordBatch.from_pydict({"a": cells})
    return plan_filter(columns.schema, [Condition.model_validate(one) for one in conditions]).judge(columns)


def kept(cells: list[Any] | pa.Array, **condition: Any) -> list[Any]:
    array = cells if isinstance(cells, pa.Array) else pa.array(cells, pa.string())
    found = judged(array, {"column": "a"} | condition)
    assert not found.refused
    return [cell for cell, holds in zip(array.to_pylist(), found.holds, strict=True) if holds]


TEXTS = ["paid", "Paid", "", None, "void"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"equals": "paid"}, ["paid"]),
        ({"equals": ""}, [""]),
        ({"not_equals": "paid"}, ["Paid", "", None, "void"]),
        ({"in": ["paid", "void"]}, ["paid", "void"]),
        ({"not_in": ["paid", "void"]}, ["Paid", "", None]),
        ({"matches": "^[pP]ai"}, ["paid", "Paid"]),
        ({"matches": "i"}, ["paid", "Paid", "void"]),
        ({"is_null": True}, [None]),
        ({"is_null": False}, ["paid", "Paid", "", "void"]),
        ({"less": "paid"}, ["Paid", ""]),
        ({"less_equal": "paid"}, ["paid", "Paid", ""]),
        ({"greater": "paid"}, ["void"]),
        ({"greater_equal": "paid"}, ["paid", "void"]),
    ],
)
def test_a_string_is_compared_with_the_text(condition: dict[str, Any], expected: list[Any]) -> None:
    assert kept(TEXTS, **condition) == expected


NUMBERS = ["9", "10", "1e1", " 10.0 ", "-1", None]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"equals": 10}, ["10", "1e1", " 10.0 "]),
        ({"not_equals": 10}, ["9", "-1", None]),
        ({"in": [9, -1.0]}, ["9", "-1"]),
        ({"not_in": [9, -1.0]}, ["10", "1e1", " 10.0 ", None]),
        ({"greater": 9}, ["10", "1e1", " 10.0 "]),
        ({"less_equal": 9}, ["9", "-1"]),
    ],
)
def test_a_number_is_compared_with_the_number(condition: dict[str, Any], expected: list[Any]) -> None:
    assert kept(NUMBERS, **condition) == expected


def test_numbers_that_one_float_stands_for_are_told_apart() -> None:
    assert kept(["9007199254740993", "9007199254740992"], equals=9007199254740993) == ["9007199254740993"]
    assert kept(["0.1", "0.1000000000000000055"], equals=0.1) == ["0.1"]
    assert kept(["0.1", "0.1000000000000000055"], greater=0.1) == ["0.1000000000000000055"]
    assert kept(["NaN", "1"], not_equals=1) == ["NaN"]


def test_dates_and_times_are_compared_as_what_they_are() -> None:
    days = ["2023-01-31", "2023-02-01", None]
    assert kept(days, less=dt.date(2023, 2, 1)) == ["2023-01-31"]
    assert kept(["31/01/2023", "01/02/2023"], greater_equal=dt.date(2023, 2, 1), format="%d/%m/%Y") == ["01/02/2023"]
    moments = ["2023-01-31 12:00+01:00", "2023-01-31 12:00Z"]
    assert kept(moments, less=dt.datetime(2023, 1, 31, 12, tzinfo=dt.UTC)) == ["2023-01-31 12:00+01:00"]
    assert kept(["2023-01-31 11:00"], equals=dt.datetime(2023, 1, 31, 11)) == ["2023-01-31 11:00"]
    assert kept(["09:00", "10:00"], less=dt.time(10)) == ["09:00"]
    assert kept(["yes", "0", None], equals=True) == ["yes"]


def test_typed_columns_are_compared_too() -> None:
    assert kept(pa.array([9, 10, None]), greater=9) == [10]
    assert kept(pa.array([0.1, 0.2]), equals=0.1) == [0.1]
    assert kept(pa.array([9, 10, None]), equals="9") == [9]
    assert kept(pa.array([dt.date(2023, 1, 31)]), equals=dt.date(2023, 1, 31)) == [dt.date(2023, 1, 31)]
    assert kept(pa.array(["a", "b"]).dictionary_encode(), equals="a") == ["a"]
    assert kept(pa.array([[1], None]), is_null=False) == [[1]]


def test_a_cell_that_cannot_be_read_for_the_comparison_is_refused() -> None:
    found = judged(pa.array(["7", "seven", None]), {"column": "a", "greater": 1})
    assert found.holds.tolist()[0] is True
    assert {place: (column, why.reason) for place, (column, why) in found.refused.items()} == {1: ("a", Reason.TYPE)}


def test_all_conditions_must_hold_and_one_of_any() -> None:
    cells = pa.array(["1", "2", "3", None])
    either = {"any": [{"column": "a", "equals": 1}, {"column": "a", "equals": 3}, {"column": "a", "is_null": True}]}
    assert judged(cells, either).holds.tolist() == [True, False, True, True]
    assert judged(cells, either, {"column": "a", "not_equals": "3"}).holds.tolist() == [True, False, False, True]


def test_a_cell_that_cannot_be_read_does_not_matter_where_another_condition_settles_it() -> None:
    cells = pa.array(["x", "y", "7"])
    number, is_x = {"column": "a", "greater": 1}, {"column": "a", "equals": "x"}
    found = judged(cells, number, {"column": "a", "not_equals": "x"})
    assert (found.holds.tolist()[0], found.holds.tolist()[2], list(found.refused)) == (False, True, [1])
    found = judged(cells, {"any": [number, is_x]})
    assert (found.holds.tolist()[0], found.holds.tolist()[2], list(found.refused)) == (True, True, [1])


def fault(type_: pa.DataType, **condition: Any) -> EtlError:
    with pytest.raises(EtlError) as caught:
        plan_filter(pa.schema([("a", type_)]), [Condition.model_validate({"column": "a"} | condition)])
    return caught.value


def test_what_cannot_be_compared_is_told_before_anything_is_read() -> None:
    assert 'filter: column "a": matches is no regular expression of RE2: missing )' in str(
        fault(pa.string(), matches="(")
    )
    assert "a column of type list<item: int64> can be compared by is_null only" in str(
        fault(pa.list_(pa.int64()), equals=1)
    )
    assert isinstance(fault(pa.bool_(), equals=dt.date(2023, 1, 31), format="%Y"), ConfigError)
    assert "format goes with dates and times" in str(fault(pa.string(), equals="x", format="%Y"))
    assert "the values of in are of more than one type" in str(fault(pa.string(), **{"in": [1, "x"]}))
    with pytest.raises(SourceError, match='filter: missing column "b"; the source has "a"'):
        plan_filter(pa.schema([("a", pa.string())]), [Condition.model_validate({"column": "b", "equals": 1})])


TEXT_NUMBERS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20).map(str),
    st.integers(9007199254740990, 9007199254740995).map(str),
    st.sampled_from(["0.1", "0.10", "1e-1", "0.3", "-0.0", "0", "0.30000000000000004"]),
)


@settings(max_examples=30)
@given(
    texts=st.lists(TEXT_NUMBERS, min_size=1, max_size=8),
    constant=st.one_of(st.integers(9007199254740990, 9007199254740995), st.sampled_from([0.1, 0.3, 0, -5, 1e20])),
)
def test_numbers_are_compared_exactly(texts: list[str], constant: float) -> None:
    exact = Decimal(str(constant))
    assert kept(texts, equals=constant) == [text for text in texts if Decimal(text) == exact]
    assert kept(texts, less=constant) == [text for text in texts if Decimal(text) < exact]
    assert kept(texts, greater_equal=constant) == [text for text in texts if Decimal(text) >= exact]
