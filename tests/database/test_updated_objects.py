"""``on_duplicate = "update"`` with ``model``: the user's objects take the new values, as if the user had set them."""

from __future__ import annotations

import textwrap
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import etl
from etl.records import Counts
from tests.files import write_csv, write_job
from tests.jobs import fetch, is_sqlite, ledger, plain_connection, run_sql

MODELS = """
    import datetime as dt
    from decimal import Decimal
    from sqlalchemy import DateTime, ForeignKey, JSON, Numeric, String, event, text
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates

    class Base(DeclarativeBase):
        pass

    class Stock(Base):
        __tablename__ = "stock"
        id: Mapped[int] = mapped_column(primary_key=True)
        sku: Mapped[str | None] = mapped_column("code", String(9), unique=True)
        price: Mapped[Decimal | None] = mapped_column(Numeric(8, 2))
        amount: Mapped[float | None]
        at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
        note: Mapped[str | None] = mapped_column(String(20))
        extra: Mapped[dict | None] = mapped_column(JSON)
        state: Mapped[str | None] = mapped_column(String(9), default="new", onupdate="changed")
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

        @validates("note")
        def _note(self, key, value):
            if value == "bad":
                raise ValueError("no bad notes")
            return value.strip() if value else value

    @event.listens_for(Stock, "before_update")
    def _before_update(mapper, connection, stock):
        BEFORE_UPDATE

    @event.listens_for(Stock, "before_insert")
    def _before_insert(mapper, connection, stock):
        BEFORE_INSERT
"""
GIVEN = ("id", "code", "price", "amount", "at", "note", "extra")
ROWS = "SELECT id, code, CAST(price AS FLOAT), note, state, version FROM stock ORDER BY id"

Cells = tuple[str | None, ...]


def models(folder: Path, before_update: str = "pass", before_insert: str = "pass") -> str:
    """The name of a new module with the class, beside the config file."""
    name = f"models_{uuid.uuid4().hex}"
    text = textwrap.dedent(MODELS).replace("BEFORE_UPDATE", before_update).replace("BEFORE_INSERT", before_insert)
    (folder / f"{name}.py").write_text(text)
    return name


def create(url: str) -> None:
    moment = "TIMESTAMP" if is_sqlite(url) else "TIMESTAMPTZ"
    run_sql(
        url,
        "CREATE TABLE stock (id INTEGER PRIMARY KEY, code VARCHAR(9), price NUMERIC(8, 2), amount DOUBLE PRECISION,"
        f" at {moment}, note VARCHAR(20), extra JSON, state VARCHAR(9), version INTEGER NOT NULL,"
        " CONSTRAINT one_code UNIQUE (code), CONSTRAINT sane CHECK (price < 1000))",
        "INSERT INTO stock VALUES (1, 'a', 1, 0.5, '2024-01-10 12:00:00.000000', 'mine', '{\"a\": 1}', 'old', 1),"
        " (2, 'b', 2.5, NULL, NULL, NULL, NULL, 'old', 7)",
    )


def load(folder: Path, url: str, records: Sequence[Cells], given: Sequence[str] = GIVEN, **keys: Any) -> etl.RunResult:
    if is_sqlite(url):  # it has no type with a zone
        records = [tuple(cell and cell.removesuffix("Z") for cell in record) for record in records]
    write_csv(folder / "in.csv", given, records)
    keys = {"source": "in.csv", "on_duplicate": "update", "model": f"{models(folder)}:Stock"} | keys
    return etl.load(write_job(folder, url, keys), rerun=True)


def test_object_with_a_known_key_takes_the_values(database_url: str, tmp_path: Path) -> None:
    create(database_url)
    records = [
        ("1", "a", "1.20", "0.5", "2024-01-10T12:00:00Z", " mine ", '{"a": 1}'),  # another price
        ("2", "b", "2.50", None, None, None, None),  # the same
        ("3", "c", "4.00", None, None, None, None),  # new
        ("3", "c", "3.50", None, None, None, None),  # the new one again
    ]
    counts = load(tmp_path, database_url, records).counts
    assert counts == Counts(read=4, written=1, updated=2, unchanged=1)
    assert fetch(database_url, ROWS) == [
        (1, "a", 1.2, "mine", "changed", 2),
        (2, "b", 2.5, None, "old", 7),
        (3, "c", 3.5, None, "changed", 2),
    ]


