"""What a COPY of many rows would judge otherwise than the row loop: no method may let it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

import etl
from etl.config import Method
from etl.database import session_factory
from etl.writers import choose_writer
from tests.comparison import in_pieces_of
from tests.databases import CASELESS
from tests.files import write_csv, write_job
from tests.jobs import METHODS, Row, fetch, ledger, opened_target, run_sql, write_batches, write_rows

WRITTEN = "written"
EACH_METHOD = pytest.mark.parametrize("method", METHODS)


def rows(*cells: tuple[object, ...]) -> list[Row]:
    """Rows of the columns id and n, or as many of them as there are cells."""
    return [dict(zip(("id", "n"), row, strict=False)) for row in cells]


def job_of(folder: Path, url: str, **load: Any) -> Path:
    """A job that loads t.csv into t."""
    return write_job(folder, url, {"source": "t.csv", "table": "t"} | load)


# Which row has the key


@pytest.mark.parametrize("size", [1, 3, 6])
def test_later_row_is_written_when_the_key_holder_is_refused_by_what_is_watched_for(
    postgres_url: str, size: int
) -> None:
    """The first six rows have both constraints seen to fail, so that the others are looked at before they are sent."""
    run_sql(
        postgres_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "INSERT INTO p VALUES (1)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, CONSTRAINT fk FOREIGN KEY (n) REFERENCES p)",
        "INSERT INTO t VALUES (1, 1)",
    )
    cells = [(2, 1), (1, 1), (3, 9), (4, 1), (1, 1), (5, 9), (6, 9), (6, 1), (6, 1), (7, 9), (7, 9), (7, 1)]
    verdicts = write_rows(postgres_url, rows(*cells), size=size).verdicts
    fk, key = "foreign_key fk", "unique t_pkey"
    assert verdicts[6:] == [fk, WRITTEN, key, fk, fk, WRITTEN]
    assert verdicts[:6] == [WRITTEN, key, fk, WRITTEN, key, fk]
    assert fetch(postgres_url, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (4,), (6,), (7,)]


# What COPY says of where it failed


def test_rows_before_the_one_that_copy_names_are_not_taken_for_good(postgres_url: str) -> None:
    """A CHECK is judged when a row is read, a key when 1,000 rows are flushed: COPY names the fourth row first."""
    run_sql(postgres_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, CONSTRAINT ck CHECK (n > 0))")
    written = write_rows(postgres_url, rows((1, 1), (1, 2), (2, 3), (3, 0), (3, 4)))
    assert written.verdicts == [WRITTEN, "unique t_pkey", WRITTEN, "check ck", WRITTEN]


@pytest.mark.parametrize(
    ("table", "refused"),
    [
        ("id INTEGER, n INTEGER, CONSTRAINT fk FOREIGN KEY (n) REFERENCES p", "foreign_key fk"),
        ("id INTEGER, n INTEGER, CONSTRAINT uq UNIQUE (n) DEFERRABLE", "unique uq"),
        ("id INTEGER, n INTEGER, CONSTRAINT uq UNIQUE (n) DEFERRABLE INITIALLY DEFERRED", "unique uq"),
    ],
    ids=["foreign key", "deferrable", "deferred"],
)
def test_row_is_found_where_the_error_of_copy_names_no_line(postgres_url: str, table: str, refused: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "INSERT INTO p VALUES (1), (2), (3)",
        f"CREATE TABLE t ({table})",
        "INSERT INTO t VALUES (0, 9)" if "uq" in refused else "SELECT",
    )
    written = write_rows(postgres_url, rows((1, 1), (2, 9), (3, 2), (4, 9), (5, 3)))
    assert written.verdicts == [WRITTEN, refused, WRITTEN, refused, WRITTEN]


@EACH_METHOD
@pytest.mark.parametrize("type_", ["INTEGER", "INTEGER[]"], ids=["binary", "text"])
def test_line_of_a_reject_is_that_of_the_file_where_fields_hold_newlines(
    postgres_url: str, tmp_path: Path, method: Method, type_: str
) -> None:
    """PostgreSQL counts the lines of what COPY is sent, not those of the file."""
    run_sql(
        postgres_url, f"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n {type_}, CONSTRAINT ck CHECK (id > 0))"
    )
    records = [(1, "one\ntwo\n", None), (2, "x", None), (-3, "\n\n", None), (2, "y", None), (4, "z\r\n", None)]
    write_csv(tmp_path / "t.csv", ("id", "name", "n"), records)
    etl.load(job_of(tmp_path, postgres_url, method=method, record_duplicates=True))
    found = fetch(postgres_url, f"SELECT record, line, reason FROM {ledger(postgres_url)}etl_reject ORDER BY record")
    assert found == [(3, 6, "check"), (4, 9, "unique")]


# What a piece costs


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is sent to PostgreSQL, by whichever cursor."""
    sent: list[Any] = []
    for name in ("execute", "copy"):
        monkeypatch.setattr(psycopg.Cursor, name, _noting(getattr(psycopg.Cursor, name), sent))
    return sent


