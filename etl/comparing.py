"""What two methods have made of the same records, where it differs, and how that is told."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from etl.config import Method
from etl.database import RowsDigest
from etl.records import Counts, Phase, Reject

REFERENCE: Method = "row"
SHOWN = 10  # differing records of each kind that are told; the others are counted


@dataclass(frozen=True, slots=True)
class RecordVerdict:
    """What became of a record, and what refused it."""

    verdict: str
    reason: str | None = None
    sqlstate: str | None = None
    constraint: str | None = None
    column: str | None = None

    def __str__(self) -> str:
        facts = " ".join(fact for fact in (self.reason, self.constraint, self.column) if fact)
        return f"{self.verdict} ({facts})" if facts else self.verdict


WRITTEN = RecordVerdict("written")


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that was not written: ``file`` is the number of its source in the load."""

    file: int
    record: int
    line: int | None
    verdict: RecordVerdict

    @property
    def place(self) -> tuple[int, int]:
        return self.file, self.record


class RefusedRecords:
    """The records of a load that were not written, in order; 32 bytes each, whatever their reasons."""

    def __init__(self) -> None:
        self._fields = array("q")  # file, record, line (0: none) and verdict of one record after the other
        self._verdicts: dict[RecordVerdict, int] = {}

    def add(self, file: int, reject: Reject) -> None:
        verdict = RecordVerdict(
            "duplicate" if reject.phase is Phase.DUPLICATE else "rejected",
            str(reject.reason),
            reject.sqlstate,
            reject.constraint,
            reject.column,
        )
        number = self._verdicts.setdefault(verdict, len(self._verdicts))
        self._fields.extend((file, reject.record, reject.line or 0, number))

    def __iter__(self) -> Iterator[RefusedRecord]:
        verdicts = list(self._verdicts)
        for start in range(0, len(self._fields), 4):
            file, record, line, number = self._fields[start : start + 4]
            yield RefusedRecord(file, record, line or None, verdicts[number])


@dataclass(frozen=True, slots=True)
class Trial:
    """What one method has made of the records of a load, and the rows that it has left in the table."""

    method: str
    counts: Counts
    refused: RefusedRecords
    rows: RowsDigest


@dataclass(frozen=True, slots=True)
class RecordDifference:
    """A record of which two methods say different things; ``line`` is None for Parquet."""

    file: str
    record: int
    line: int | None
    chosen: RecordVerdict
    row: RecordVerdict


