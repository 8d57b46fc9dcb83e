"""What a run, the history and the rejects look like. Expected texts are written by hand."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from dataclasses import dataclass, replace
from itertools import count, islice
from textwrap import dedent

import pytest

from etl.ledger.ledger import KeptReject, PastRun
from etl.records import Counts, FileResult, LoadResult, Phase, Reason, Reject, RejectCount, RunResult, Timing
from etl.report import (
    error_as_dict,
    history_as_dict,
    history_table,
    rejects_csv,
    rejects_jsonl,
    rejects_table,
    result_as_dict,
    summary,
)

COMMAND = "etl rejects job.toml --run 20251122-160500-a1b2c3"

CUSTOMERS = LoadResult(
    name="customers",
    table="customers",
    method="bulk",
    counts=Counts(5, 5),
    seconds=0.0421,
    files=(FileResult("customers.csv", "loaded", Counts(5, 5)),),
)
ORDERS = LoadResult(
    name="orders",
    table="orders",
    method="bulk",
    counts=Counts(1_200_000, 1_199_000, duplicates=960, rejected=40),
    seconds=4.8,
    rejects=(
        RejectCount("write", "foreign_key", 31, sqlstate="23503", constraint="orders_customer_fkey"),
        RejectCount("map", "type", 7, column="ordered_at"),
        RejectCount("read", "column_count", 2),
    ),
    files=(
        FileResult("orders/1.csv", "loaded", Counts(1_200_000, 1_199_000, duplicates=960, rejected=40)),
        FileResult("orders/2.csv", "already_loaded"),
    ),
)
RUN = RunResult(
    run_id="20251122-160500-a1b2c3",
    job="job.toml",
    status="completed",
    exit_code=3,
    dry_run=False,
    seconds=5.0,
    counts=ORDERS.counts,
    loads=(ORDERS,),
)


def text(expected: str) -> str:
    return dedent(expected).strip("\n")


class TestJson:
    def test_result_has_the_keys_of_the_contract_in_their_order(self) -> None:
        timing = Timing(25, 1, 1, {"read": 0.5, "write": 4.002}, 3)
        run = replace(RUN, seconds=5.00049, loads=(replace(ORDERS, seconds=4.80051),), timing=timing)

        assert json.dumps(result_as_dict(run), indent=1) == text(
            """
            {
             "run_id": "20251122-160500-a1b2c3",
             "job": "job.toml",
             "status": "completed",
             "exit_code": 3,
             "dry_run": false,
             "seconds": 5.0,
             "read": 1200000,
             "written": 1199000,
             "updated": 0,
             "unchanged": 0,
             "duplicates": 960,
             "rejected": 40,
             "filtered": 0,
             "loads": [
              {
               "name": "orders",
               "table": "orders",
               "method": "bulk",
               "read": 1200000,
               "written": 1199000,
               "updated": 0,
               "unchanged": 0,
               "duplicates": 960,
               "rejected": 40,
               "filtered": 0,
               "seconds": 4.801,
               "rejects": [
                {
                 "phase": "write",
                 "reason": "foreign_key",
                 "sqlstate": "23503",
                 "constraint": "orders_customer_fkey",
                 "column": null,
                 "count": 31
                },
                {
                 "phase": "map",
                 "reason": "type",
                 "sqlstate": null,
                 "constraint": null,
                 "column": "ordered_at",
                 "count": 7
                },
                {
                 "phase": "read",
                 "reason": "column_count",
                 "sqlstate": null,
                 "constraint": null,
                 "column": null,
                 "count": 2
                }
               ],
               "files": [
                {
                 "path": "orders/1.csv",
                 "status": "loaded",
                 "read": 1200000,
                 "written": 1199000,
                 "duplicates": 960,
                 "rejected": 40
                },
                {
                 "path": "orders/2.csv",
                 "status": "already_loaded",
                 "read": 0,
                 "written": 0,
                 "duplicates": 0,
                 "rejected": 0
                }
               ]
              }
             ],
             "timing": {
              "savepoints": 25,
              "rollbacks": 1,
              "settled": 1,
              "seconds": {
               "read": 0.5,
               "write": 4.002
              },
              "retries": 3
             },
             "error": null
            }
            """
        )

    def test_run_that_never_started_has_the_same_keys(self) -> None:
        error = error_as_dict("job.toml", 2, "job.toml: unknown key.")

        assert list(error) == list(result_as_dict(RUN))
        assert error == {
            "run_id": None,
            "job": "job.toml",
            "status": "failed",
            "exit_code": 2,
            "dry_run": False,
            "seconds": 0.0,
            "read": 0,
            "written": 0,
            "updated": 0,
            "unchanged": 0,
            "duplicates": 0,
            "rejected": 0,
            "filtered": 0,
            "loads": [],
            "timing": None,
            "error": "job.toml: unknown key.",
        }


class TestSummary:
    def test_verbose_one_says_what_the_run_has_cost(self) -> None:
        timing = Timing(1_234, 1, 2, {"start": 0.1, "read": 0.5, "wait": 0.25, "write": 4.002}, 3)

        shown = summary(replace(RUN, timing=timing), COMMAND, verbose=True)

        assert (
            text(
                """
            1,234 savepoints, 1 rollback, 2 pieces settled row by row, 3 retries after a passing fault
            seconds: start 0.10, wait 0.25, write 4.00, commit 0.00; beside these, on another thread: read 0.50, map 0.00, encode 0.00
            """  # noqa: E501
            )
            in shown
        )
        assert "savepoints" not in summary(replace(RUN, timing=timing), COMMAND)

    def test_one_load_with_rejects_and_an_old_file(self) -> None:
        assert summary(RUN, COMMAND) == text(
            """
            load    method       read    written  duplicates  rejected  seconds   rows/s
            orders  bulk    1,200,000  1,199,000         960        40   4.80 s  250,000

            orders: 1 file already loaded before, not loaded again (--rerun loads it again)

            rejects of  count  phase  reason        constraint or column  SQLSTATE
            orders         31  write  foreign_key   orders_customer_fkey  23503
            orders          7  map    type          ordered_at
            orders          2  read   column_count

            To see them: etl rejects job.toml --run 20251122-160500-a1b2c3
            """
        )

    def test_several_loads_have_a_total_and_their_tables_where_the_names_differ(self) -> None:
        orders = replace(ORDERS, table="shop.orders", rejects=(), files=())
        run = replace(RUN, loads=(CUSTOMERS, orders), counts=CUSTOMERS.counts + orders.counts)

        assert summary(run, COMMAND) == text(
            """
            load       table        method       read    written  duplicates  rejected  seconds   rows/s
            customers  customers    bulk            5          5           0         0   0.04 s      119
            orders     shop.orders  bulk    1,200,000  1,199,000         960        40   4.80 s  250,000
            total                           1,200,005  1,199,005         960        40   5.00 s  240,001
            """
        )

    def test_rare_verdicts_have_a_column_when_there_are_some(self) -> None:
        counts = Counts(6, 1, updated=2, filtered=3)
        load = LoadResult("orders", "orders", "row", counts, 0.5)

        assert summary(replace(RUN, counts=counts, loads=(load,)), COMMAND) == text(
            """
            load    method  read  written  updated  filtered  duplicates  rejected  seconds  rows/s
            orders  row        6        1        2         3           0         0   0.50 s      12
            """
        )

    def test_constraint_and_column_are_both_named(self) -> None:
        rejects = (RejectCount("write", "check", 1_234, "23514", "positive", "amount"),)
        run = replace(RUN, loads=(replace(ORDERS, rejects=rejects),))

        assert "orders      1,234  write  check   positive (amount)     23514" in summary(run, COMMAND)

    def test_running_it_again_loads_nothing_twice_and_says_so(self) -> None:
        files = tuple(FileResult(f"orders/{number}.csv", "already_loaded") for number in range(10))
        orders = replace(ORDERS, counts=Counts(), rejects=(), files=files)
        customers = replace(CUSTOMERS, counts=Counts(), files=(FileResult("customers.csv", "already_loaded"),))
        run = replace(RUN, counts=Counts(), exit_code=0, loads=(customers, orders))

        assert summary(run, COMMAND) == text(
            """
            Nothing new: every file was loaded before, and nothing was loaded twice.

            customers: 1 file already loaded before, not loaded again (--rerun loads it again)
            orders: 10 files already loaded before, not loaded again (--rerun loads them again)
            """
        )

    def test_dry_run_says_first_that_nothing_was_written_and_offers_no_rejects(self) -> None:
        run = replace(RUN, dry_run=True, loads=(replace(ORDERS, files=()),))

        lines = summary(run, COMMAND).splitlines()

        assert lines[0] == ("Dry run: nothing was written. The counts are those of a load that was rolled back.")
        assert "orders          7  map    type          ordered_at" in lines
        assert COMMAND not in summary(run, COMMAND)

    def test_failed_run_says_what_stays_and_which_file_is_loaded_in_part(self) -> None:
        counts = Counts(100, 100)
        load = LoadResult(
            "orders", "orders", "bulk", counts, 0.01, files=(FileResult("orders/3.csv", "partial", counts),)
        )
        run = replace(RUN, status="failed", exit_code=1, counts=counts, loads=(load,), error="The disk is full.")

        assert summary(run, COMMAND) == text(
            """
            Run 20251122-160500-a1b2c3 failed. The counts are what it has committed; the same command goes on from there.

            load    method  read  written  duplicates  rejected  seconds  rows/s
            orders  bulk     100      100           0         0   0.01 s  10,000

            orders: orders/3.csv is loaded in part
            """  # noqa: E501
        )

    @pytest.mark.parametrize(
        ("dry_run", "expected"),
        [
            pytest.param(
                False,
                "Run 20251122-160500-a1b2c3 was stopped. What it has committed stays; "
                "the same command goes on from there.",
                id="run",
            ),
            pytest.param(
                True,
                "Dry run: nothing was written. The counts are those of a load that was rolled back.\n"
                "The dry run was stopped before its end.",
                id="dry run",
            ),
        ],
    )
    def test_stopped_run_without_counts_claims_none(self, dry_run: bool, expected: str) -> None:
        run = replace(RUN, status="stopped", exit_code=130, dry_run=dry_run, counts=Counts(), loads=())

        assert summary(run, COMMAND) == expected

    def test_load_that_read_nothing_has_no_speed(self) -> None:
        load = LoadResult("orders", "orders", "bulk", Counts(), 0.0)

        assert summary(replace(RUN, counts=Counts(), loads=(load,)), COMMAND).endswith(
            "orders  bulk       0        0           0         0   0.00 s       -"
        )

    def test_names_cannot_steer_the_terminal(self) -> None:
        load = replace(
            ORDERS,
            name="or\x1b[31mders",
            rejects=(RejectCount("map", "type", 1, column="a\x9b\nb"),),
            files=(FileResult("evil\x07\u202e.csv", "partial"),),
        )

        shown = summary(replace(RUN, loads=(load,)), COMMAND)

        assert shown.replace("\n", "").isprintable()
        assert "or\\x1b[31mders" in shown
        assert "a\\x9b\\nb" in shown
        assert "evil\\x07\\u202e.csv" in shown


STARTED = dt.datetime(2025, 11, 22, 17, 5, 0, 250_000, tzinfo=dt.timezone(dt.timedelta(hours=1)))
COMPLETED = PastRun(
    run_id="20251122-160500-a1b2c3",
    job="job.toml",
    status="completed",
    executions=3,
    started_at=STARTED,
    finished_at=STARTED + dt.timedelta(seconds=4.9),
    counts=Counts(1_200_005, 1_199_005, duplicates=960, rejected=40),
    files=12,
    error=None,
)
RUNNING = replace(
    COMPLETED,
    run_id="20251122-170500-d4e5f6",
    status="running",
    executions=1,
    finished_at=None,
    counts=Counts(),
    files=0,
)


class TestHistory:
    def test_runs_of_one_job(self) -> None:
        assert history_table([RUNNING, COMPLETED]) == text(
            """
            Runs of job.toml

            started (UTC)        run                     status                      duration       read    written  duplicates  rejected  files
            2025-11-22 16:05:00  20251122-170500-d4e5f6  running                            -          0          0           0         0      0
            2025-11-22 16:05:00  20251122-160500-a1b2c3  completed, resumed 2 times    4.90 s  1,200,005  1,199,005         960        40     12
            """  # noqa: E501
        )

    def test_runs_of_several_jobs(self) -> None:
        runs = [replace(RUNNING, job="other.toml"), replace(RUNNING, executions=2)]

        assert history_table(runs) == text(
            """
            started (UTC)        run                     job         status                 duration  read  written  duplicates  rejected  files
            2025-11-22 16:05:00  20251122-170500-d4e5f6  other.toml  running                       -     0        0           0         0      0
            2025-11-22 16:05:00  20251122-170500-d4e5f6  job.toml    running, resumed once         -     0        0           0         0      0
            """  # noqa: E501
        )

    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [(0.004, "0.00 s"), (59.5, "59.50 s"), (61, "1:01 min"), (3_600, "1:00:00 h"), (360_000, "100:00:00 h")],
    )
    def test_duration_is_in_readable_units(self, seconds: float, expected: str) -> None:
        run = replace(COMPLETED, executions=1, finished_at=STARTED + dt.timedelta(seconds=seconds))

        assert f"completed  {expected:>8}" in history_table([run])

    def test_no_runs(self) -> None:
        assert history_table([]) == "No runs yet."
        assert history_as_dict([]) == {"runs": []}

    def test_json_has_iso_times_in_utc(self) -> None:
        assert history_as_dict([COMPLETED]) == {
            "runs": [
                {
                    "run_id": "20251122-160500-a1b2c3",
                    "job": "job.toml",
                    "status": "completed",
                    "executions": 3,
                    "started_at": "2025-11-22T16:05:00.250000+00:00",
                    "finished_at": "2025-11-22T16:05:05.150000+00:00",
                    "read": 1_200_005,
                    "written": 1_199_005,
                    "updated": 0,
                    "unchanged": 0,
                    "duplicates": 960,
                    "rejected": 40,
                    "filtered": 0,
                    "files": 12,
                    "error": None,
                }
            ]
        }
        assert history_as_dict([RUNNING])["runs"][0]["finished_at"] is None


ORPHAN = KeptReject(
    run_id="r1",
    load="orders",
    file="orders/1.csv",
    reject=Reject(
        record=11,
        line=12,
        phase=Phase.WRITE,
        reason=Reason.FOREIGN_KEY,
        message="The customer is not there.",
        sqlstate="23503",
        constraint="orders_customer_fkey",
        values={"Order ID": "7", "Name": 'João "J"', "Note": None},
    ),
)
BAD_DATE = KeptReject(
    "r1",
    "products",
    "products.parquet",
    Reject(7, None, Phase.MAP, Reason.TYPE, "No date.", column="since", values={"since": "soon"}),
)
RAGGED = KeptReject(
    "r1",
    "orders",
    "orders/2.csv",
    Reject(3, 5, Phase.READ, Reason.COLUMN_COUNT, "2 fields, 3 expected.", raw='a,"b\nc"'),
)
HOSTILE = KeptReject(
    "r1",
    "orders",
    "orders/1.csv",
    Reject(
        1,
        2,
        Phase.MAP,
        Reason.TYPE,
        "\x1b]0;owned\x07 \x9b31m a\nb\tc\rd \u202e \u2028",
        column="since",
        values={"since": "\x1b[2J\x9b\u2028\u202e"},
        raw="\x1b[2J\u2028\udcff",
    ),
)


class TestRejectsTable:
    def test_columns_are_aligned(self) -> None:
        assert "\n".join(rejects_table([ORPHAN, BAD_DATE, RAGGED])) == text(
            """
            load      place                      reason        constraint or column  message
            orders    orders/1.csv:12            foreign_key   orders_customer_fkey  The customer is not there.
            products  products.parquet record 7  type          since                 No date.
            orders    orders/2.csv:5             column_count                        2 fields, 3 expected.
            """
        )

    def test_nothing_in_the_data_reaches_the_terminal_as_a_command(self) -> None:
        lines = list(rejects_table([HOSTILE]))

        assert len(lines) == 2
        assert all(line.isprintable() for line in lines)
        assert lines[1].endswith(r"\x1b]0;owned\x07 \x9b31m a\nb\tc\rd \u202e \u2028")

    def test_no_row_is_wider_than_120_and_the_line_of_the_file_stays(self) -> None:
        long = replace(
            ORPHAN,
            load="l" * 200,
            file="a/" * 100 + "1.csv",
            reject=replace(ORPHAN.reject, constraint="c" * 200, column="d" * 200, message="m" * 500),
        )

        lines = list(rejects_table([long]))

        assert [len(line) for line in lines] == [106, 120]
        assert lines[1] == (
            "lllllllllllllll…  "
            "…/a/a/a/a/a/a/a/a/a/a/a/a/a/1.csv:12  "
            "foreign_key  "
            "ccccccccccccccccccccccccccc…  "
            "mmmmmmmmmmmmmmmmmmmm…"
        )

    def test_wide_characters_take_two_columns(self) -> None:
        chinese = replace(BAD_DATE, load="注文", file="注" * 40 + ".parquet")

        lines = list(rejects_table([chinese, BAD_DATE]))

        assert lines[1].startswith("注文      …注注注注注注注注注.parquet record 7")
        assert lines[2].startswith("products  products.parquet record 7            ")

    def test_no_rejects(self) -> None:
        assert list(rejects_table([])) == ["No rejects."]


class TestRejectsCsv:
    def test_lines(self) -> None:
        assert list(rejects_csv([ORPHAN, RAGGED])) == [
            "run_id,load,file,record,line,phase,reason,sqlstate,constraint,column,message,values,raw",
            "r1,orders,orders/1.csv,11,12,write,foreign_key,23503,orders_customer_fkey,,"
            'The customer is not there.,"{""Order ID"": ""7"", ""Name"": ""João \\""J\\"""", ""Note"": null}",',
            'r1,orders,orders/2.csv,3,5,read,column_count,,,,"2 fields, 3 expected.",,"a,""b\nc"""',
        ]

    @pytest.mark.parametrize("raw", ["a\nb", "a\rb", "a\r\nb", 'a"b', "a,b", "\x1b[2J", "é"])
    def test_raw_text_comes_back_as_it_was(self, raw: str) -> None:
        kept = replace(RAGGED, reject=replace(RAGGED.reject, raw=raw))

        rows = list(csv.DictReader(io.StringIO("\n".join(rejects_csv([kept, ORPHAN])), newline="")))

        assert [row["raw"] for row in rows] == [raw, ""]

    def test_no_rejects_leave_the_header(self) -> None:
        assert len(list(rejects_csv([]))) == 1


