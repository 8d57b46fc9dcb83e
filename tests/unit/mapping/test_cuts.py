"""However a source is cut into record batches, each record has the same verdict, and each row the same values."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.config import ColumnSource, Condition
from etl.errors import RecordErrors
from etl.mapping import Plan, SourceFacts, map_records, plan_mapping
from etl.records import Column, ColumnType, Kind, Position, Reason, RecordBatch

TABLE = [
    Column("id", ColumnType(Kind.INTEGER)),
    Column("day", ColumnType(Kind.DATE)),
    Column("each", ColumnType(Kind.NUMERIC, precision=10, scale=2)),
    Column("who", ColumnType(Kind.TEXT, length=6)),
    Column("record", ColumnType(Kind.INTEGER)),
]
COLUMNS = {
    "id": {"from": "id"},
    "day": {"from": "day", "format": ["%d/%m/%Y", "%Y-%m-%d"]},
    "each": {"compute": "divide", "args": ["total", "pieces"], "as": "numeric(8,2)", "default": 0},
    "who": {"concat": ["id", "name"], "separator": "-", "trim": True, "case": "upper"},
    "record": {"record": True},
}
FILTER = ({"any": [{"column": "total", "greater": 1}, {"column": "total", "is_null": True}]},)


@dataclass(frozen=True)
class CutLoad:
    columns: dict[str, ColumnSource]
    filter: tuple[Condition, ...]
    ignore_columns: tuple[str, ...] = ()
    name: str = "cut"


def clean(records: pa.RecordBatch) -> pa.RecordBatch:
    bad = records.filter(pc.equal(records["name"], "bad"))
    if bad.num_rows:
        raise RecordErrors(dict.fromkeys(bad["etl_record"].to_pylist(), "bad"))
    return records.filter(pc.fill_null(pc.not_equal(records["name"], "drop"), True))


RECORDS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["1", "2", "x", None]),
        "day": st.sampled_from(["31/01/2023", "2023-01-31", "1/2/2023", "31/02/2023", "soon", None]),
        "total": st.sampled_from(["4", "6.5", "0", "many", None]),
        "pieces": st.sampled_from(["2", "0", "none", None]),
        "name": st.sampled_from(["ann", " bob ", "bad", "drop", "far too long", None]),
    }
)


def expected(record: dict[str, str | None], number: int) -> object:
    """The verdict by the rules, one record at a time: a row, a reason, or None for one that is left out."""
    total, pieces, name = record["total"], record["pieces"], record["name"]
    if total == "many":
        return Reason.TYPE
    if total == "0" or name == "drop":
        return None
    if name == "bad":
        return Reason.TRANSFORM
    if record["id"] == "x" or record["day"] == "soon":
        return Reason.TYPE
    if record["day"] == "31/02/2023":
        return Reason.RANGE
    if pieces == "none":
        return Reason.TYPE
    if pieces == "0" and total is not None:
        return Reason.COMPUTE
    who = "-".join(text for text in (record["id"], name) if text is not None).strip().upper() or None
    if who is not None and len(who) > 6:
        return Reason.TOO_LONG
    days = {"31/01/2023": "2023-01-31", "2023-01-31": "2023-01-31", "1/2/2023": "2023-02-01", None: None}
    each = Decimal(total) / 2 if total is not None and pieces == "2" else Decimal(0)
    return (None if record["id"] is None else int(record["id"]), days[record["day"]], each, who, number)


def verdicts(plan: Plan, records: list[dict[str, Any]], size: int) -> list[object]:
    found: list[object] = [None] * len(records)
    filtered = 0
    for start in range(0, len(records), size):
        part = records[start : start + size]
        columns = pa.RecordBatch.from_pylist(part, schema=plan.source)
        numbers = np.arange(start + 1, start + 1 + len(part), dtype=np.int64)
        rows = map_records(RecordBatch(columns, numbers, numbers, (), Position(start + len(part)), 0), plan)
        filtered += rows.filtered
        for index, row in zip(rows.indices, rows.columns.to_pylist(), strict=True):
            day = None if row["day"] is None else str(row["day"])
            found[start + index] = (row["id"], day, row["each"], row["who"], row["record"])
        for reject in rows.rejects:
            found[reject.record - 1] = reject.reason
    assert filtered == found.count(None)
    return found


@settings(max_examples=25)
@given(records=st.lists(RECORDS, min_size=1, max_size=12), size=st.integers(1, 12))
def test_each_record_has_its_verdict_however_the_source_is_cut(records: list[dict[str, Any]], size: int) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("id", "day", "total", "pieces", "name")])
    entries = {name: ColumnSource.model_validate(entry) for name, entry in COLUMNS.items()}
    load = CutLoad(entries, tuple(map(Condition.model_validate, FILTER)))
    plan = plan_mapping(schema, TABLE, load, SourceFacts("a.csv", ("",), transform=clean, transform_name="m:clean"))
    assert verdicts(plan, records, size) == [expected(record, number) for number, record in enumerate(records, start=1)]
