"""The data of a COPY: each chunk holds its own rows, and can go without the others."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.database import session_factory
from etl.database.copying import CHUNK_ROWS, copy_blocks, cursor_of, encode, encode_kept, quoted
from etl.records import Encoded
from tests.jobs import fetch, opened_target, run_sql

ROWS = 2 * CHUNK_ROWS + 100
NUMBERS = list(range(ROWS))
FORMS = {  # inet has no exact binary form
    "binary": ("text", pa.array([str(number) for number in NUMBERS])),
    "text": ("inet", pa.array([f"10.{number // 256}.{number % 256}.1" for number in NUMBERS])),
}


def copied(url: str, form: str, rows: pa.RecordBatch, make: Any) -> list[int]:
    """The ids in the table after a COPY of what ``make`` gives for the rows and their types."""
    sql_type, _ = FORMS[form]
    run_sql(url, f"CREATE TABLE t (id bigint, value {sql_type})")
    with opened_target(url) as (connection, target), session_factory(connection)() as session:
        types = ["bigint", sql_type]
        copy_blocks(cursor_of(session), quoted(target.table), rows.schema, types, make(rows, types))
        session.commit()
    return [number for (number,) in fetch(url, "SELECT id FROM t ORDER BY id")]


def rows_of(form: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"id": pa.array(NUMBERS, pa.int64()), "value": FORMS[form][1]})


@pytest.mark.parametrize("form", FORMS)
def test_all_chunks_together_are_all_rows(postgres_url: str, form: str) -> None:
    assert copied(postgres_url, form, rows_of(form), encode) == NUMBERS


@pytest.mark.parametrize("form", FORMS)
def test_a_chunk_alone_is_its_own_rows(postgres_url: str, form: str) -> None:
    def second_chunk(rows: pa.RecordBatch, types: list[str]) -> Encoded:
        return encode(rows, types).part(1, 1)

    assert copied(postgres_url, form, rows_of(form), second_chunk) == NUMBERS[CHUNK_ROWS : 2 * CHUNK_ROWS]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dropped", [[0], [CHUNK_ROWS], [ROWS - 1], list(range(CHUNK_ROWS)), [5, CHUNK_ROWS + 5]])
def test_rows_that_are_not_kept_are_missing_and_no_others(postgres_url: str, form: str, dropped: list[int]) -> None:
    is_kept = np.ones(ROWS, dtype=np.bool_)
    is_kept[dropped] = False

    def kept(rows: pa.RecordBatch, types: list[str]) -> object:
        return encode_kept(rows, types, encode(rows, types), is_kept)

    assert copied(postgres_url, form, rows_of(form), kept) == np.flatnonzero(is_kept).tolist()


WIDE = {
    "bigint": pa.array([None if number % 5 == 0 else number << 8 for number in NUMBERS], pa.int64()),
    "text": pa.array([None if number % 3 == 0 else "a\\b\tc\nd\r\ne" * (number % 4) for number in NUMBERS]),
    "numeric": pa.array([Decimal(number) / 100 if number % 7 else None for number in NUMBERS], pa.decimal128(12, 2)),
    "bytea": pa.array([bytes([0, 3, 0, 0]) * (number % 3) for number in NUMBERS], pa.binary()),
    "boolean": pa.array([number % 2 == 0 for number in NUMBERS]),
    "json": pa.array([f'{{"n": {number}}}' for number in NUMBERS]),
}
INET = {"inet": FORMS["text"][1], **WIDE}


@settings(max_examples=60, deadline=None)
@given(dropped=st.sets(st.integers(0, ROWS - 1), max_size=4), columns=st.sampled_from([WIDE, INET]))
def test_what_is_kept_is_what_the_kept_rows_alone_would_be(dropped: set[int], columns: dict[str, pa.Array]) -> None:
    rows, types = pa.RecordBatch.from_pydict(columns), list(columns)
    is_kept = np.ones(ROWS, dtype=np.bool_)
    is_kept[list(dropped)] = False

    kept = b"".join(encode_kept(rows, types, encode(rows, types), is_kept))

    assert kept == b"".join(encode(rows.filter(pa.array(is_kept)), types))
