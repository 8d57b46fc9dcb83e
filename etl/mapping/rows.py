"""A batch of records to a batch of rows, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from etl.mapping.conversion import Converted, Refused
from etl.mapping.documents import json_document
from etl.mapping.plan import Plan
from etl.mapping.typed import canonical_texts, is_document, plain_array
from etl.records import Phase, RecordBatch, Reject, Rows


def map_records(records: RecordBatch, plan: Plan) -> Rows:
    """The rows of a record batch, in order, and a reject for each record that cannot be mapped.

    A record with several bad cells is one reject, which names the first of them in the order of the target
    table. NULL is mapped to NULL for every type: whether a column may be NULL is for the database to say.
    """
    converted = [column.convert(records.columns) for column in plan.columns]
    columns = pa.RecordBatch.from_arrays([column.values for column in converted], schema=plan.schema)
    refused = _first_refusals(plan, converted)
    if not refused:
        return Rows(columns, np.arange(columns.num_rows, dtype=np.int64), ())
    good = np.ones(columns.num_rows, dtype=bool)
    good[list(refused)] = False
    return Rows(columns.filter(pa.array(good)), np.flatnonzero(good), _rejects(records, refused))


def _first_refusals(plan: Plan, converted: Sequence[Converted]) -> dict[int, tuple[str, Refused]]:
    refused: dict[int, tuple[str, Refused]] = {}
    for column, cells in zip(plan.columns, converted, strict=True):
        for index, why in cells.refused.items():
            refused.setdefault(index, (column.name, why))
    return refused


def _rejects(records: RecordBatch, refused: dict[int, tuple[str, Refused]]) -> tuple[Reject, ...]:
    indices = sorted(refused)
    return tuple(
        Reject(
            record=int(records.numbers[index]),
            line=records.line_of(index),
            phase=Phase.MAP,
            reason=refused[index][1].reason,
            message=refused[index][1].message,
            column=refused[index][0],
            values=values,
        )
        for index, values in zip(indices, source_values(records.columns, indices), strict=True)
    )


def source_values(columns: pa.RecordBatch, indices: Sequence[int]) -> list[dict[str, str | None]]:
    """The source's own texts of the records at ``indices`` by source column name, for the rejects."""
    if not indices:
        return []
    chosen = columns.take(pa.array(indices, pa.int64()))
    texts = [source_texts(column) for column in chosen.columns]
    return [dict(zip(columns.schema.names, cells, strict=True)) for cells in zip(*texts, strict=True)]


def source_texts(column: pa.Array) -> list[str | None]:
    """The cells as texts for the list of rejects; never raises, whatever the file holds.

    Bytes that are no text, and NUL, are written as ``\\xNN``; a cell that has no text is written as its bare
    number.
    """
    plain = plain_array(column)
    if types.is_string(plain.type) or types.is_binary(plain.type) or types.is_fixed_size_binary(plain.type):
        return [None if cell is None else _shown(cell) for cell in plain.cast(pa.binary()).to_pylist()]
    if is_document(plain.type):
        return [_shown_document(cell) if cell.is_valid else None for cell in plain]
    has_text = not (types.is_duration(plain.type) or types.is_interval(plain.type))
    texts: list[str | None] = canonical_texts(plain).values.to_pylist() if has_text else [None] * len(plain)
    # A date that is out of the calendar was refused for it, and has no text but its number.
    return [
        str(cell.value) if text is None and cell.is_valid else text for text, cell in zip(texts, plain, strict=True)
    ]


def _shown(cell: bytes) -> str:
    return cell.decode(errors="backslashreplace").replace("\0", "\\x00")


def _shown_document(cell: Any) -> str:
    text = json_document(cell)
    return f"({cell.type})" if isinstance(text, Refused) else text
