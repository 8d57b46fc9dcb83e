"""A batch of records to a batch of rows and rejects."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from etl.config import ColumnSource, Condition
from etl.mapping import map_records, plan_mapping, source_documents
from etl.records import Column, ColumnType, Kind, Phase, Position, Reason, RecordBatch, Reject


def Entry(source: str | None = None, **keys: Any) -> ColumnSource:
    return ColumnSource.model_validate(keys if source is None else {"from": source} | keys)


@dataclass(frozen=True)
class ItemsLoad:
    columns: dict[str, ColumnSource] = field(default_factory=dict)
    ignore_columns: tuple[str, ...] = ()
    name: str = "items"
    filter: tuple[Condition, ...] = ()


TABLE = [
    Column("id", ColumnType(Kind.INTEGER), nullable=False),
    Column("price", ColumnType(Kind.NUMERIC, precision=6, scale=2)),
    Column("name", ColumnType(Kind.TEXT, length=5)),
]


def records(columns: pa.RecordBatch, first: int = 1, has_lines: bool = True) -> RecordBatch:
    numbers = np.arange(first, first + columns.num_rows, dtype=np.int64)
    return RecordBatch(columns, numbers, numbers * 2 if has_lines else None, (), Position(), 0)


def batch(**columns: list[str | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(c, pa.string()) for c in columns.values()], names=list(columns))


def test_bad_records_are_rejects_and_the_others_are_rows_in_order() -> None:
    given_ = batch(
        name=["a", "toolong", "c", "d"],
        Price=["1", "2", "x", None],
        id=["1", "y", "3", " 4"],
        note=["", None, "n", ""],
    )
    plan = plan_mapping(given_.schema, TABLE, ItemsLoad({"price": Entry("Price")}, ("note",)))
    rows = map_records(records(given_, first=11), plan)
    assert rows.columns.to_pylist() == [
        {"id": 1, "price": Decimal("1.00"), "name": "a"},
        {"id": 4, "price": None, "name": "d"},
    ]
    assert rows.indices.tolist() == [0, 3]
    assert rows.rejects == (
        Reject(
            record=12,
            line=24,
            phase=Phase.MAP,
            reason=Reason.TYPE,
            message="not a whole number: digits are expected, with a sign or without",
            column="id",
            values={"name": "toolong", "Price": "2", "id": "y", "note": None},
        ),
        Reject(
            record=13,
            line=26,
            phase=Phase.MAP,
            reason=Reason.TYPE,
            message="not a decimal number",
            column="price",
            values={"name": "c", "Price": "x", "id": "3", "note": "n"},
        ),
    )


def test_null_is_mapped_to_null_even_where_the_table_wants_a_value() -> None:
    given_ = batch(id=[None])
    rows = map_records(records(given_), plan_mapping(given_.schema, TABLE, ItemsLoad()))
    assert rows.columns.to_pylist() == [{"id": None}]
    assert rows.rejects == ()


def test_rejects_of_parquet_have_no_line_and_values_that_are_text() -> None:
    given_ = pa.RecordBatch.from_arrays(
        [pa.array([1.5]), pa.array([b"a\0\xff"]).view(pa.string()), pa.array([[1, 2]])],
        names=["id", "name", "list"],
    )
    plan = plan_mapping(given_.schema, TABLE, ItemsLoad(ignore_columns=("*",)))
    (reject,) = map_records(records(given_, has_lines=False), plan).rejects
    assert reject.line is None
    assert reject.column == "id"
    assert reject.values == {"id": "1.5", "name": "a\\x00\\xff", "list": "[1,2]"}


def test_constants_fill_every_row() -> None:
    given_ = batch(id=["1", "x", "3"])
    plan = plan_mapping(given_.schema, TABLE, ItemsLoad({"name": Entry(value="PT"), "price": Entry(value=1.5)}))
    assert map_records(records(given_), plan).columns.to_pylist() == [
        {"id": 1, "price": Decimal("1.50"), "name": "PT"},
        {"id": 3, "price": Decimal("1.50"), "name": "PT"},
    ]


def test_no_records_give_no_rows() -> None:
    given_ = batch(id=[])
    rows = map_records(records(given_), plan_mapping(given_.schema, TABLE, ItemsLoad()))
    assert (rows.columns.num_rows, rows.indices.tolist(), rows.rejects) == (0, [], ())


def test_clean_text_is_not_copied() -> None:
    given_ = batch(name=["a", "b"])
    rows = map_records(records(given_), plan_mapping(given_.schema, TABLE, ItemsLoad()))
    assert rows.columns.column("name").buffers()[2].address == given_.column("name").buffers()[2].address


CELLS = st.tuples(
    st.none() | st.sampled_from(["1", "-7", "2147483648", "x", " 5 ", "+3"]),
    st.none() | st.sampled_from(["1.5", "1.005", "99999", "", "1e2"]),
    st.none() | st.text(max_size=8).filter(lambda text: "\0" not in text and text.isprintable()),
)
IDS: dict[str | None, int | None] = {None: None, "1": 1, "-7": -7, " 5 ": 5, "+3": 3}
PRICES: dict[str | None, Decimal | None] = {
    None: None,
    "1.5": Decimal("1.50"),
    "1.005": Decimal("1.01"),
    "1e2": Decimal("100.00"),
}


@given(cells=st.lists(CELLS), before=st.integers(0, 3))
def test_every_record_is_a_row_or_a_reject(cells: list[tuple[str | None, str | None, str | None]], before: int) -> None:
    padded = [("1", "1", "a")] * before + cells  # a slice that does not begin at offset 0
    given_ = batch(id=[c[0] for c in padded], price=[c[1] for c in padded], name=[c[2] for c in padded]).slice(before)
    rows = map_records(records(given_), plan_mapping(given_.schema, TABLE, ItemsLoad()))
    good = [i for i, (id_, price, name) in enumerate(cells) if id_ in IDS and price in PRICES and len(name or "") <= 5]
    assert rows.indices.tolist() == good
    assert [reject.record - 1 for reject in rows.rejects] == [i for i in range(len(cells)) if i not in good]
    assert rows.columns.to_pylist() == [
        {"id": IDS[cells[i][0]], "price": PRICES[cells[i][1]], "name": cells[i][2]} for i in good
    ]


any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


@given(st.lists(st.tuples(st.none() | any_text, st.none() | st.text('a"\\ é\t', max_size=4)), min_size=1, max_size=9))
def test_documents_of_many_records_are_what_python_writes_of_each(cells: list[tuple[str | None, str | None]]) -> None:
    names = ["a", 'the "é"']
    columns = pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in zip(*cells, strict=True)], names)
    indices = list(range(len(cells)))[::-1]
    assert source_documents(columns, indices).to_pylist() == [
        json.dumps(dict(zip(names, cells[index], strict=True))) for index in indices
    ]


def test_documents_of_typed_columns_hold_the_texts_of_the_rejects() -> None:
    columns = pa.RecordBatch.from_pydict(
        {
            "n": pa.array([1, None]),
            "day": pa.array([0, 1], pa.date32()),
            "raw": pa.array([b"\xff\0", b"a"]),
            "text": pa.array([b"\xff", b'"'], pa.binary()).view(pa.string()),
        }
    )
    assert [json.loads(text) for text in source_documents(columns, [0, 1]).to_pylist()] == [
        {"n": "1", "day": "1970-01-01", "raw": "\\xff\\x00", "text": "\\xff"},
        {"n": None, "day": "1970-01-02", "raw": "a", "text": '"'},
    ]