def _noting(call: Any, sent: list[Any]) -> Any:
    def noted(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(query)
        return call(self, query, *arguments, **options)

    return noted


def test_statements_do_not_grow_with_the_number_of_bad_rows(postgres_url: str, statements: list[Any]) -> None:
    """Going on with COPY behind each row that it names would take one for each bad row."""
    run_sql(postgres_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, CONSTRAINT ck CHECK (n > 0))")
    counted = []
    for every in (100, 4):
        del statements[:]
        cells = [(number, number % every) for number in range(400)]
        written = write_rows(postgres_url, rows(*cells), methods=["copy"])
        assert written.verdicts.count("check ck") == 400 // every
        run_sql(postgres_url, "TRUNCATE t")
        counted.append(len(statements))
    assert counted[1] <= counted[0]


def test_file_with_duplicates_in_every_piece_leaves_few_dead_rows_and_gaps(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, "CREATE EXTENSION pgstattuple", "CREATE TABLE t (id INTEGER PRIMARY KEY, no SERIAL)")
    write_csv(tmp_path / "t.csv", ["id"], [(number - number % 10 // 9,) for number in range(20_000)])
    with in_pieces_of(400):
        result = etl.load(job_of(tmp_path, postgres_url, method="copy"))
    assert result.counts.duplicates == 2_000
    ((dead,),) = fetch(postgres_url, "SELECT dead_tuple_count FROM pgstattuple('t')")
    ((last,),) = fetch(postgres_url, "SELECT last_value FROM t_no_seq")
    assert dead <= 1_000  # some pieces of the fifty
    assert last <= 21_000


# What only the database knows


def test_exclusion_constraint_is_judged_row_by_row(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE EXTENSION btree_gist",
        "CREATE TABLE t (id INTEGER, n int4range, CONSTRAINT ex EXCLUDE USING gist (id WITH =, n WITH &&))",
    )
    written = write_rows(postgres_url, rows((1, "[1,3)"), (1, "[2,4)"), (1, "[3,5)"), (2, "[1,3)"), (1, "[4,9)")))
    assert written.verdicts == [WRITTEN, "exclusion ex", WRITTEN, WRITTEN, "exclusion ex"]
    assert written.refusals[1].sqlstate == "23P01"


@pytest.mark.parametrize(
    ("type_", "first", "second", "other"),
    [
        ("DOUBLE PRECISION", "NaN", "NaN", "1"),
        ("TIMESTAMPTZ", "2024-01-01 00:00:00Z", "2024-01-01 01:00:00+01:00", "2024-01-01 01:00:00Z"),
        ("JSONB", '{"a": 1}', '{"a":1.0}', '{"a": 2}'),
        ("INET", "127.0.0.1", "127.0.0.1/32", "127.0.0.1/8"),
        ("INT4RANGE", "[1,3)", "[1,2]", "[1,3]"),
    ],
)
def test_keys_that_are_written_differently_and_equal_are_duplicates(
    postgres_url: str, type_: str, first: str, second: str, other: str
) -> None:
    run_sql(postgres_url, f"CREATE TABLE t (id INTEGER, n {type_} UNIQUE)")
    for size in (1, None):
        written = write_rows(postgres_url, rows((1, first), (2, second), (3, other), (4, second)), size=size)
        assert written.verdicts == [WRITTEN, "unique t_n_key", WRITTEN, "unique t_n_key"]
        run_sql(postgres_url, "TRUNCATE t")


def test_keys_are_equal_as_their_collation_has_it(postgres_url: str) -> None:
    run_sql(postgres_url, CASELESS, "CREATE TABLE t (id INTEGER, n TEXT COLLATE caseless UNIQUE)")
    ((is_exact,),) = fetch(postgres_url, "SELECT collisdeterministic FROM pg_collation WHERE collname = 'caseless'")
    same = WRITTEN if is_exact else "unique t_n_key"
    for size in (1, None):
        written = write_rows(postgres_url, rows((1, "a"), (2, "A"), (3, "á"), (4, "a"), (5, "Á")), size=size)
        assert written.verdicts == [WRITTEN, same, WRITTEN, "unique t_n_key", same]
        run_sql(postgres_url, "TRUNCATE t")


# Rows that see each other


def counting(volatility: str, language: str = "plpgsql") -> str:
    """A function that counts the rows of t, which it knows when it is called."""
    body = {"plpgsql": "BEGIN RETURN (SELECT count(*) FROM t); END", "sql": "SELECT count(*) FROM t"}[language]
    return f"CREATE FUNCTION held() RETURNS bigint LANGUAGE {language} {volatility} AS $$ {body} $$"


EACH_VOLATILITY = pytest.mark.parametrize("volatility", ["STABLE", "VOLATILE"])


@EACH_VOLATILITY
@pytest.mark.parametrize("language", ["plpgsql", "sql"])
def test_check_that_counts_the_rows_of_its_table_is_judged_row_by_row(
    postgres_url: str, volatility: str, language: str
) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        counting(volatility, language),
        "ALTER TABLE t ADD CONSTRAINT few CHECK (held() < 2)",
    )
    written = write_rows(postgres_url, rows((1,), (2,), (3,), (4,)))
    assert written.verdicts == [WRITTEN, WRITTEN, "check few", "check few"]


@EACH_VOLATILITY
def test_domain_that_counts_the_rows_of_a_table_is_judged_row_by_row(postgres_url: str, volatility: str) -> None:
    run_sql(
        postgres_url,
        counting(volatility),
        "CREATE DOMAIN counted AS integer CONSTRAINT few CHECK (held() < 2)",
        "CREATE TABLE t (id counted PRIMARY KEY)",
    )
    written = write_rows(postgres_url, rows((1,), (2,), (3,), (4,)))
    assert written.verdicts == [WRITTEN, WRITTEN, "check few", "check few"]


@EACH_VOLATILITY
def test_default_that_counts_the_rows_of_its_table_counts_each_row(postgres_url: str, volatility: str) -> None:
    run_sql(postgres_url, counting(volatility), "CREATE TABLE t (id INTEGER PRIMARY KEY, d INTEGER DEFAULT held())")
    assert write_rows(postgres_url, rows((1,), (1,), (2,), (3,))).verdicts == [
        WRITTEN,
        "unique t_pkey",
        WRITTEN,
        WRITTEN,
    ]
    assert fetch(postgres_url, "SELECT id, d FROM t ORDER BY id") == [(1, 0), (2, 1), (3, 2)]


@EACH_VOLATILITY
def test_default_of_a_domain_that_counts_the_rows_counts_each_row(postgres_url: str, volatility: str) -> None:
    run_sql(
        postgres_url,
        counting(volatility),
        "CREATE DOMAIN number AS integer DEFAULT held()",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, d number)",
    )
    assert write_rows(postgres_url, rows((1,), (2,), (3,))).verdicts == [WRITTEN] * 3
    assert fetch(postgres_url, "SELECT id, d FROM t ORDER BY id") == [(1, 0), (2, 1), (3, 2)]


def test_check_that_writes_is_called_once_for_each_row(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE log (n INTEGER)",
        "CREATE FUNCTION noted(integer) RETURNS boolean LANGUAGE plpgsql VOLATILE AS"
        " $$ BEGIN INSERT INTO log VALUES ($1); RETURN $1 < 5; END $$",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, CONSTRAINT ck CHECK (noted(n)))",
    )
    cells = [(1, 1), (2, 5), (3, 2), (4, 5), (5, 3)]
    written = write_rows(postgres_url, rows(*cells), size=2)
    assert written.verdicts == [WRITTEN, "check ck", WRITTEN, "check ck", WRITTEN]
    assert fetch(postgres_url, "SELECT n FROM log ORDER BY n") == [(1,), (2,), (3,)]


def test_check_of_a_partition_that_counts_its_rows_is_judged_row_by_row(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10)",
        counting("STABLE"),
        "ALTER TABLE low ADD CONSTRAINT few CHECK (held() < 2)",
    )
    assert write_rows(postgres_url, rows((1,), (2,), (3,))).verdicts == [WRITTEN, WRITTEN, "check few"]


