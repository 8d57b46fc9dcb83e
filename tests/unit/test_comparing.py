"""What two methods have made of the same records, compared record by record."""

from __future__ import annotations

from etl.comparing import RefusedRecords, Trial, compare_trials, comparison_lines
from etl.database import RowsDigest
from etl.records import Counts, Phase, Reason, Reject

FILES = ["b.csv", "a.parquet"]


def trial(method: str, *refused: tuple[int, int], line: int | None = 9, reason: Reason = Reason.UNIQUE) -> Trial:
    """Of 100 records in two files; ``refused`` are numbers of file and record."""
    records = RefusedRecords()
    phase = Phase.DUPLICATE if reason is Reason.UNIQUE else Phase.WRITE
    for file, record in refused:
        records.add(file, Reject(record, line if file == 0 else None, phase, reason, "secret", values={"a": "secret"}))
    written = 100 - len(refused)
    return Trial(method, Counts(100, written, duplicates=len(refused)), records, RowsDigest(written, 5))


def test_records_are_told_in_the_order_of_the_sources():
    comparison = compare_trials(trial("copy", (0, 7), (1, 2)), trial("row", (0, 9), (1, 1), (1, 2)), FILES, ())

    assert not comparison.is_same
    assert [
        (item.file, item.record, item.line, str(item.chosen), str(item.row)) for item in comparison.written_by_one.first
    ] == [
        ("b.csv", 7, 9, "duplicate (unique)", "written"),
        ("b.csv", 9, 9, "written", "duplicate (unique)"),
        ("a.parquet", 1, None, "written", "duplicate (unique)"),
    ]


def test_the_first_ten_differing_records_are_told_and_the_others_counted():
    comparison = compare_trials(trial("copy"), trial("row", *((1, number) for number in range(1, 1_013))), FILES, ())

    lines = list(comparison_lines(comparison))

    assert lines[3] == "record 1 of a.parquet: written by copy, duplicate (unique) by row"
    assert lines[-2] == "record 10 of a.parquet: written by copy, duplicate (unique) by row"
    assert lines[-1] == "… and 1,002 more"


def test_a_record_that_both_refuse_for_different_reasons_makes_no_difference():
    comparison = compare_trials(
        trial("copy", (0, 3), (0, 5), reason=Reason.FOREIGN_KEY), trial("row", (0, 3), (0, 5)), FILES, ()
    )

    assert comparison.is_same
    assert comparison.refused_differently.count == 2
    assert list(comparison_lines(comparison))[-1] == (
        "record 5 (line 9) of b.csv: rejected (foreign_key) by copy, duplicate (unique) by row"
    )


def test_the_same_verdicts_with_other_rows_are_not_the_same():
    chosen, row = trial("copy", (0, 3)), trial("row", (0, 3))
    other = Trial("copy", chosen.counts, chosen.refused, RowsDigest(99, 6))

    assert compare_trials(chosen, row, FILES, ()).is_same
    assert not compare_trials(other, row, FILES, ()).is_same


def test_other_counts_with_the_same_verdicts_are_not_the_same():
    chosen, row = trial("copy"), trial("row")
    other = Trial("copy", Counts(99, 99), chosen.refused, chosen.rows)

    assert not compare_trials(other, row, FILES, ()).is_same


def test_no_value_of_the_data_is_told():
    comparison = compare_trials(trial("copy", (0, 3), (0, 4)), trial("row", (0, 4), (1, 1)), FILES, ("at",))

    assert "secret" not in "\n".join(comparison_lines(comparison))