@dataclass(frozen=True, slots=True)
class Differences:
    """How many records differ in one way, and the first of them."""

    count: int
    first: tuple[RecordDifference, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same records of a load by the chosen method and by ``row``, the reference.

    ``written_by_one`` were written by one method and not by the other. ``refused_differently`` were refused by both,
    for different reasons: a record that breaks several constraints is refused for one of them, and which one that is
    may differ. ``not_compared`` are columns that need not be the same twice.
    """

    chosen: Trial
    row: Trial
    written_by_one: Differences
    refused_differently: Differences
    not_compared: tuple[str, ...]

    @property
    def has_same_rows(self) -> bool:
        return self.chosen.rows == self.row.rows

    @property
    def is_same(self) -> bool:
        """Whether the same records were written, and the same rows are in the table."""
        chosen, row = self.chosen.counts, self.row.counts
        has_same_counts = _took(chosen) == _took(row)
        return has_same_counts and not self.written_by_one.count and self.has_same_rows


def _took(counts: Counts) -> tuple[int, ...]:
    return counts.read, counts.written, counts.updated, counts.unchanged


def compare_trials(chosen: Trial, row: Trial, files: Sequence[str], not_compared: Sequence[str]) -> Comparison:
    """Compare two trials of a load with the sources ``files``."""
    return Comparison(
        chosen,
        row,
        _collected(item for item in _differing(chosen, row, files) if WRITTEN in (item.chosen, item.row)),
        _collected(item for item in _differing(chosen, row, files) if WRITTEN not in (item.chosen, item.row)),
        tuple(not_compared),
    )


def _differing(chosen: Trial, row: Trial, files: Sequence[str]) -> Iterator[RecordDifference]:
    by_chosen = ((refused.place, "chosen", refused) for refused in chosen.refused)
    by_row = ((refused.place, "row", refused) for refused in row.refused)
    both = heapq.merge(by_chosen, by_row, key=lambda item: item[0])
    for (file, record), found in groupby(both, key=lambda item: item[0]):
        refusals = {method: refused for _, method, refused in found}
        verdicts = {method: refused.verdict for method, refused in refusals.items()}
        difference = (verdicts.get("chosen", WRITTEN), verdicts.get("row", WRITTEN))
        if difference[0] != difference[1]:
            (line, *_) = [refused.line for refused in refusals.values()]
            yield RecordDifference(files[file], record, line, *difference)


def _collected(differences: Iterable[RecordDifference]) -> Differences:
    count, first = 0, []
    for difference in differences:
        count += 1
        if count <= SHOWN:
            first.append(difference)
    return Differences(count, tuple(first))


# How it is told


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """What a person reads; no value of the data is in it."""
    chosen, row = comparison.chosen, comparison.row
    verdict = "the same rows and verdicts" if comparison.is_same else "NOT THE SAME"
    left_out = f"; {chosen.counts.filtered:,} were filtered" if chosen.counts.filtered else ""
    yield f"{chosen.counts.read:,} records by {chosen.method} and by {row.method}: {verdict}{left_out}"
    if not comparison.is_same:
        yield from (f"by {trial.method}: {_counts(trial)}" for trial in (chosen, row))
        yield from _difference_lines(comparison, comparison.written_by_one)
        if not comparison.has_same_rows and chosen.rows.rows == row.rows.rows:
            yield "as many rows are in the table, but not the same ones"
    if comparison.refused_differently.count:
        count = comparison.refused_differently.count
        yield f"{count:,} refused by both, each for another reason: it breaks several constraints, and one is named"
        yield from _difference_lines(comparison, comparison.refused_differently)
    if comparison.not_compared:
        yield f"not compared: {', '.join(comparison.not_compared)}"


def _counts(trial: Trial) -> str:
    counts = trial.counts
    met = f"{counts.updated:,} updated, {counts.unchanged:,} unchanged, " if counts.updated or counts.unchanged else ""
    words = f"{counts.written:,} written, {met}{counts.duplicates:,} duplicates, {counts.rejected:,} rejected"
    return f"{words}; {trial.rows.rows:,} rows in the table"


def _difference_lines(comparison: Comparison, differences: Differences) -> Iterator[str]:
    for item in differences.first:
        line = "" if item.line is None else f" (line {item.line:,})"
        place = f"record {item.record:,}{line} of {item.file}"
        yield f"{place}: {item.chosen} by {comparison.chosen.method}, {item.row} by {comparison.row.method}"
    if differences.count > len(differences.first):
        yield f"… and {differences.count - len(differences.first):,} more"


def comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    """The same for programs: ``verify`` of a load in what ``etl check --verify --json`` prints."""
    trials = {"chosen": comparison.chosen, "row": comparison.row}
    return {
        "same": comparison.is_same,
        "method": comparison.chosen.method,
        "records": comparison.chosen.counts.read,
        "counts": {name: asdict(trial.counts) for name, trial in trials.items()},
        "same_rows": comparison.has_same_rows,
        "rows": {name: trial.rows.rows for name, trial in trials.items()},
        "written_by_one": _differences_as_dict(comparison.written_by_one),
        "refused_differently": _differences_as_dict(comparison.refused_differently),
        "not_compared": list(comparison.not_compared),
    }


def _differences_as_dict(differences: Differences) -> dict[str, Any]:
    return {"count": differences.count, "first": [asdict(item) for item in differences.first]}