def test_same_file_again_changes_nothing(database_url: str, tmp_path: Path) -> None:
    create(database_url)
    records = [
        ("1", "ä", "1.20", "0.1", "2024-02-29T12:00:00.000001Z", " x ", '{"b": [1, null]}'),
        ("5", "e", "0.10", "-0.0", "2024-02-29T12:00:00Z", None, None),
        ("2", "b", "2.50", None, None, "now", None),
    ]
    assert load(tmp_path, database_url, records).counts == Counts(read=3, written=1, updated=2)
    before = fetch(database_url, "SELECT * FROM stock ORDER BY id")
    assert load(tmp_path, database_url, records).counts == Counts(read=3, unchanged=3)
    assert fetch(database_url, "SELECT * FROM stock ORDER BY id") == before


def test_null_is_no_null_of_json(database_url: str, tmp_path: Path) -> None:
    create(database_url)
    given = ("id", "extra")
    records: list[Cells] = [("1", None), ("2", None), ("2", '{"a": 2}'), ("2", None), ("3", None)]
    assert load(tmp_path, database_url, records, given).counts == Counts(read=5, written=1, updated=3, unchanged=1)
    assert fetch(database_url, "SELECT count(*) FROM stock WHERE extra IS NULL") == [(3,)]


def test_refused_object_stays_as_it_was(database_url: str, tmp_path: Path) -> None:
    create(database_url)
    records = [
        ("1", "z", "9.00", None, None, "bad", None),  # by the validator, behind values that were set already
        ("1", "b", "9.00", None, None, None, None),  # by the other unique constraint
        ("2", "b", "5000", None, None, None, None),  # by the CHECK
        ("3", "c", "5000", None, None, None, None),  # a new one
        ("2", "b", "2.75", None, None, None, None),
    ]
    result = load(tmp_path, database_url, records)
    assert result.counts == Counts(read=5, updated=1, rejected=4)
    found = fetch(
        database_url,
        f"SELECT record, reason, constraint_name FROM {ledger(database_url)}etl_reject ORDER BY record",
    )
    assert found == [(1, "check", None), (2, "unique", "one_code"), (3, "check", "sane"), (4, "check", "sane")]
    assert fetch(database_url, ROWS) == [(1, "a", 1, "mine", "old", 1), (2, "b", 2.75, None, "changed", 8)]


def test_only_the_named_columns_change_and_only_if_newer(database_url: str, tmp_path: Path) -> None:
    create(database_url)
    records = [
        ("1", "z", "5.00", None, "2024-01-10T12:00:00Z", "x", None),  # not newer
        ("1", "z", "6.00", None, "2024-01-10T12:00:01Z", "x", None),
        ("1", "z", "7.00", None, None, "x", None),  # never newer
        ("2", "z", "8.00", None, "2000-01-01T00:00:00Z", "x", None),  # NULL is older than any
    ]
    keys = {"update_columns": ["price", "at"], "newer_by": "at"}
    assert load(tmp_path, database_url, records, **keys).counts == Counts(read=4, updated=2, unchanged=2)
    assert fetch(database_url, ROWS) == [(1, "a", 6, "mine", "changed", 2), (2, "b", 8, None, "changed", 8)]


def test_key_may_be_another_one_and_its_nulls_are_none(database_url: str, tmp_path: Path) -> None:
    create(database_url)
    records = [
        ("1", "q", "5.00"),  # repeats the primary key, which is not the one that is meant
        ("7", "a", "5.00"),  # changes it
        ("8", None, "5.00"),
        ("9", None, "5.00"),
    ]
    result = load(tmp_path, database_url, records, ("id", "code", "price"), key="code")
    assert result.counts == Counts(read=4, written=2, updated=1, rejected=1)
    assert [row[:3] for row in fetch(database_url, ROWS)] == [(2, "b", 2.5), (7, "a", 5), (8, None, 5), (9, None, 5)]


