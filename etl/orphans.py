"""Elements of lists: how many met which fate, and the rejects of those that were left out of their records.

The counts of a run are those of its records. What was left out of a record that is written is no reject of a record: it
is counted with the children, and is listed with the record's number in the phase ``child``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from etl.errors import AccountingError
from etl.mapping import ChildPlan, Elements, Plan, source_values
from etl.records import ChildCounts, Orphan, Outcome, Phase, RecordBatch, Reject, Rows


def orphans_of(rows: Rows, outcome: Outcome) -> tuple[Orphan, ...]:
    """What mapper and writer have left out of records that are written, in order."""
    refused = {refusal.index for refusal in outcome.refusals} if rows.orphans else frozenset()
    kept = (orphan for orphan in rows.orphans if orphan.index not in refused)
    return tuple(sorted((*kept, *outcome.orphans), key=lambda orphan: (orphan.index, orphan.path)))


def orphan_rejects(records: RecordBatch, rows: Rows, orphans: Iterable[Orphan], mapping: Plan) -> tuple[Reject, ...]:
    """A reject for each, with the number of its record and the element's own values, as the mapper was given them."""
    nested = rows.nested or records
    places = _places_in(nested, records, rows.indices)
    return tuple(_reject(nested, int(places[orphan.index]), orphan, mapping) for orphan in orphans)


def _places_in(nested: RecordBatch, records: RecordBatch, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the records at ``indices`` are in ``nested``, which has some of them, or all."""
    return np.searchsorted(nested.numbers, records.numbers[indices])


def _reject(records: RecordBatch, index: int, orphan: Orphan, mapping: Plan) -> Reject:
    cause = orphan.cause
    place = ".".join(f"{name}[{number}]" for name, number in orphan.path)
    element, table = _element(_one_of(records, index), orphan.path, mapping.children)
    return Reject(
        record=int(records.numbers[index]),
        line=records.line_of(index),
        phase=Phase.CHILD,
        reason=cause.reason,
        message=f"{place} ({table}): {cause.message}",
        sqlstate=cause.sqlstate,
        constraint=cause.constraint,
        column=cause.column,
        values=source_values(element.columns, [0])[0],
    )


def _one_of(records: RecordBatch, index: int) -> RecordBatch:
    lines = None if records.lines is None else records.lines[index : index + 1]
    return replace(
        records, columns=records.columns.slice(index, 1), numbers=records.numbers[index : index + 1], lines=lines
    )


def _element(
    record: RecordBatch, path: Sequence[tuple[str, int]], children: Sequence[ChildPlan]
) -> tuple[RecordBatch, str]:
    """The element that ``path`` leads to, as a record of its own, and its table."""
    table = ""
    for name, place in path:
        plan = next(child for child in children if child.name == name)
        elements = Elements.of(record, plan.path, plan.mapping.source).records
        children, table = plan.mapping.children, plan.table
        record = _one_of(elements, place - 1)
    return record, table


def child_counts_of(
    records: RecordBatch, rows: Rows, outcome: Outcome, orphans: Iterable[Orphan], mapping: Plan
) -> dict[str, ChildCounts]:
    """The children of a record batch by their name.

    Raises AccountingError where a list of a written record has not come out as it went in.
    """
    left_out = Counter(orphan.name for orphan in orphans)
    written = np.ones(len(rows.indices), dtype=bool)
    written[[refusal.index for refusal in outcome.refusals]] = False
    nested = rows.nested or records
    is_written = np.zeros(len(nested.numbers), dtype=bool)
    is_written[_places_in(nested, records, rows.indices[written])] = True
    counts: dict[str, ChildCounts] = {}
    for name, read, offered in _lengths(nested, mapping, is_written):
        done = replace(outcome.children.get(name, ChildCounts()), rejected=left_out[name])
        accounted = done.written + done.found + done.rejected
        if accounted > offered or (accounted < offered and "." not in name):
            raise AccountingError(
                f"The children {name} do not add up: {offered} in the records written, {accounted} accounted for; "
                "nothing of the open transaction was committed.",
                "This is a bug of etl: please report it with the output of `etl check`.",
            )
        counts[name] = replace(done, read=read, skipped=read - accounted)
    return counts


def _lengths(records: RecordBatch, mapping: Plan, is_written: NDArray[np.bool_]) -> Iterator[tuple[str, int, int]]:
    """The name of the children, how many there are, and how many in records that were written."""
    for child in mapping.children:
        elements = Elements.of(records, child.path, child.mapping.source)
        offered = is_written[elements.owners]
        yield child.name, len(offered), int(offered.sum())
        for name, read, inner in _lengths(elements.records, child.mapping, offered):
            yield f"{child.name}.{name}", read, inner