class TestRejectsJsonl:
    def test_keys_are_in_the_order_of_the_contract(self) -> None:
        assert list(rejects_jsonl([ORPHAN, RAGGED])) == [
            '{"run_id": "r1", "load": "orders", "file": "orders/1.csv", "record": 11, "line": 12, '
            '"phase": "write", "reason": "foreign_key", "sqlstate": "23503", '
            '"constraint": "orders_customer_fkey", "column": null, "message": "The customer is not there.", '
            '"values": {"Order ID": "7", "Name": "João \\"J\\"", "Note": null}, "raw": null}',
            '{"run_id": "r1", "load": "orders", "file": "orders/2.csv", "record": 3, "line": 5, '
            '"phase": "read", "reason": "column_count", "sqlstate": null, "constraint": null, '
            '"column": null, "message": "2 fields, 3 expected.", "values": null, "raw": "a,\\"b\\nc\\""}',
        ]

    def test_hostile_text_is_escaped_and_comes_back_as_it_was(self) -> None:
        [line] = rejects_jsonl([HOSTILE])

        assert line.isprintable()
        assert json.loads(line)["values"] == {"since": "\x1b[2J\x9b\u2028\u202e"}
        assert json.loads(line)["raw"] == "\x1b[2J\u2028\udcff"


@pytest.mark.parametrize("lines_of", [rejects_table, rejects_csv, rejects_jsonl])
def test_rejects_are_streamed(lines_of) -> None:
    taken = count()

    def endless():
        while True:
            next(taken)
            yield ORPHAN

    assert len(list(islice(lines_of(endless()), 600))) == 600
    assert next(taken) <= 1000


def test_what_the_ledger_gives_is_not_needed_to_report() -> None:
    @dataclass(frozen=True)
    class Kept:
        run_id: str
        load: str
        file: str
        reject: Reject

    assert len(list(rejects_table([Kept("r", "l", "f", ORPHAN.reject)]))) == 2