def test_nulls_that_a_constraint_calls_equal_are_one_key(postgres_url: str, tmp_path: Path) -> None:
    create(postgres_url)
    run_sql(
        postgres_url,
        "ALTER TABLE stock DROP CONSTRAINT one_code, ADD CONSTRAINT one_code UNIQUE NULLS NOT DISTINCT (code)",
    )
    records = [("8", None, "5.00"), ("9", None, "5.00"), ("9", None, "5.00")]
    result = load(tmp_path, postgres_url, records, ("id", "code", "price"), key="code")
    assert result.counts == Counts(read=3, written=1, updated=1, unchanged=1)
    assert [row[:3] for row in fetch(postgres_url, ROWS)] == [(1, "a", 1), (2, "b", 2.5), (9, None, 5)]


def test_object_that_another_session_adds_in_this_moment_is_updated(postgres_url: str, tmp_path: Path) -> None:
    create(postgres_url)
    adds = "INSERT INTO stock VALUES (3, 'c', 1, NULL, NULL, 'theirs', NULL, 'theirs', 1)"
    other = f"import tests.jobs; stock.id == 3 and tests.jobs.run_sql({postgres_url!r}, {adds!r})"
    model = f"{models(tmp_path, before_insert=other)}:Stock"
    records = [("3", "c", "5.00"), ("4", "d", "5.00")]
    counts = load(tmp_path, postgres_url, records, ("id", "code", "price"), model=model).counts
    assert counts == Counts(read=2, written=1, updated=1)
    assert fetch(postgres_url, ROWS)[2:] == [(3, "c", 5, "theirs", "changed", 2), (4, "d", 5, None, "new", 1)]


def test_nothing_is_committed_before_the_run_says_so(postgres_url: str, tmp_path: Path) -> None:
    create(postgres_url)
    looked = tmp_path / "looked"
    look = (
        f"import tests.jobs; open({str(looked)!r}, 'a').write("
        f"str(tests.jobs.fetch({postgres_url!r}, 'SELECT version FROM stock ORDER BY id')))"
    )
    model = f"{models(tmp_path, look)}:Stock"
    records = [("1", "a", "5.00"), ("2", "b", "6.00"), ("1", "a", "7.00")]
    load(tmp_path, postgres_url, records, ("id", "code", "price"), model=model)
    assert looked.read_text() == "[(1,), (7,)]" * 3
    with plain_connection(postgres_url) as connection:
        assert connection.execute("SELECT version FROM stock ORDER BY id").fetchall() == [(3,), (8,)]


def test_object_that_is_loaded_with_an_outer_join_is_found(database_url: str, tmp_path: Path) -> None:
    """PostgreSQL refuses FOR UPDATE for the other side of the join."""
    create(database_url)
    run_sql(database_url, "CREATE TABLE box (id INTEGER PRIMARY KEY, stock_id INTEGER REFERENCES stock (id))")
    name = models(tmp_path)
    with (tmp_path / f"{name}.py").open("a") as module:
        module.write(
            textwrap.dedent("""
                class Box(Base):
                    __tablename__ = "box"
                    id: Mapped[int] = mapped_column(primary_key=True)
                    stock_id: Mapped[int | None] = mapped_column(ForeignKey("stock.id"))
                    stock: Mapped[Stock | None] = relationship(lazy="joined")
            """)
        )
    records = [("1", "1"), ("1", "2"), ("1", "9"), ("2", None)]
    counts = load(tmp_path, database_url, records, ("id", "stock_id"), model=f"{name}:Box").counts
    assert counts == Counts(read=4, written=2, updated=1, rejected=1)
    assert fetch(database_url, "SELECT * FROM box ORDER BY id") == [(1, 2), (2, None)]
