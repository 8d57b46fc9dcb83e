"""A batch of records to a batch of rows, column by column."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from etl.json_cells import are_json_cells
from etl.mapping.children import first_refusals, map_children
from etl.mapping.conversion import Refused
from etl.mapping.documents import json_document
from etl.mapping.plan import Plan
from etl.mapping.typed import canonical_texts, is_document, plain_array
from etl.mapping.unquoting import shown_texts
from etl.records import Orphan, Phase, RecordBatch, Reject, Rows

if TYPE_CHECKING:
    from etl.mapping.filtering import RecordFilter
    from etl.mapping.transforms import Transform


def map_records(records: RecordBatch, plan: Plan) -> Rows:
    """The rows of a record batch, in order, and a reject for each record that cannot be mapped.

    What the filter and the transform of the plan leave out is no row and no reject. A record with several bad cells is
    one reject, which names the first of them in the order of the target table, and then of its children. NULL is mapped
    to NULL for every type: whether a column may be NULL is for the database to say.
    """
    taken = _taken(records, plan)
    converted = [column.convert(taken.records) for column in plan.columns]
    children = [map_children(taken.records, child) for child in plan.children]
    columns = pa.RecordBatch.from_arrays([column.values for column in converted], schema=plan.schema)
    for child, mapped in zip(plan.children, children, strict=True):
        columns = columns.append_column(child.name, mapped.lists)
    refused = first_refusals(plan.columns, converted, children)
    orphans = tuple(orphan for mapped in children for orphan in mapped.orphans)
    indices = taken.places
    rejects = _rejects(records, taken.refused | {int(indices[place]): why for place, why in refused.items()})
    if refused:
        good = _none_of(refused, columns.num_rows)
        columns, indices, orphans = columns.filter(pa.array(good)), indices[good], _kept_orphans(orphans, good)
    nested = taken.records if plan.children and plan.transform is not None else None
    return Rows(columns, indices, rejects, taken.filtered, orphans, nested)


def taken_records(records: RecordBatch, plan: Plan) -> RecordBatch:
    """Those of a record batch that the filter takes, as the transform returns them."""
    return _taken(records, plan).records


_Refusals = dict[int, tuple[str | None, Refused]]  # by place: the column, and why


@dataclass(frozen=True, slots=True)
class _Taken:
    """The records that are to be mapped, their places in the record batch, the refusals of others, and how many are
    left out."""

    records: RecordBatch
    places: NDArray[np.int64]
    refused: _Refusals
    filtered: int


def _taken(records: RecordBatch, plan: Plan) -> _Taken:
    taken = _Taken(records, np.arange(len(records.numbers), dtype=np.int64), {}, 0)
    if plan.filter is not None:
        taken = _filtered(taken, plan.filter)
    return taken if plan.transform is None else _transformed(taken, plan.transform)


def _filtered(taken: _Taken, record_filter: RecordFilter) -> _Taken:
    judged = record_filter.judge(taken.records.columns)
    are_judged = _none_of(judged.refused, len(taken.places))
    keeps = judged.holds & are_judged
    left_out = int(np.count_nonzero(~judged.holds & are_judged))
    return _Taken(_where(taken.records, keeps), taken.places[keeps], dict(judged.refused), left_out)


def _transformed(taken: _Taken, transform: Transform) -> _Taken:
    result = transform.apply(taken.records)
    before = taken.records.numbers
    refused: _Refusals = {
        int(taken.places[np.searchsorted(before, number)]): (None, why) for number, why in result.refused.items()
    }
    places = taken.places[np.searchsorted(before, result.records.numbers)]
    left_out = len(before) - len(places) - len(refused)
    return _Taken(result.records, places, taken.refused | refused, taken.filtered + left_out)


def _none_of(places: Iterable[int], count: int) -> NDArray[np.bool_]:
    mask = np.ones(count, dtype=bool)
    mask[list(places)] = False
    return mask


def _where(records: RecordBatch, mask: NDArray[np.bool_]) -> RecordBatch:
    if mask.all():
        return records
    lines = None if records.lines is None else records.lines[mask]
    return replace(records, columns=records.columns.filter(pa.array(mask)), numbers=records.numbers[mask], lines=lines)


def _kept_orphans(orphans: Sequence[Orphan], good: NDArray[np.bool_]) -> tuple[Orphan, ...]:
    """Those of records that are rows, by the places of these."""
    places = np.cumsum(good) - 1
    return tuple(replace(orphan, index=int(places[orphan.index])) for orphan in orphans if good[orphan.index])


def _rejects(records: RecordBatch, refused: _Refusals) -> tuple[Reject, ...]:
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
    plain = shown_texts(column) if are_json_cells(column.type) else plain_array(column)
    if types.is_string(plain.type) or types.is_binary(plain.type) or types.is_fixed_size_binary(plain.type):
        return [_shown(cell.as_py()) if cell.is_valid else None for cell in plain.cast(pa.binary())]
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