# Constraints that are not what they look like


@pytest.mark.parametrize("constraint", ["NOT NULL", "CHECK (VALUE IS NOT NULL)"])
def test_domain_of_a_column_that_the_source_does_not_give_is_judged(postgres_url: str, constraint: str) -> None:
    """An INSERT judges the NULL that it fills in; COPY does not."""
    run_sql(
        postgres_url,
        f"CREATE DOMAIN given AS integer {constraint}",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, d given)",
    )
    verdicts = write_rows(postgres_url, rows((1,), (2,))).verdicts
    assert {verdict.split()[0] for verdict in verdicts} == {"not_null" if constraint == "NOT NULL" else "check"}
    assert fetch(postgres_url, "SELECT count(*) FROM t") == [(0,)]


def test_check_of_the_whole_row_is_judged(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)",
        "ALTER TABLE t ADD CONSTRAINT whole CHECK (t IS DISTINCT FROM NULL AND n < 8)",
    )
    for size in (2, None):
        written = write_rows(postgres_url, rows((1, 1), (2, 8), (3, 8), (4, 4), (5, 8), (6, 6)), size=size)
        assert written.verdicts == [WRITTEN, "check whole", "check whole", WRITTEN, "check whole", WRITTEN]
        run_sql(postgres_url, "TRUNCATE t")


