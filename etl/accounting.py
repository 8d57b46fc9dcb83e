"""From what reader, mapper and writer said of a record batch to its counts and rejects, and what is too many."""

from __future__ import annotations

from collections import Counter
from itertools import repeat

from etl.config import Load
from etl.errors import TooManyRejects
from etl.mapping import source_values
from etl.records import Counts, Outcome, Phase, RecordBatch, Refusal, Reject, Rows, Verdict

SHARE_AFTER = 1_000  # records read, before which a share of rejects says little


def counts_of(records: RecordBatch, rows: Rows, outcome: Outcome) -> Counts:
    """The verdicts of a record batch, counted; they add up unless reader, mapper or writer has lost a record."""
    duplicates = sum(refusal.verdict is Verdict.DUPLICATE for refusal in outcome.refusals)
    refused = len(outcome.refusals) - duplicates
    return Counts(
        read=records.read,
        written=outcome.rows - len(outcome.refusals),
        duplicates=duplicates,
        rejected=len(records.rejects) + len(rows.rejects) + refused,
    )


def rejects_of(records: RecordBatch, rows: Rows, outcome: Outcome, *, with_duplicates: bool) -> list[Reject]:
    """The rejects of a record batch in the order of their records, on request with the duplicates among them."""
    refusals = [item for item in outcome.refusals if with_duplicates or item.verdict is Verdict.REJECTED]
    places = [int(rows.indices[refusal.index]) for refusal in refusals]
    values = source_values(records.columns, places)
    refused = map(_reject, repeat(records), places, refusals, values)
    return sorted([*records.rejects, *rows.rejects, *refused], key=lambda reject: reject.record)


def _reject(records: RecordBatch, place: int, refusal: Refusal, values: dict[str, str | None]) -> Reject:
    return Reject(
        record=int(records.numbers[place]),
        line=records.line_of(place),
        phase=Phase.DUPLICATE if refusal.verdict is Verdict.DUPLICATE else Phase.WRITE,
        reason=refusal.reason,
        message=refusal.message,
        sqlstate=refusal.sqlstate,
        constraint=refusal.constraint,
        column=refusal.column,
        values=values,
    )


def check_reject_limit(load: Load, counts: Counts, reasons: Counter[str], *, is_complete: bool) -> None:
    """Raise TooManyRejects when ``max_rejects`` is passed.

    A share is judged behind the first 1,000 records, and at the end of the load whatever their number.
    """
    limit = load.max_rejects
    if limit is None:
        return
    if limit.share is None:
        is_passed = counts.rejected > (limit.number or 0)
    else:
        is_passed = counts.rejected > limit.share * counts.read and (is_complete or counts.read >= SHARE_AFTER)
    if is_passed:
        raise TooManyRejects(
            f"Load {load.name}: {counts.rejected:,} of {counts.read:,} records were rejected, more than "
            f"max_rejects = {limit} allows; the open transaction was rolled back. {_most_frequent(reasons)}",
            "Mend the source or raise max_rejects, and run the same command again.",
        )


def _most_frequent(reasons: Counter[str]) -> str:
    named = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(3))
    return f"Most frequent: {named}."
