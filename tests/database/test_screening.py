"""What a screen may say and what it saves: verdicts stay those of the row loop, and pieces need not be settled."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from etl.database import copying, session_factory
from etl.records import Outcome
from etl.writers import choose_writer, screening
from etl.writers.screening import PATIENCE
from tests.jobs import Row, fetch, mapped_batch, opened_target, run_sql, write_rows


def copied(url: str, rows: list[Row], size: int) -> list[Outcome]:
    """What the writer of COPY said of each piece of ``size`` rows; committed."""
    with opened_target(url) as (connection, target), session_factory(connection)() as session:
        writer = choose_writer(target, "copy").writer
        outcomes = [
            writer.write(session, mapped_batch(target, rows[start : start + size]))
            for start in range(0, len(rows), size)
        ]
        session.commit()
    return outcomes


def numbered(count: int, **changed: Any) -> list[Row]:
    return [{"id": number} | {name: make(number) for name, make in changed.items()} for number in range(count)]


def settled(outcomes: list[Outcome]) -> int:
    return sum(outcome.settled for outcome in outcomes)


# What it saves


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE t (id int PRIMARY KEY, n int)",
        "CREATE TABLE t (id int, n int); CREATE UNIQUE INDEX ux ON t (id)",
        "CREATE TABLE t (id int CONSTRAINT ck CHECK (id % 10 <> 3), n int)",
        "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p SELECT generate_series(0, 400, 2);"
        "CREATE TABLE t (id int REFERENCES p, n int)",
        "CREATE TABLE t (id int, n int NOT NULL)",
    ],
    ids=["primary key", "unique index", "check", "foreign key", "not null"],
)
def test_no_piece_is_settled_for_a_constraint_that_can_be_asked_about(postgres_url: str, ddl: str) -> None:
    run_sql(postgres_url, ddl)
    rows = numbered(200, n=lambda number: None if number % 9 == 1 and "NOT NULL" in ddl else 1) * 2
    outcomes = copied(postgres_url, rows, 100)
    assert settled(outcomes) == 0
    assert fetch(postgres_url, "SELECT count(*) FROM t")[0][0] == 400 - sum(len(one.refusals) for one in outcomes)


def test_piece_with_a_value_that_only_the_server_reads_is_settled_in_parts(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "CHUNK_ROWS", 10)
    run_sql(postgres_url, "CREATE TABLE t (id int PRIMARY KEY, address inet)")
    rows = numbered(100, address=lambda number: "10.0.0.256" if number == 57 else f"10.0.0.{number}")
    outcomes = copied(postgres_url, [*rows, *numbered(100, address=lambda _: "::1")], 100)
    assert [outcome.settled for outcome in outcomes] == [1, 0]
    assert [refusal.index for refusal in outcomes[0].refusals] == [57]


def test_pieces_are_settled_from_the_start_for_a_while_when_most_parts_had_to_be(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "CHUNK_ROWS", 10)
    run_sql(postgres_url, "CREATE TABLE t (id int PRIMARY KEY, address inet)")
    rows = numbered(1_000, address=lambda number: "no address" if number % 10 == 4 and number < 300 else "::1")
    outcomes = copied(postgres_url, rows, 100)
    assert [outcome.settled for outcome in outcomes] == [3, *[1] * 8, 0]  # 3 parts: of 40, 40 and 20 rows
    assert fetch(postgres_url, "SELECT count(*) FROM t") == [(970,)]


def test_duplicates_leave_few_dead_rows(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE t (id int PRIMARY KEY, n int) WITH (autovacuum_enabled = off)")
    rows: list[Row] = [{"id": number // 2 if number % 10 == 9 else number, "n": 1} for number in range(60_000)]
    copied(postgres_url, rows, 20_000)
    run_sql(postgres_url, "CREATE EXTENSION pgstattuple")
    dead = fetch(postgres_url, "SELECT dead_tuple_count FROM pgstattuple('t')")[0][0]
    assert dead <= 1_000  # COPY flushes its buffer of a thousand rows, and finds the first duplicate


def test_a_constraint_is_asked_about_until_it_has_found_nothing_for_a_while(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE t (id int, n int CONSTRAINT ck CHECK (n > 0))")
    asked = []
    with opened_target(postgres_url) as (connection, target), session_factory(connection)() as session:
        writer = choose_writer(target, "copy").writer
        for number in range(PATIENCE + 3):
            savepoints: list[int] = []
            sa.event.listen(session, "after_transaction_create", lambda *_, found=savepoints: found.append(1))
            writer.write(session, mapped_batch(target, [{"id": 1, "n": 0 if number == 0 else 1}]))
            asked.append(len(savepoints) > 1)  # the one of the COPY, and the one of the question
    assert asked == [True] * (PATIENCE + 1) + [False] * 2


# What it must not say


def test_row_is_written_when_the_holder_of_its_key_breaks_a_check(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE t (id int PRIMARY KEY, n int CONSTRAINT ck CHECK (n > 0))")
    first: list[Row] = [{"id": 1, "n": 1}, {"id": 1, "n": 1}, {"id": 2, "n": 0}]
    second: list[Row] = [{"id": 3, "n": 0}, {"id": 3, "n": 1}, {"id": 3, "n": 2}]
    written = write_rows(postgres_url, first + second, size=3)
    assert written.verdicts == ["written", "unique t_pkey", "check ck", "check ck", "written", "unique t_pkey"]
    assert fetch(postgres_url, "SELECT * FROM t ORDER BY 1") == [(1, 1), (3, 1)]


def test_row_is_written_when_the_holder_of_its_key_is_a_duplicate_by_another_key(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE t (a int CONSTRAINT ua UNIQUE, b int CONSTRAINT ub UNIQUE)")
    first: list[Row] = [{"a": 0, "b": 0}, {"a": 0, "b": 9}, {"a": 9, "b": 0}]
    second: list[Row] = [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 3, "b": 2}, {"a": 3, "b": 4}]
    written = write_rows(postgres_url, first + second, size=4)
    assert written.verdicts == [
        *("written", "unique ua", "unique ub"),
        *("written", "unique ua", "written", "unique ua"),
    ]
    assert fetch(postgres_url, "SELECT * FROM t ORDER BY 1") == [(0, 0), (1, 1), (3, 2)]


def test_texts_that_differ_may_be_one_key(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE EXTENSION citext; CREATE TABLE t (id citext PRIMARY KEY)")
    keys = ["a", "A", "b", "a", "B", "c", "C", "d", "D ", "d "]
    written = write_rows(postgres_url, [{"id": key} for key in keys], size=3)
    duplicates = {index for index, verdict in enumerate(written.verdicts) if verdict != "written"}
    assert duplicates == {1, 3, 4, 6, 9}


def test_key_below_the_least_and_above_the_greatest_is_none_that_is_there(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(10, 20)")
    keys = [15, 9, 10, 20, 21, 9, 21, -2147483648, 2147483647, 8]
    written = write_rows(postgres_url, [{"id": key} for key in keys], size=2)
    duplicates = {index for index, verdict in enumerate(written.verdicts) if verdict != "written"}
    assert duplicates == {0, 2, 3, 5, 6}


@pytest.mark.parametrize("few", [screening.FEW, 1], ids=["in the question itself", "in a table"])
@pytest.mark.parametrize("key", ["bigint PRIMARY KEY", "numeric(20) PRIMARY KEY", "bigint UNIQUE"])
def test_keys_far_from_the_others_are_asked_about(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, key: str, few: int
) -> None:
    monkeypatch.setattr(screening, "FEW", few)
    run_sql(postgres_url, f"CREATE TABLE t (id {key})", "INSERT INTO t VALUES (-9), (1005), (7000000000000)")
    keys: list[int | None] = [1000, 1000, *range(1001, 1020), -9, 7_000_000_000_000, 1019]
    keys += [*range(1020, 1040), 1030, 5, 7_000_000_000_001, *[None] * 2 * ("UNIQUE" in key)]
    written = write_rows(postgres_url, [{"id": key} for key in keys], size=24)
    duplicates = [keys[index] for index, verdict in enumerate(written.verdicts) if verdict != "written"]
    assert duplicates == [1000, 1005, -9, 7_000_000_000_000, 1019, 1030]


def test_keys_among_many_of_the_table_are_asked_about(postgres_url: str) -> None:
    run_sql(
        postgres_url, "CREATE TABLE t (id smallint PRIMARY KEY)", "INSERT INTO t SELECT generate_series(0, 9998, 3)"
    )
    keys = [number * 997 % 10_000 for number in range(60)]
    written = write_rows(postgres_url, [{"id": key} for key in keys], size=6)
    assert [verdict == "written" for verdict in written.verdicts] == [key % 3 != 0 for key in keys]


@pytest.mark.parametrize("index", ["PRIMARY KEY (a, b)", "CONSTRAINT t_pkey UNIQUE (a, b)"])
def test_first_column_of_a_key_says_where_to_look_and_not_what_is_there(postgres_url: str, index: str) -> None:
    run_sql(
        postgres_url, f"CREATE TABLE t (a int, b text, {index})", "INSERT INTO t VALUES (1, 'x'), (2, 'x'), (3, 'x')"
    )
    pairs = [(1, "x"), (1, "y"), (2, "y"), (2, "y"), (3, "x"), (4, "x"), (4, "x"), (99, "x"), (3, "z"), (1, "y")]
    written = write_rows(postgres_url, [{"a": a, "b": b} for a, b in pairs], size=3)
    duplicates = [index for index, verdict in enumerate(written.verdicts) if verdict != "written"]
    assert duplicates == [0, 3, 4, 6, 9]


def test_partition_refuses_in_the_name_of_its_own_index(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (100)",
    )
    written = write_rows(postgres_url, [{"id": key} for key in (1, 1, 2, 2, 3, 1)], size=2)
    assert written.verdicts == [
        "written",
        "unique low_pkey",
        "written",
        "unique low_pkey",
        "written",
        "unique low_pkey",
    ]


@pytest.mark.parametrize("clause", ["MATCH FULL", "MATCH SIMPLE"])
def test_null_in_a_foreign_key_is_judged_as_the_key_says(postgres_url: str, clause: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE p (a int, b int, PRIMARY KEY (a, b))",
        "INSERT INTO p VALUES (1, 1)",
        f"CREATE TABLE t (a int, b int, CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES p {clause})",
    )
    rows: list[Row] = [
        {"a": 1, "b": 2},
        {"a": 1, "b": 1},
        {"a": 1, "b": None},
        {"a": None, "b": None},
        {"a": 2, "b": 2},
    ]
    written = write_rows(postgres_url, rows, size=2)
    half = "foreign_key fk" if clause == "MATCH FULL" else "written"
    assert written.verdicts == ["foreign_key fk", "written", half, "written", "foreign_key fk"]


def test_parents_hidden_by_row_level_security_are_parents(postgres_url: str, unprivileged_url: str) -> None:
    role = sa.make_url(unprivileged_url).username
    run_sql(
        postgres_url,
        "CREATE TABLE p (id int PRIMARY KEY)",
        "INSERT INTO p VALUES (1)",
        "CREATE TABLE t (p int CONSTRAINT fk REFERENCES p)",
        "ALTER TABLE p ENABLE ROW LEVEL SECURITY",
        f'GRANT SELECT ON p, t TO "{role}"; GRANT INSERT ON t TO "{role}"',
    )
    written = write_rows(unprivileged_url, [{"p": parent} for parent in (2, 1, 1, 2, 1)], size=2)
    assert written.verdicts == ["foreign_key fk", "written", "written", "foreign_key fk", "written"]


def test_parent_with_another_collation_can_be_asked_about_or_not(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        'CREATE TABLE p (id text COLLATE "C" PRIMARY KEY)',
        "INSERT INTO p VALUES ('a')",
        'CREATE TABLE t (p text COLLATE "POSIX" CONSTRAINT fk REFERENCES p)',
    )
    written = write_rows(postgres_url, [{"p": parent} for parent in "babab"], size=2)
    assert written.verdicts == ["foreign_key fk", "written", "foreign_key fk", "written", "foreign_key fk"]


def test_check_that_cannot_be_judged_is_not_asked_about(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE t (n int CONSTRAINT ck CHECK (10 / n > 1))")
    written = write_rows(postgres_url, [{"n": n} for n in (10, 5, 0, 4, 9, 0, 2)], size=3)
    assert written.verdicts[:2] == ["check ck", "written"]
    assert [verdict.split()[0] for verdict in written.verdicts] == [
        *("check", "written", "data", "written", "check", "data", "written"),
    ]


def test_constraint_that_is_not_enforced_refuses_nothing(postgres_url: str) -> None:
    is_new = fetch(postgres_url, "SHOW server_version_num")[0][0] >= "180000"
    enforced = "NOT ENFORCED" if is_new else ""  # before, there is none that is not
    run_sql(postgres_url, f"CREATE TABLE t (n int, m int CONSTRAINT ck CHECK (m > 0) {enforced})")
    run_sql(postgres_url, "ALTER TABLE t ADD CONSTRAINT other CHECK (n > 0)")
    rows: list[Row] = [{"n": 0, "m": 1}, {"n": 1, "m": 0}, {"n": 1, "m": 0}, {"n": 1, "m": 1}]
    written = write_rows(postgres_url, rows, size=2)
    broken = "written" if enforced else "check ck"
    assert written.verdicts == ["check other", broken, broken, "written"]


# What a COPY would judge differently


FUNCTION = "CREATE FUNCTION f(n int) RETURNS {type} LANGUAGE plpgsql {volatility} AS $$ BEGIN {body} END $$"
COUNT_ROWS = "RETURN (SELECT count(*) FROM t) < 3;"


@pytest.mark.parametrize("volatility", ["STABLE", "VOLATILE"])
@pytest.mark.parametrize("place", ["check", "domain", "default", "operator"])
def test_functions_that_look_at_the_table_see_the_rows_before(postgres_url: str, volatility: str, place: str) -> None:
    run_sql(postgres_url, "CREATE TABLE t (id int)")
    counts = FUNCTION.format(type="boolean", volatility=volatility, body=COUNT_ROWS)
    run_sql(
        postgres_url,
        *{
            "check": [counts, "ALTER TABLE t ADD CONSTRAINT ck CHECK (f(id))"],
            "domain": [
                counts,
                "CREATE DOMAIN few AS int CONSTRAINT ck CHECK (f(value))",
                "CREATE DOMAIN fewer AS few; ALTER TABLE t ALTER id TYPE fewer",
            ],
            "default": [
                FUNCTION.format(type="int", volatility=volatility, body="RETURN (SELECT count(*) FROM t);"),
                "ALTER TABLE t ADD place int DEFAULT f(1) CONSTRAINT ck CHECK (place < 3)",
            ],
            "operator": [
                counts,
                "CREATE OPERATOR ~~~ (FUNCTION = f, RIGHTARG = int)",
                "ALTER TABLE t ADD CONSTRAINT ck CHECK (~~~ id)",
            ],
        }[place],
    )
    written = write_rows(postgres_url, [{"id": number} for number in range(5)])
    assert written.verdicts == ["written", "written", "written", "check ck", "check ck"]