RAISING = (
    "CREATE FUNCTION small(integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS"
    " $$ BEGIN IF coalesce($1, 0) = 0 THEN RAISE 'not this'; END IF; RETURN $1 < 5; END $$"
)


@pytest.mark.parametrize("size", [1, 2, None])
def test_check_that_raises_is_not_asked_about_a_row_that_not_null_refuses(postgres_url: str, size: int | None) -> None:
    run_sql(postgres_url, RAISING, "CREATE TABLE t (id INTEGER, n INTEGER NOT NULL, CONSTRAINT ck CHECK (small(n)))")
    written = write_rows(postgres_url, rows((1, 1), (2, 7), (3, None), (4, 7), (5, None), (6, 1)), size=size)
    assert written.verdicts == [WRITTEN, "check ck", "not_null n", "check ck", "not_null n", WRITTEN]


@pytest.mark.parametrize("size", [1, 2, None])
def test_check_that_raises_is_not_asked_about_a_row_that_an_earlier_check_refuses(
    postgres_url: str, size: int | None
) -> None:
    """CHECKs are judged in the order of their names."""
    table = "CREATE TABLE t (id INTEGER, n INTEGER, CONSTRAINT a CHECK (n <> 0), CONSTRAINT b CHECK (small(n)))"
    run_sql(postgres_url, RAISING, table)
    written = write_rows(postgres_url, rows((1, 0), (2, 7), (3, 0), (4, 7), (5, 0), (6, 1)), size=size)
    assert written.verdicts == ["check a", "check b", "check a", "check b", "check a", WRITTEN]


@pytest.mark.parametrize("clause", ["NOT VALID", "NOT ENFORCED"])
def test_check_that_old_rows_break_is_judged_as_the_database_does(postgres_url: str, clause: str) -> None:
    if clause == "NOT ENFORCED" and not is_at_least(postgres_url, 18):
        clause = "NOT VALID"
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)",
        "INSERT INTO t VALUES (0, 9)",
        f"ALTER TABLE t ADD CONSTRAINT ck CHECK (n < 8) {clause}",
    )
    refused = "check ck" if clause == "NOT VALID" else WRITTEN
    for size in (1, None):
        written = write_rows(postgres_url, rows((1, 1), (2, 8), (1, 2), (3, 8)), size=size)
        assert written.verdicts == [WRITTEN, refused, "unique t_pkey", refused]
        run_sql(postgres_url, "TRUNCATE t")


def test_foreign_key_that_is_not_enforced_refuses_nothing(postgres_url: str) -> None:
    enforced = not is_at_least(postgres_url, 18)
    run_sql(
        postgres_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)",
        f"ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (n) REFERENCES p {'' if enforced else 'NOT ENFORCED'}",
    )
    expected = "foreign_key fk" if enforced else WRITTEN
    assert write_rows(postgres_url, rows((1, 1), (2, None), (3, 3)), size=1).verdicts == [expected, WRITTEN, expected]


def test_key_without_overlaps_is_an_exclusion(postgres_url: str) -> None:
    key = "UNIQUE (id, n WITHOUT OVERLAPS)"
    if not is_at_least(postgres_url, 18):
        key = "EXCLUDE USING gist (id WITH =, n WITH &&)"
    run_sql(
        postgres_url, "CREATE EXTENSION btree_gist", f"CREATE TABLE t (id INTEGER, n int4range, CONSTRAINT uq {key})"
    )
    for size in (1, None):
        written = write_rows(postgres_url, rows((1, "[1,3)"), (1, "[1,3)"), (1, "[2,4)"), (1, "[3,4)")), size=size)
        assert written.verdicts == [WRITTEN, "exclusion uq", "exclusion uq", WRITTEN]
        run_sql(postgres_url, "TRUNCATE t")


