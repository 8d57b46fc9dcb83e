"""Every method gives the reference's table and verdicts, whatever the table, the rows and the batches are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, note, settings
from sqlalchemy import Connection
from sqlalchemy.orm import Session

import etl.writers.bulk
from etl.config import Database, Load, Method
from etl.database import Target, connected, find_targets, session_factory
from etl.records import Counts, Verdict
from etl.writers import choose_writer
from tests.jobs import Written, job_for, methods_on, run_sql, write_batches
from tests.strategies import COLUMNS, PARENTS, SHAPES, Broken, Example, Row, Shape, examples

IN_ONE_DATABASE = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class Tables:
    """A database with all shapes of tables in it."""

    connection: Connection
    targets: dict[str, Target]

    @contextlib.contextmanager
    def holding(self, shape: Shape, rows: list[Row]) -> Iterator[Session]:
        """A session in which the table holds ``rows``; all is rolled back."""
        with session_factory(self.connection)() as session:
            names, values = ", ".join(COLUMNS), ", ".join(f":{name}" for name in COLUMNS)
            for row in rows:
                session.execute(sa.text(f"INSERT INTO {shape.name} ({names}) VALUES ({values})"), row)
            yield session
            session.rollback()


@pytest.fixture
def tables(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    monkeypatch.setattr(etl.writers.bulk, "SINGLE_ROWS", 3)  # so that small pieces are halved too
    parents = ", ".join(f"({key})" for key in PARENTS)
    run_sql(
        database_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        f"INSERT INTO p VALUES {parents}",
        *(shape.create() for shape in SHAPES),
    )
    with connected(Database(url=database_url)) as connection:
        job = job_for(database_url)
        loads = [Load(source=("-",), name=shape.name, table=shape.name) for shape in SHAPES]
        targets = find_targets(connection, job, loads)
        connection.rollback()
        yield Tables(connection, targets)


def held_of(shape: Shape, rows: list[Row]) -> list[Row]:
    """Those of ``rows`` that the table can hold."""
    table: list[Row] = []
    for row in rows:
        if not shape.broken_by(row, table):
            table.append(row)
    return table


def expected_of(shape: Shape, held: list[Row], rows: list[Row]) -> tuple[list[Row], list[list[Broken]]]:
    """By hand: the table in the end, and for each row the constraints it breaks."""
    table, verdicts = list(held), []
    for row in rows:
        broken = shape.broken_by(row, table)
        verdicts.append(broken)
        if not broken:
            table.append(row)
    return table, verdicts


def write(
    tables: Tables, method: Method, shape: Shape, held: list[Row], rows: list[Row], size: int
) -> tuple[Written, list[Row]]:
    target = tables.targets[shape.name]
    with tables.holding(shape, held) as session:
        writer = choose_writer(target, method).writer
        assert writer.method == method
        written = write_batches(session, writer, target, rows, size)
        found = session.execute(sa.text(f"SELECT {', '.join(COLUMNS)} FROM {shape.name}"))
        return written, [dict(row) for row in found.mappings()]


def in_order(table: list[Row]) -> list[str]:
    return sorted(str([row[name] for name in COLUMNS]) for row in table)


def check_verdicts(written: Written, expected: list[list[Broken]]) -> None:
    for index, broken in enumerate(expected):
        refusal = written.refusals.get(index)
        assert (refusal is None) == (not broken), f"row {index}"
        if refusal is not None:
            told = Broken(refusal.reason.value, refusal.sqlstate or "", refusal.constraint, refusal.column)
            assert told in broken, f"row {index}"  # where there is one, that one


@IN_ONE_DATABASE
@given(example=examples)
def test_methods_agree_with_each_other_and_with_the_constraints(tables: Tables, example: Example) -> None:
    shape = example.shape
    note(shape.create())
    held = held_of(shape, example.before)
    table, verdicts = expected_of(shape, held, example.rows)
    outcomes = {}
    for method in methods_on(tables.targets[shape.name]):
        written, found = write(tables, method, shape, held, example.rows, example.size)
        assert in_order(found) == in_order(table), method
        check_verdicts(written, verdicts)
        check_counts(written, len(example.rows), len(found) - len(held))
        outcomes[method] = written
    facts = [{index: facts_of(written, index) for index in written.refusals} for written in outcomes.values()]
    # COPY may name another one of several broken constraints; that it names a broken one was checked.
    assert facts[0] == facts[1]


def facts_of(written: Written, index: int) -> tuple[object, ...]:
    refusal = written.refusals[index]
    return refusal.verdict, refusal.reason, refusal.sqlstate, refusal.constraint, refusal.column


def check_counts(written: Written, read: int, added: int) -> None:
    """Rule 2, with the table itself as the witness of what was written."""
    verdicts = [refusal.verdict for refusal in written.refusals.values()]
    Counts(
        read=read,
        written=added,
        duplicates=verdicts.count(Verdict.DUPLICATE),
        rejected=verdicts.count(Verdict.REJECTED),
    ).check("this example")


@pytest.mark.parametrize(
    "make", [lambda bad: [bad] * 40, lambda bad: [bad if n % 2 else good(n) for n in range(40)]], ids=["all", "half"]
)
def test_methods_agree_where_nearly_everything_is_refused(tables: Tables, make: Callable[[Row], list[Row]]) -> None:
    shape = next(shape for shape in SHAPES if shape.to_parent and shape.primary_key)
    rows = make({"a": 1, "b": 1, "c": 1, "p": 7, "parent": None})
    found = [write(tables, method, shape, [], rows, 40) for method in methods_on(tables.targets[shape.name])]
    for written, table in found[1:]:
        assert written.verdicts == found[0][0].verdicts
        assert in_order(table) == in_order(found[0][1])


def good(number: int) -> Row:
    return {"a": number, "b": number, "c": 1, "p": 1, "parent": None}
