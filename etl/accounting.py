"""From what reader, mapper and writer said of a record batch to its counts and rejects, and what is too many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from etl.config import Load
from etl.errors import TooManyRejects
from etl.mapping import source_documents
from etl.records import (
    Cause,
    Counts,
    Outcome,
    Phase,
    RecordBatch,
    Refused,
    Reject,
    RejectCount,
    Rows,
    Verdict,
)

SHARE_AFTER = 1_000  # records read, before which a share of rejects says little


# One line of ``etl rejects`` as the ledger keeps it; ``values`` is JSON.
REJECTS = pa.schema(
    [
        ("record", pa.int64()),
        ("line", pa.int64()),
        ("phase", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("sqlstate", pa.string()),
        ("constraint", pa.string()),
        ("column", pa.string()),
        ("values", pa.string()),
        ("raw", pa.string()),
    ]
)


def counts_of(records: RecordBatch, rows: Rows, outcome: Outcome) -> Counts:
    """The verdicts of a record batch, counted; they add up unless reader, mapper or writer has lost a record."""
    refused: Counter[Verdict] = Counter()
    for group in outcome.refused:
        refused[group.cause.verdict] += len(group.places)
    return Counts(
        read=records.read,
        written=outcome.rows - refused.total() - outcome.updated - outcome.unchanged,
        updated=outcome.updated,
        unchanged=outcome.unchanged,
        duplicates=refused[Verdict.DUPLICATE],
        rejected=len(records.rejects) + len(rows.rejects) + refused[Verdict.REJECTED],
        filtered=rows.filtered,
    )


def reasons_of(records: RecordBatch, rows: Rows, outcome: Outcome) -> Counter[str]:
    """How often which reason, with its column or constraint, rejected a record of the batch."""
    counted = Counter(
        f"{reject.reason} ({reject.column or reject.phase})" for reject in (*records.rejects, *rows.rejects)
    )
    for group in outcome.refused:
        cause = group.cause
        if cause.verdict is Verdict.REJECTED:
            named = cause.column or cause.constraint or Phase.WRITE
            counted[f"{cause.reason} ({named})"] += len(group.places)
    return counted


def reasons_committed(rejects: Iterable[RejectCount]) -> Counter[str]:
    """The same of what the ledger has of a load."""
    counted: Counter[str] = Counter()
    for kept in rejects:
        counted[f"{kept.reason} ({kept.column or kept.constraint or kept.phase})"] += kept.count
    return counted


def rejects_of(records: RecordBatch, rows: Rows, outcome: Outcome, *, with_duplicates: bool) -> pa.RecordBatch:
    """The rejects of a record batch in the order of their records, on request with the duplicates among them.

    One row each, with the schema ``REJECTS``.
    """
    groups = [group for group in outcome.refused if with_duplicates or group.cause.verdict is Verdict.REJECTED]
    told = (*records.rejects, *rows.rejects)
    parts = [
        *([rejects_as_rows(told)] if told else []),
        *([_of_groups(records, rows, groups)] if groups else []),
    ]
    if not parts:
        return _NONE
    together = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
    return together if _is_ascending(together["record"]) else together.sort_by("record")


def _is_ascending(numbers: pa.Array) -> bool:
    return bool((np.diff(numbers.to_numpy()) >= 0).all())


_NONE = pa.RecordBatch.from_pylist([], schema=REJECTS)


def rejects_as_rows(rejects: Iterable[Reject]) -> pa.RecordBatch:
    """Rejects with the schema ``REJECTS``."""
    return pa.RecordBatch.from_pylist([_as_row(reject) for reject in rejects], schema=REJECTS)


def _as_row(reject: Reject) -> dict[str, object]:
    values = None if reject.values is None else json.dumps(reject.values)
    # As plain strings: an enum is not one for Arrow.
    return asdict(reject) | {"phase": str(reject.phase), "reason": str(reject.reason), "values": values}


def _of_groups(records: RecordBatch, rows: Rows, groups: Sequence[Refused]) -> pa.RecordBatch:
    places = rows.indices[np.concatenate([group.places for group in groups])]
    sizes = [len(group.places) for group in groups]
    causes = pa.RecordBatch.from_pylist([_cause_as_row(group.cause) for group in groups], schema=_CAUSES)
    told = causes.take(pa.array(np.repeat(np.arange(len(groups)), sizes)))
    columns = dict(zip(told.schema.names, told.columns, strict=True)) | {
        "record": pa.array(records.numbers[places]),
        "line": pa.nulls(len(places), pa.int64()) if records.lines is None else pa.array(records.lines[places]),
        "values": source_documents(records.columns, places),
        "raw": pa.nulls(len(places), pa.string()),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in REJECTS.names], schema=REJECTS)


_CAUSES = pa.schema([REJECTS.field(name) for name in REJECTS.names[2:8]])


def _cause_as_row(cause: Cause) -> dict[str, object]:
    phase = Phase.DUPLICATE if cause.verdict is Verdict.DUPLICATE else Phase.WRITE
    return asdict(cause) | {"phase": str(phase), "reason": str(cause.reason)}


def check_reject_limit(load: Load, counts: Counts, reasons: Counter[str], *, is_complete: bool) -> None:
    """Raise TooManyRejects when ``max_rejects`` is passed.

    A share is judged behind the first 1,000 records, and at the end of the load whatever their number.
    """
    limit = load.max_rejects
    if limit is None or (limit.share is not None and not is_complete and counts.read < SHARE_AFTER):
        return
    if limit.is_passed_by(counts.rejected, counts.read):
        raise TooManyRejects(
            f"Load {load.name}: {counts.rejected:,} of {counts.read:,} records were rejected, more than "
            f"max_rejects = {limit} allows; the open transaction was rolled back. {_most_frequent(reasons)}",
            "Mend the source, or allow more by max_rejects or --max-rejects, and run the same command again.",
        )


def _most_frequent(reasons: Counter[str]) -> str:
    named = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(3))
    return f"Most frequent: {named}."
