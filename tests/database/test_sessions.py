"""Loads by the caller's own sessions: their events see each row, and nothing of the caller's is touched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import SingletonThreadPool, StaticPool

import etl
from etl.errors import ConfigError
from tests.files import write_csv, write_job
from tests.jobs import fetch, is_sqlite, run_sql

DOCS = Path(__file__).parents[2] / "docs" / "sessions.md"


@pytest.fixture
def shop_url(database_url: str) -> str:
    run_sql(
        database_url,
        "CREATE TABLE customers (id integer PRIMARY KEY, name varchar(9) NOT NULL)",
        "CREATE TABLE orders (id integer PRIMARY KEY, customer integer REFERENCES customers)",
        "CREATE TABLE audit (table_name text, row_id integer)",
        "INSERT INTO customers VALUES (1, 'Ana')",
    )
    return database_url


@pytest.fixture
def engine(shop_url: str) -> Any:
    url = shop_url if is_sqlite(shop_url) else shop_url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def make_job(folder: Path, rows: list[tuple[Any, ...]], **load: Any) -> Path:
    write_csv(folder / "orders.csv", ("id", "customer"), rows)
    return write_job(folder, "sqlite:///somewhere-else.db", {"source": "orders.csv", "table": "orders"} | load)


def example() -> str:
    """The example of the docs, up to the call of etl."""
    found = re.search(r"```python\n(import sqlalchemy.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("is_scoped", [False, True])
def test_the_example_of_the_docs_audits_every_row_that_is_written_and_no_other(
    shop_url, engine, tmp_path, monkeypatch, is_scoped
):
    make_job(tmp_path, [(1, 1), (2, 99), (3, 1), (3, 1), ("x", 1)], commit_every=2)
    monkeypatch.chdir(tmp_path)
    code, call, _ = example().partition("result = ")
    names: dict[str, Any] = {"engine": engine}
    exec(code, names)
    if is_scoped:
        names["sessions"] = scoped_session(names["sessions"])
    exec(call + _, names)

    assert fetch(shop_url, "SELECT table_name, row_id FROM audit ORDER BY 2") == [("orders", 1), ("orders", 3)]
    assert fetch(shop_url, "SELECT id FROM orders ORDER BY 1") == [(1,), (3,)]
    assert (names["result"].counts.duplicates, names["result"].counts.rejected) == (1, 2)
    assert names["result"].loads[0].method == "row"


def test_neither_sessions_nor_transactions_of_the_caller_are_touched(shop_url, engine, tmp_path):
    class Marked(Session):
        made: ClassVar[list[Session]] = []

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.made.append(self)

    sessions = scoped_session(sessionmaker(engine, class_=Marked))
    mine = sessions()
    mine.info["mine"] = True
    if not is_sqlite(shop_url):  # which has one writer at a time
        mine.execute(sa.text("INSERT INTO customers VALUES (2, 'Zoe')"))

    result = etl.load(make_job(tmp_path, [(1, 1)]), sessions=sessions)

    assert result.counts.written == 1
    assert sessions() is mine
    assert [session for session in Marked.made if session.info.get("mine")] == [mine]
    assert len(Marked.made) > 1
    assert mine.in_transaction() is not is_sqlite(shop_url)
    mine.rollback()
    assert fetch(shop_url, "SELECT count(*) FROM customers") == [(1,)]


def settings_of(engine: Engine) -> Any:
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        if engine.dialect.name == "sqlite":
            return driver.isolation_level, driver.execute("PRAGMA foreign_keys").fetchone()
        return connection.execute(sa.text("SELECT current_setting('timezone'), current_setting('datestyle')")).one()


def test_the_connection_is_given_back_as_it_was(shop_url, engine, tmp_path):
    before = settings_of(engine)

    result = etl.load(make_job(tmp_path, [(1, 99), (2, 1)]), sessions=sessionmaker(engine))

    assert (result.counts.rejected, result.counts.written) == (1, 1)  # foreign keys were checked
    assert settings_of(engine) == before
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO orders (id) VALUES (7)"))
    assert fetch(shop_url, "SELECT id FROM orders ORDER BY 1") == [(2,), (7,)]


@pytest.mark.parametrize("method", ["row", "bulk", "copy"])
def test_a_method_that_is_asked_for_is_taken(shop_url, engine, tmp_path, method):
    if method == "copy" and is_sqlite(shop_url):
        method = "bulk"
    rows: list[tuple[Any, ...]] = [(n, 1 if n % 3 else 99) for n in range(1, 31)]

    result = etl.load(make_job(tmp_path, rows), sessions=sessionmaker(engine), method=method)

    assert (result.loads[0].method, result.counts.written, result.counts.rejected) == (method, 20, 10)


def test_hooks_of_the_callers_engine_that_begin_transactions_are_not_in_the_way(sqlite_url, tmp_path):
    run_sql(sqlite_url, "CREATE TABLE orders (id integer PRIMARY KEY, customer integer)")
    engine = create_engine(sqlite_url)
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    result = etl.load(make_job(tmp_path, [(1, 1)]), sessions=sessionmaker(engine))
    engine.dispose()

    assert result.counts.written == 1


def test_what_an_event_raises_ends_the_load_and_nothing_of_its_transaction_stays(shop_url, engine, tmp_path):
    sessions = sessionmaker(engine)

    @event.listens_for(sessions, "after_flush")
    def fail(session: Session, _context: object) -> None:
        if any(getattr(row, "id", None) == 2 for row in session.new):
            raise RuntimeError("the hook is broken")

    with pytest.raises(RuntimeError, match="the hook is broken"):
        etl.load(make_job(tmp_path, [(1, 1), (2, 1)]), sessions=sessions)

    assert fetch(shop_url, "SELECT count(*) FROM orders") == [(0,)]


def memory() -> Engine:
    return create_engine("sqlite://", poolclass=StaticPool)


def test_sqlite_in_memory_can_be_loaded_into(tmp_path):
    engine = memory()
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id integer PRIMARY KEY, customer integer)"))

    etl.load(make_job(tmp_path, [(1, 1), (2, 1)]), sessions=sessionmaker(engine))

    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM orders")) == 2


class Routed(Session):
    def get_bind(self, *_: Any, **__: Any) -> Any:
        return memory()


def refused() -> list[Any]:
    engine = memory()
    return [
        pytest.param(sessionmaker(), "are not bound to an Engine", id="no bind"),
        pytest.param(sessionmaker(engine.connect()), "bound to a Connection", id="connection"),
        pytest.param(sessionmaker(engine, binds={Session: engine}), "several databases", id="binds"),
        pytest.param(sessionmaker(engine, twophase=True), "two phases", id="twophase"),
        pytest.param(sessionmaker(engine, class_=Routed), "chooses its connection by itself", id="get_bind"),
        pytest.param(Session(engine), "which makes no sessions", id="a session"),
        pytest.param(engine, "which makes no sessions", id="an engine"),
    ]


@pytest.mark.parametrize(("sessions", "told"), refused())
def test_sessions_that_cannot_work_are_told_in_a_sentence(tmp_path, sessions, told):
    if told.startswith("chooses"):
        sessions.kw["bind"] = memory()
        with sessions.kw["bind"].begin() as connection:
            connection.execute(sa.text("CREATE TABLE orders (id integer PRIMARY KEY, customer integer)"))

    with pytest.raises(ConfigError, match=told):
        etl.load(make_job(tmp_path, [(1, 1)]), sessions=sessions)


@pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool])
def test_a_transaction_of_somebody_elses_on_the_only_connection_is_told_and_left_alone(tmp_path, pool):
    engine = create_engine("sqlite://", poolclass=pool)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id integer PRIMARY KEY, customer integer)"))
        connection.execute(sa.text("INSERT INTO orders VALUES (9, 9)"))

        with pytest.raises(ConfigError, match="is in a transaction of somebody else's"):
            etl.load(make_job(tmp_path, [(1, 1)]), sessions=sessionmaker(engine))

        assert connection.scalar(sa.text("SELECT count(*) FROM orders")) == 1


def test_an_engine_in_autocommit_is_told(postgres_url, tmp_path):
    url = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")

    with pytest.raises(ConfigError, match="AUTOCOMMIT"):
        etl.load(make_job(tmp_path, [(1, 1)]), sessions=sessionmaker(engine))
    engine.dispose()