@pytest.mark.parametrize("condition", ["", "WHERE new.id > 2"])
def test_rule_on_insert_is_applied_to_each_row(postgres_url: str, condition: str) -> None:
    """The ORM would ask back for a key that is NULL, which a rule does not allow."""
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER, n INTEGER, PRIMARY KEY (id, n))",
        f"CREATE RULE nothing AS ON INSERT TO t {condition} DO INSTEAD NOTHING",
    )
    verdicts = write_rows(postgres_url, rows((1, 1), (3, None), (1, None), (1, 1), (3, 3))).verdicts
    refused = [WRITTEN, WRITTEN, "not_null n", "unique t_pkey", WRITTEN]
    assert verdicts == (refused if condition else [WRITTEN] * 5)
    assert fetch(postgres_url, "SELECT id FROM t") == ([(1,)] if condition else [])


@EACH_METHOD
def test_value_that_cannot_be_read_is_refused_though_a_rule_leaves_out_the_insert(
    postgres_url: str, method: Method
) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER, n INTEGER[])",
        "CREATE RULE nothing AS ON INSERT TO t DO INSTEAD NOTHING",
    )
    verdicts = write_rows(postgres_url, rows((1, "{1}"), (2, "{x}"), (3, None)), method=method).verdicts
    assert verdicts == [WRITTEN, "type ?", WRITTEN]


# Rights and names


@EACH_METHOD
@pytest.mark.parametrize("key", ["id SERIAL", "id INTEGER DEFAULT 7", "id INTEGER"])
def test_role_that_may_not_read_the_table_may_write_it(
    postgres_url: str, unprivileged_url: str, method: Method, key: str
) -> None:
    """RETURNING, which an ORM asks for, needs the right to read."""
    role = make_url(unprivileged_url).username
    run_sql(
        postgres_url,
        f"CREATE TABLE t ({key}, n INTEGER, PRIMARY KEY (id, n))",
        f"GRANT INSERT ON t TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
    )
    cells = [(1, 1), (2, None), (3, 3)] if key == "id INTEGER" else [(1, 1), (2, 2)]
    given = [row if key == "id INTEGER" else {"n": row["n"]} for row in rows(*cells)]
    with opened_target(unprivileged_url) as (connection, target), session_factory(connection).begin() as session:
        written = write_batches(session, choose_writer(target, method).writer, target, given)
    assert written.verdicts == ([WRITTEN, "not_null n", WRITTEN] if len(given) == 3 else [WRITTEN, WRITTEN])
    assert fetch(postgres_url, "SELECT count(*) FROM t") == [(2,)]


@EACH_METHOD
def test_key_that_the_source_does_not_give_is_not_asked_back(
    postgres_url: str, unprivileged_url: str, method: Method
) -> None:
    """A single row is no executemany, and a key that nobody gives would be asked back for it."""
    role = make_url(unprivileged_url).username
    run_sql(postgres_url, "CREATE TABLE t (id INTEGER, n INTEGER, PRIMARY KEY (id, n))", f"GRANT INSERT ON t TO {role}")
    with opened_target(unprivileged_url) as (connection, target), session_factory(connection).begin() as session:
        written = write_batches(session, choose_writer(target, method).writer, target, [{"id": 1}])
    assert written.verdicts == ["not_null n"]


@pytest.mark.parametrize(
    "names", [("etl_ordinal", "etl_place"), ("etl_row", "etl_state"), ("s", "t"), ("there", "first")]
)
def test_columns_may_have_the_names_that_etl_uses_itself(postgres_url: str, names: tuple[str, str]) -> None:
    key, n = names
    table = f"CREATE TABLE t ({key} INTEGER PRIMARY KEY, {n} INTEGER, CONSTRAINT ck CHECK ({n} < 5))"
    run_sql(postgres_url, table)
    cells = [(1, 1), (1, 2), (2, 9), (3, 1), (1, 4), (4, 9), (4, 4)]
    written = write_rows(postgres_url, [dict(zip(names, row, strict=True)) for row in cells], size=2)
    expected = [WRITTEN, "unique t_pkey", "check ck", WRITTEN, "unique t_pkey", "check ck", WRITTEN]
    assert written.verdicts == expected


def test_database_that_forbids_new_temporary_tables_is_written(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        "CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no DDL here'; END $$",
        "CREATE EVENT TRIGGER forbid ON ddl_command_start WHEN TAG IN ('CREATE TABLE', 'CREATE FUNCTION')"
        " EXECUTE FUNCTION forbid()",
    )
    assert write_rows(postgres_url, rows((1,), (1,), (2,))).verdicts == [WRITTEN, "unique t_pkey", WRITTEN]


def is_at_least(url: str, version: int) -> bool:
    ((found,),) = fetch(url, "SHOW server_version_num")
    return int(found) // 10_000 >= version
