"""A batch of records to a batch of rows, column by column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from etl.mapping.children import MappedChildren, map_children
from etl.mapping.conversion import Converted, Refused
from etl.mapping.documents import json_document
from etl.mapping.plan import Plan
from etl.mapping.typed import canonical_texts, is_document, plain_array
from etl.records import Orphan, Phase, RecordBatch, Reject, Rows


def map_records(records: RecordBatch, plan: Plan) -> Rows:
    """The rows of a record batch, in order, and a reject for each record that cannot be mapped.

    A record with several bad cells is one reject, which names the first of them in the order of the target
    table. NULL is mapped to NULL for every type: whether a column may be NULL is for the database to say.
    """
    converted = [column.convert(records.columns) for column in plan.columns]
    children = [map_children(records.columns, child) for child in plan.children]
    columns = pa.RecordBatch.from_arrays([column.values for column in converted], schema=plan.schema)
    for child, mapped in zip(plan.children, children, strict=True):
        columns = columns.append_column(child.name, mapped.lists)
    refused = _first_refusals(plan, converted, children)
    orphans = [orphan for mapped in children for orphan in mapped.orphans]
    if not refused:
        return Rows(columns, np.arange(columns.num_rows, dtype=np.int64), (), tuple(orphans))
    good = np.ones(columns.num_rows, dtype=bool)
    good[list(refused)] = False
    return Rows(
        columns.filter(pa.array(good)), np.flatnonzero(good), _rejects(records, refused), _kept_orphans(orphans, good)
    )


def _first_refusals(
    plan: Plan, converted: Sequence[Converted], children: Sequence[MappedChildren]
) -> dict[int, tuple[str, Refused]]:
    refused: dict[int, tuple[str, Refused]] = {}
    for column, cells in zip(plan.columns, converted, strict=True):
        for index, why in cells.refused.items():
            refused.setdefault(index, (column.name, why))
    for mapped in children:
        for index, told in mapped.refused.items():
            refused.setdefault(index, told)
    return refused


def _kept_orphans(orphans: Sequence[Orphan], good: NDArray[np.bool_]) -> tuple[Orphan, ...]:
    """Those of records that are rows, by the places of these."""
    places = np.cumsum(good) - 1
    return tuple(replace(orphan, index=int(places[orphan.index])) for orphan in orphans if good[orphan.index])


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


def source_documents(columns: pa.RecordBatch, indices: Sequence[int] | NDArray[np.int64]) -> pa.Array:
    """The same as JSON objects, a text each: many rejects at once, without an object of Python for each."""
    chosen = columns.take(pa.array(indices, pa.int64()))
    members = [
        pc.binary_join_element_wise(f"{json.dumps(name)}: ", _json_texts(column), "")
        for name, column in zip(chosen.schema.names, chosen.columns, strict=True)
    ]
    return pc.binary_join_element_wise("{", pc.binary_join_element_wise(*members, ", "), "}", "")


MOST_SHOWN = 65_536  # characters of a nested value in a reject

_NEEDS_NO_ESCAPE = r"\A[ !#-\[\]-~]*\z"


def _json_texts(column: pa.Array) -> pa.Array:
    """The cells as JSON strings in ASCII, as ``json.dumps`` writes them, or ``null``."""
    if not types.is_string(column.type):
        return pa.array([json.dumps(text) for text in source_texts(column)], pa.string())
    plain = pc.fill_null(pc.match_substring_regex(column, _NEEDS_NO_ESCAPE), True)
    quoted = pc.fill_null(pc.binary_join_element_wise('"', pc.if_else(plain, column, ""), '"', ""), "null")
    if plain.true_count == len(plain):
        return quoted
    odd = column.filter(pc.invert(plain)).dictionary_encode()  # columns mostly say the same odd things again
    written = pa.array([json.dumps(text) for text in source_texts(odd.dictionary)], pa.string())
    return pc.replace_with_mask(quoted, pc.invert(plain), written.take(odd.indices))


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
    """As long as the text of a record that could not be read: a list may hold most of its record."""
    text = json_document(cell)
    if isinstance(text, Refused):
        return f"({cell.type})"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
