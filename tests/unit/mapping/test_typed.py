"""Columns that have an Arrow type already, as Parquet gives them."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import ConfigError, TargetMismatch
from etl.mapping.kinds import Reading, choose_conversion
from etl.mapping.rows import source_texts
from etl.records import ColumnType, Kind, Reason

DAY = 24 * 3600


def convert(cells: pa.Array, column: ColumnType | Kind, format_: str | None = None) -> list[object]:
    column = ColumnType(column) if isinstance(column, Kind) else column
    converted = choose_conversion(cells.type, column, Reading((format_,) if format_ else ()))(cells)
    values: list[object] = converted.values.to_pylist()
    return [converted.refused[i].reason if i in converted.refused else value for i, value in enumerate(values)]


def test_integers_are_checked_against_the_target_range() -> None:
    cells = pa.array([1, None, 32767, 32768, -32769])
    assert convert(cells, Kind.SMALLINT) == [1, None, 32767, Reason.RANGE, Reason.RANGE]
    assert convert(pa.array([0, 2**63], pa.uint64()), Kind.BIGINT) == [0, Reason.RANGE]
    assert convert(pa.array([-5], pa.int8()), Kind.INTEGER) == [-5]


@pytest.mark.parametrize("type_", [pa.float16(), pa.float32(), pa.float64()])
def test_whole_floats_are_integers(type_: pa.DataType) -> None:
    cells = pa.array([1.0, 1.5, math.nan, math.inf, None, -0.0], type_)
    assert convert(cells, Kind.INTEGER) == [1, Reason.TYPE, Reason.TYPE, Reason.TYPE, None, 0]


def test_floats_beyond_the_range_are_no_integers() -> None:
    cells = pa.array([2.0**63, -(2.0**63), 9007199254740993.0, 1e300])
    assert convert(cells, Kind.BIGINT) == [Reason.RANGE, -(2**63), 9007199254740992, Reason.RANGE]


def test_whole_decimals_are_integers() -> None:
    cells = pa.array([Decimal("1.00"), Decimal("1.50"), Decimal("99999999999.00"), None], pa.decimal128(20, 2))
    assert convert(cells, Kind.INTEGER) == [1, Reason.TYPE, Reason.RANGE, None]
    assert convert(pa.array([Decimal(0)], pa.decimal128(38, 10)), Kind.INTEGER) == [0]


def test_decimals_are_rescaled_and_rounded() -> None:
    cells = pa.array([Decimal("1.005"), Decimal("-1.005"), Decimal("99.999"), None], pa.decimal128(10, 3))
    column = ColumnType(Kind.NUMERIC, precision=4, scale=2)
    assert convert(cells, column) == [Decimal("1.01"), Decimal("-1.01"), Reason.RANGE, None]
    wide = ColumnType(Kind.NUMERIC, precision=20, scale=4)
    assert convert(cells, wide)[0] == Decimal("1.0050")
    tiny = pa.array([Decimal("1E-10"), Decimal(0)], pa.decimal128(38, 10))
    assert convert(tiny, ColumnType(Kind.NUMERIC)) == ["0.0000000001", "0.0000000000"]


def test_floats_in_numeric_are_their_shortest_text() -> None:
    cells = pa.array([0.1, 1e20, math.nan, 1.5e-7])
    assert convert(cells, ColumnType(Kind.NUMERIC)) == ["0.1", "1" + "0" * 20, Reason.TYPE, "0.00000015"]


def test_double_to_real_neither_overflows_nor_vanishes() -> None:
    cells = pa.array([0.5, 1e300, 1e-300, 0.0, math.inf, None])
    assert convert(cells, Kind.REAL) == [0.5, Reason.RANGE, Reason.RANGE, 0.0, math.inf, None]
    assert math.isnan(convert(pa.array([math.nan]), Kind.REAL)[0])  # type: ignore[arg-type]


def test_nan_is_refused_where_the_database_has_none() -> None:
    assert convert(pa.array([math.nan, 1.0]), ColumnType(Kind.DOUBLE, has_nan=False)) == [Reason.RANGE, 1.0]


def test_other_families_go_by_text() -> None:
    assert convert(pa.array([1, 0, 2]), Kind.BOOLEAN) == [True, False, Reason.TYPE]
    assert convert(pa.array([True, None]), Kind.INTEGER) == [Reason.TYPE, None]
    assert convert(pa.array([True, False]), Kind.TEXT) == ["true", "false"]
    assert convert(pa.array([12345]), ColumnType(Kind.TEXT, length=3)) == [Reason.TOO_LONG]
    assert convert(pa.array([1.5, math.nan, -math.inf]), Kind.TEXT) == ["1.5", "NaN", "-Infinity"]
    assert convert(pa.array([Decimal("1.50")]), Kind.TEXT) == ["1.50"]
    assert convert(pa.array([1, 2]), Kind.DATE) == [Reason.TYPE, Reason.TYPE]
    assert convert(pa.nulls(2), Kind.DATE) == [None, None]
    assert convert(pa.array([dt.date(2023, 1, 31)]), Kind.TEXT) == ["2023-01-31"]
    moment = pa.array([0], pa.timestamp("s", "Europe/Lisbon"))
    assert convert(moment, Kind.TEXT) == ["1970-01-01 00:00:00Z"]


def test_dates_outside_the_calendar_are_rejects() -> None:
    days = pa.array([0, -719_163, 2_932_896, 2_932_897, None], pa.int32()).view(pa.date32())
    expected = [dt.date(1970, 1, 1), Reason.RANGE, dt.date(9999, 12, 31), Reason.RANGE, None]
    assert convert(days, Kind.DATE) == expected
    assert convert(days, Kind.TEXT) == ["1970-01-01", Reason.RANGE, "9999-12-31", Reason.RANGE, None]
    assert convert(days, Kind.TIMESTAMP)[:2] == [dt.datetime(1970, 1, 1), Reason.RANGE]
    milliseconds = pa.array([DAY * 1000, DAY * 1000 + 1], pa.int64()).view(pa.date64())
    assert convert(milliseconds, Kind.DATE) == [dt.date(1970, 1, 2), Reason.TYPE]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_timestamps_outside_the_calendar_are_rejects(unit: str) -> None:
    cells = pa.array([2**62, -(2**62), 0, None], pa.timestamp(unit))
    expected = [Reason.RANGE, Reason.RANGE, dt.datetime(1970, 1, 1), None]
    assert convert(cells, Kind.TIMESTAMP) == expected
    assert convert(cells, Kind.TEXT)[:2] == [Reason.RANGE, Reason.RANGE]
    assert convert(cells, Kind.DATE) == [Reason.RANGE, Reason.RANGE, dt.date(1970, 1, 1), None]


def test_timestamps_with_a_time_of_day_are_no_dates() -> None:
    cells = pa.array([dt.datetime(1969, 12, 30), dt.datetime(1969, 12, 30, 0, 0, 1)])
    assert convert(cells, Kind.DATE) == [dt.date(1969, 12, 30), Reason.TYPE]


@given(nanoseconds=st.integers(-(2**63) + 1, 2**63 - 1))
def test_nanoseconds_are_rounded_like_their_text(nanoseconds: int) -> None:
    cells = pa.array([nanoseconds], pa.timestamp("ns"))
    assert convert(cells, Kind.TIMESTAMP) == convert(cells.cast(pa.string()), Kind.TIMESTAMP)


def test_zones_go_to_utc_and_naive_is_utc() -> None:
    noon = dt.datetime(1970, 1, 1, 12, tzinfo=dt.UTC)
    assert convert(pa.array([DAY // 2], pa.timestamp("s", "America/New_York")), Kind.TIMESTAMPTZ) == [noon]
    assert convert(pa.array([DAY // 2], pa.timestamp("s")), Kind.TIMESTAMPTZ) == [noon]


def test_times_of_any_unit() -> None:
    assert convert(pa.array([1], pa.time32("s")), Kind.TIME) == [dt.time(0, 0, 1)]
    assert convert(pa.array([1], pa.time32("ms")), Kind.TIME) == [dt.time(0, 0, 0, 1000)]
    nanoseconds = pa.array([1500, DAY * 10**9 - 1, None], pa.time64("ns"))
    assert convert(nanoseconds, Kind.TIME) == [dt.time(0, 0, 0, 2), Reason.RANGE, None]


@pytest.mark.parametrize(
    "type_", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_texts_of_any_storage(type_: pa.DataType) -> None:
    cells = pa.array(["1", None, "x", "1"]).cast(type_)
    assert convert(cells, Kind.INTEGER) == [1, None, Reason.TYPE, 1]


def test_numbers_in_a_dictionary() -> None:
    assert convert(pa.array([7, None, 7]).dictionary_encode(), Kind.INTEGER) == [7, None, 7]


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2)])
def test_binary_is_bytes_or_the_text_that_it_holds(type_: pa.DataType) -> None:
    cells = (
        pa.array([b"12", None, b"\xff\x00"]).cast(type_)
        if type_ != pa.binary(2)
        else pa.array([b"12", None, b"\xff\x00"], type_)
    )
    assert convert(cells, Kind.BYTES) == [b"12", None, b"\xff\x00"]
    assert convert(cells, Kind.INTEGER) == [12, None, Reason.ENCODING]
    assert source_texts(cells) == ["12", None, "\\xff\\x00"]


def test_uuid_extension_type() -> None:
    cells = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\0" * 16, None], pa.binary(16)))
    assert convert(cells, Kind.UUID) == ["00000000-0000-0000-0000-000000000000", None]


def test_bad_texts_in_parquet_are_rejects() -> None:
    cells = pa.array([b"\xff", b"a\0", b"ok"]).view(pa.string())
    assert convert(cells, Kind.TEXT) == [Reason.ENCODING, Reason.ENCODING, "ok"]
    assert source_texts(cells) == ["\\xff", "a\\x00", "ok"]


def test_nested_cells_become_json() -> None:
    type_ = pa.struct(
        [("n", pa.list_(pa.decimal128(5, 2))), ("d", pa.date32()), ("m", pa.map_(pa.string(), pa.int8()))]
    )
    cells = pa.array([{"n": [Decimal("1.50"), None], "d": dt.date(2023, 1, 31), "m": [("é", 1)]}, None], type_)
    assert convert(cells, Kind.JSON) == ['{"n":[1.50,null],"d":"2023-01-31","m":{"é":1}}', None]
    bad = pa.array([[math.nan], [1.0], [math.inf]])
    assert convert(bad, Kind.JSON) == [Reason.TYPE, "[1.0]", Reason.TYPE]
    odd = pa.array([[2**62]], pa.list_(pa.timestamp("us")))
    assert convert(odd, Kind.JSON) == [Reason.RANGE]
    assert source_texts(odd) == ["(list<item: timestamp[us]>)"]


@pytest.mark.parametrize(
    ("type_", "kind", "message"),
    [
        (pa.list_(pa.int64()), Kind.OTHER, "JSON columns only"),
        (pa.struct([("a", pa.int8())]), Kind.TEXT, "JSON columns only"),
        (pa.timestamp("us", "UTC"), Kind.TIMESTAMP, "time zone"),
        (pa.timestamp("us", "UTC"), Kind.DATE, "time zone"),
        (pa.duration("s"), Kind.TEXT, "no conversion"),
    ],
)
def test_types_that_cannot_be_stored_are_found_at_planning(type_: pa.DataType, kind: Kind, message: str) -> None:
    with pytest.raises(TargetMismatch, match=message):
        choose_conversion(type_, ColumnType(kind))


def test_a_format_for_a_typed_column_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="format is for texts"):
        choose_conversion(pa.date32(), ColumnType(Kind.DATE), Reading(("%Y",)))


def test_source_texts_never_raise() -> None:
    assert source_texts(pa.array([2**62, None], pa.timestamp("s"))) == [str(2**62), None]
    assert source_texts(pa.array([1], pa.duration("s"))) == ["1"]
    assert source_texts(pa.array([b"a\xff"]).dictionary_encode()) == ["a\\xff"]
    assert source_texts(pa.array([1.5, None])) == ["1.5", None]


@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_integers_agree_with_their_texts(values: list[int | None]) -> None:
    cells = pa.array(values, pa.int64())
    for kind in (Kind.SMALLINT, Kind.INTEGER, Kind.BIGINT):
        assert convert(cells, kind) == convert(cells.cast(pa.string()), kind)
