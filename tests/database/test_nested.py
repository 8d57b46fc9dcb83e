"""Records with lists in them: a record and its children are one graph of objects, in one savepoint."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

import etl
from etl.errors import ConfigError, SourceError, TargetMismatch
from etl.records import ChildCounts, RunResult
from tests.commands import call, started, wait_until
from tests.files import write_job
from tests.jobs import fetch, is_sqlite, ledger, run_sql

ELEMENT = pa.struct([("sku", pa.string()), ("quantity", pa.int64())])
ORDERS = pa.schema(
    [
        ("order_id", pa.int64()),
        ("customer", pa.struct([("name", pa.string()), ("city", pa.string())])),
        ("lines", pa.list_(ELEMENT)),
    ]
)
TABLES = (
    "CREATE TABLE orders (order_id integer PRIMARY KEY, customer varchar(20) NOT NULL, city varchar(20))",
    "CREATE TABLE order_lines (order_id integer NOT NULL CONSTRAINT lines_order REFERENCES orders ON DELETE CASCADE,"
    " line_no integer NOT NULL, sku varchar(5), quantity integer NOT NULL,"
    " CONSTRAINT lines_quantity CHECK (quantity > 0), PRIMARY KEY (order_id, line_no))",
)
COLUMNS = {"customer": "customer.name", "city": "customer.city"}
LINES = {"table": "order_lines", "position": "line_no"}


def order(number: int, *lines: tuple[str | None, int | None], name: str | None = "Ana") -> dict[str, Any]:
    customer = {"name": name, "city": "Évora"}
    return {"order_id": number, "customer": customer, "lines": [{"sku": s, "quantity": q} for s, q in lines]}


def write(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema = ORDERS) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return path


def load_orders(
    folder: Path, url: str, rows: Sequence[Mapping[str, Any]], lines: Mapping[str, Any] = LINES, **more: Any
) -> RunResult:
    write(folder / "orders.parquet", rows)
    load = {"source": "orders.parquet", "table": "orders", "columns": COLUMNS, "children": {"lines": lines}} | more
    return etl.load(write_job(folder, url, load))


def rejects(url: str) -> list[dict[str, Any]]:
    names = ("record", "phase", "reason", "sqlstate", "constraint_name", "column_name", "message", "source_values")
    found = fetch(url, f"SELECT {', '.join(names)} FROM {ledger(url)}etl_reject ORDER BY id")
    return [dict(zip(names, row, strict=True)) for row in found]


@pytest.fixture
def shop_url(database_url: str) -> str:
    run_sql(database_url, *TABLES)
    return database_url


@pytest.fixture
def sqlite_shop_url(sqlite_url: str) -> str:
    """For what the database has no part in."""
    run_sql(sqlite_url, *TABLES)
    return sqlite_url


def lines_of(url: str) -> list[tuple[Any, ...]]:
    return fetch(url, "SELECT order_id, line_no, sku, quantity FROM order_lines ORDER BY 1, 2")


def numbers(url: str) -> list[int]:
    return [number for (number,) in fetch(url, "SELECT order_id FROM orders ORDER BY 1")]


# One savepoint


def test_a_record_and_its_children_are_written_together_with_their_places(shop_url, tmp_path):
    rows = [order(1, ("a", 1), ("b", 2)), order(2), order(3, ("c", 3)) | {"lines": None}]

    result = load_orders(tmp_path, shop_url, rows)

    assert fetch(shop_url, "SELECT * FROM orders ORDER BY 1") == [(n, "Ana", "Évora") for n in (1, 2, 3)]
    assert lines_of(shop_url) == [(1, 1, "a", 1), (1, 2, "b", 2)]
    assert (result.exit_code, result.counts.read, result.counts.written) == (0, 3, 3)
    assert result.loads[0].children == {"lines": ChildCounts(read=2, written=2)}
    assert result.loads[0].method == "row"
    assert result.timing is not None
    assert result.timing.savepoints == 3


def test_a_bad_child_refuses_its_whole_record_and_is_named_with_its_table_and_place(shop_url, tmp_path):
    rows = [order(1, ("a", 1)), order(2, ("a", 1), ("b", 0), ("c", 1)), order(3, ("a", None))]

    result = load_orders(tmp_path, shop_url, rows)

    assert numbers(shop_url) == [1]
    assert lines_of(shop_url) == [(1, 1, "a", 1)]
    assert (result.exit_code, result.counts.written, result.counts.rejected) == (3, 1, 2)
    assert result.loads[0].children == {"lines": ChildCounts(read=5, written=1, skipped=4)}
    check, null = rejects(shop_url)
    assert (check["record"], check["phase"], check["reason"], check["sqlstate"]) == (2, "write", "check", "23514")
    assert check["constraint_name"] == "lines_quantity"
    assert check["message"].startswith("lines[2] (order_lines): ")
    values = check["source_values"] if isinstance(check["source_values"], dict) else json.loads(check["source_values"])
    assert json.loads(values["lines"])[1] == {"sku": "b", "quantity": 0}
    assert json.loads(values["customer"]) == {"name": "Ana", "city": "Évora"}
    assert (null["record"], null["reason"], null["column_name"]) == (3, "not_null", "lines.quantity")
    assert null["message"].startswith("lines[1] (order_lines): ")


def test_a_child_that_cannot_be_mapped_refuses_its_record(sqlite_shop_url, tmp_path):
    rows = [order(1, ("a", 1), ("too long", 1)), order(2, ("a", 1))]

    result = load_orders(tmp_path, sqlite_shop_url, rows)

    assert numbers(sqlite_shop_url) == [2]
    assert result.counts.rejected == 1
    (reject,) = rejects(sqlite_shop_url)
    assert (reject["record"], reject["phase"], reject["reason"]) == (1, "map", "too_long")
    assert reject["column_name"] == "lines.sku"
    assert reject["message"].startswith("lines[2] (order_lines): ")


def test_a_child_that_is_null_is_no_row(sqlite_shop_url, tmp_path):
    result = load_orders(tmp_path, sqlite_shop_url, [order(1) | {"lines": [None]}])

    assert (result.counts.rejected, numbers(sqlite_shop_url)) == (1, [])
    assert (rejects(sqlite_shop_url)[0]["reason"], rejects(sqlite_shop_url)[0]["column_name"]) == ("not_null", "lines")


def test_a_record_that_is_there_is_a_duplicate_and_its_children_stay_as_they_are(shop_url, tmp_path):
    run_sql(shop_url, "INSERT INTO orders VALUES (1, 'Old', NULL)", "INSERT INTO order_lines VALUES (1, 7, 'old', 7)")

    result = load_orders(tmp_path, shop_url, [order(1, ("a", 1)), order(2, ("b", 0)), order(2, ("b", 1))])

    assert (result.counts.duplicates, result.counts.rejected, result.counts.written) == (1, 1, 1)
    assert lines_of(shop_url) == [(1, 7, "old", 7), (2, 1, "b", 1)]
    assert fetch(shop_url, "SELECT customer FROM orders WHERE order_id = 1") == [("Old",)]


def test_a_child_whose_key_is_taken_makes_its_record_a_reject_and_no_duplicate(shop_url, tmp_path):
    lines = {"table": "order_lines", "columns": {"line_no": "quantity"}, "ignore_columns": "*"}
    run_sql(shop_url, "ALTER TABLE order_lines ADD COLUMN note text")
    if is_sqlite(shop_url):
        run_sql(shop_url, "DROP TABLE order_lines", TABLES[1].replace("quantity integer NOT NULL", "quantity integer"))
    else:
        run_sql(shop_url, "ALTER TABLE order_lines ALTER quantity DROP NOT NULL")

    result = load_orders(tmp_path, shop_url, [order(1, ("a", 1), ("b", 1)), order(2, ("a", 1), ("b", 2))], lines)

    assert (result.counts.duplicates, result.counts.rejected, numbers(shop_url)) == (0, 1, [2])
    assert rejects(shop_url)[0]["reason"] == "unique"
    assert rejects(shop_url)[0]["constraint_name"] == "order_lines_pkey"
    assert rejects(shop_url)[0]["message"].startswith("lines[2] (order_lines): ")


def test_nothing_of_a_graph_can_be_seen_before_the_outer_commit(shop_url, tmp_path):
    seen: list[tuple[int, int]] = []

    def look(_session: Session) -> None:
        seen.append((len(numbers(shop_url)), len(lines_of(shop_url))))

    event.listen(Session, "before_commit", look)
    try:
        load_orders(tmp_path, shop_url, [order(n, ("a", 1), ("b", 1)) for n in range(1, 7)], LINES, commit_every=2)
    finally:
        event.remove(Session, "before_commit", look)

    assert {(0, 0), (2, 4), (4, 8)} <= set(seen)
    assert all(lines == 2 * orders for orders, lines in seen)
    assert (len(numbers(shop_url)), len(lines_of(shop_url))) == (6, 12)


# Only the bad child is left out


def test_with_lenient_children_only_the_bad_ones_are_left_out_and_listed(shop_url, tmp_path):
    lines = LINES | {"orphans": "reject"}
    rows = [order(1, ("a", 1), ("b", 0), ("too long", 1), ("d", 4)), order(2, ("x", 1), name=None), order(3, ("e", 5))]

    result = load_orders(tmp_path, shop_url, rows, lines)

    assert lines_of(shop_url) == [(1, 1, "a", 1), (1, 4, "d", 4), (3, 1, "e", 5)]
    assert (result.counts.written, result.counts.rejected, result.exit_code) == (2, 1, 3)
    assert result.loads[0].children == {"lines": ChildCounts(read=6, written=3, rejected=2, skipped=1)}
    found = {(each["record"], each["phase"], each["reason"]): each for each in rejects(shop_url)}
    assert set(found) == {(1, "child", "check"), (1, "child", "too_long"), (2, "write", "not_null")}
    left_out = found[1, "child", "check"]
    assert left_out["message"].startswith("lines[2] (order_lines): ")
    values = left_out["source_values"]
    assert (values if isinstance(values, dict) else json.loads(values)) == {"sku": "b", "quantity": "0"}
    assert found[1, "child", "too_long"]["column_name"] == "lines.sku"


def test_children_that_are_left_out_alone_end_with_exit_code_3(sqlite_shop_url, tmp_path):
    result = load_orders(tmp_path, sqlite_shop_url, [order(1, ("b", 0))], LINES | {"orphans": "reject"})

    assert (result.exit_code, result.counts.rejected, result.counts.written) == (3, 0, 1)


def test_what_was_left_out_of_a_record_that_is_refused_is_not_listed(sqlite_shop_url, tmp_path):
    result = load_orders(
        tmp_path, sqlite_shop_url, [order(1, ("too long", 1), name=None)], LINES | {"orphans": "reject"}
    )

    assert [each["phase"] for each in rejects(sqlite_shop_url)] == ["write"]
    assert result.loads[0].children == {"lines": ChildCounts(read=1, skipped=1)}


# Replacing


def test_replace_writes_the_new_aggregate_in_place_of_the_old_one(shop_url, tmp_path):
    load_orders(tmp_path, shop_url, [order(1, ("a", 1), ("b", 2), ("c", 3)), order(2, ("d", 4))])

    rows = [order(1, ("x", 9), name="New"), order(3, ("e", 5)), order(3, ("f", 6), ("g", 7))]
    result = load_orders(tmp_path, shop_url, rows, on_duplicate="replace")

    assert (result.counts.written, result.counts.updated, result.counts.duplicates) == (1, 2, 0)
    assert lines_of(shop_url) == [(1, 1, "x", 9), (2, 1, "d", 4), (3, 1, "f", 6), (3, 2, "g", 7)]
    assert fetch(shop_url, "SELECT customer FROM orders WHERE order_id = 1") == [("New",)]


@pytest.mark.parametrize("cascade", ["ON DELETE CASCADE", ""])
def test_a_bad_new_record_leaves_the_old_aggregate_as_it_was(database_url, tmp_path, cascade):
    run_sql(database_url, TABLES[0], TABLES[1].replace("ON DELETE CASCADE", cascade))
    load_orders(tmp_path, database_url, [order(1, ("a", 1), ("b", 2))])

    rows = [order(1, ("x", 9), ("y", 0)), order(1, ("z", 1), name=None), order(2, ("n", 1))]
    result = load_orders(tmp_path, database_url, rows, on_duplicate="replace")

    assert (result.counts.written, result.counts.updated, result.counts.rejected) == (1, 0, 2)
    assert lines_of(database_url) == [(1, 1, "a", 1), (1, 2, "b", 2), (2, 1, "n", 1)]

    load_orders(tmp_path, database_url, [order(1, ("x", 9), ("y", 0))], LINES | {"orphans": "reject"},
                on_duplicate="replace")  # fmt: skip

    assert lines_of(database_url) == [(1, 1, "x", 9), (2, 1, "n", 1)]


def test_replace_by_another_key_than_the_primary_one(database_url, tmp_path):
    generated = "integer PRIMARY KEY" if is_sqlite(database_url) else "integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    run_sql(
        database_url,
        f"CREATE TABLE orders (id {generated}, number integer NOT NULL UNIQUE, customer text, city text)",
        f"CREATE TABLE order_lines (id {generated}, parent integer NOT NULL REFERENCES orders ON DELETE CASCADE,"
        " sku text, quantity integer)",
    )
    more = {"columns": COLUMNS | {"number": "order_id"}, "on_duplicate": "replace", "key": "number"}
    lines = {"table": "order_lines"}
    load_orders(tmp_path, database_url, [order(7, ("a", 1), ("b", 2)), order(8, ("c", 3))], lines, **more)

    result = load_orders(tmp_path, database_url, [order(7, ("x", 9))], lines, **more)

    assert (result.counts.updated, result.counts.written) == (1, 0)
    joined = "SELECT number, sku FROM orders JOIN order_lines ON parent = orders.id ORDER BY 1, 2"
    assert fetch(database_url, joined) == [(7, "x"), (8, "c")]
    assert fetch(database_url, "SELECT count(*) FROM order_lines") == [(2,)]


# Generated keys


def test_a_key_that_the_database_generates_is_passed_on_to_the_children(database_url, tmp_path):
    generated = "integer PRIMARY KEY" if is_sqlite(database_url) else "serial PRIMARY KEY"
    run_sql(
        database_url,
        f"CREATE TABLE orders (id {generated}, number integer, customer text, city text)",
        f"CREATE TABLE order_lines (id {generated}, parent integer NOT NULL REFERENCES orders, sku text,"
        " quantity integer)",
    )
    rows = [order(n, *((f"s{n}{k}", k) for k in range(n))) for n in range(1, 5)]

    result = load_orders(
        tmp_path, database_url, rows, {"table": "order_lines"}, columns=COLUMNS | {"number": "order_id"}
    )

    assert result.counts.written == 4
    joined = "SELECT number, sku FROM orders JOIN order_lines ON parent = orders.id ORDER BY order_lines.id"
    assert fetch(database_url, joined) == [(n, f"s{n}{k}") for n in range(1, 5) for k in range(n)]


# Children of children


DEEP = pa.schema(
    [("order_id", pa.int64()), ("lines", pa.list_(pa.struct([("sku", pa.string()), ("taxes", pa.list_(pa.int64()))])))]
)


@pytest.mark.parametrize(("orphans", "left"), [("refuse", [(2, 1, 5)]), ("reject", [(1, 1, 3), (2, 1, 5)])])
def test_children_of_children_share_the_savepoint(database_url, tmp_path, orphans, left):
    generated = "integer PRIMARY KEY" if is_sqlite(database_url) else "serial PRIMARY KEY"
    run_sql(
        database_url,
        "CREATE TABLE orders (order_id integer PRIMARY KEY)",
        "CREATE TABLE order_lines (order_id integer REFERENCES orders, line_no integer, sku text,"
        " PRIMARY KEY (order_id, line_no))",
        f"CREATE TABLE taxes (id {generated}, order_id integer NOT NULL, line_no integer NOT NULL,"
        " percent integer CHECK (percent < 100),"
        " FOREIGN KEY (order_id, line_no) REFERENCES order_lines (order_id, line_no))",
    )
    rows = [
        {"order_id": 1, "lines": [{"sku": "a", "taxes": [3]}, {"sku": "b", "taxes": [4, 100]}]},
        {"order_id": 2, "lines": [{"sku": "c", "taxes": [5]}, {"sku": "d", "taxes": None}]},
    ]
    write(tmp_path / "deep.parquet", rows, DEEP)
    taxes = {"table": "taxes", "columns": {"percent": "element"}}
    lines = LINES | {"orphans": orphans, "children": {"taxes": taxes}}
    load = {"source": "deep.parquet", "table": "orders", "children": {"lines": lines}}

    result = etl.load(write_job(tmp_path, database_url, load))

    assert fetch(database_url, "SELECT order_id, line_no, percent FROM taxes ORDER BY 1, 2") == left
    (reject,) = rejects(database_url)
    assert (reject["record"], reject["reason"]) == (1, "check")
    assert reject["message"].startswith("lines[2]")
    assert "taxes[2] (taxes)" in reject["message"]
    assert result.loads[0].children["lines.taxes"].written == len(left)


# Shared by many records


PRODUCTS = pa.schema([("sku", pa.string()), ("tags", pa.list_(pa.string()))])


@pytest.fixture
def tags_url(database_url: str) -> str:
    generated = "integer PRIMARY KEY" if is_sqlite(database_url) else "integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    run_sql(
        database_url,
        "CREATE TABLE products (sku varchar(9) PRIMARY KEY)",
        f"CREATE TABLE tags (tag_id {generated}, name varchar(9) NOT NULL UNIQUE,"
        " CONSTRAINT short CHECK (name <> 'x'))",
        "CREATE TABLE product_tags (sku varchar(9) REFERENCES products, tag_id integer REFERENCES tags,"
        " PRIMARY KEY (sku, tag_id))",
    )
    run_sql(database_url, "INSERT INTO tags (name) VALUES ('old')")
    return database_url


def load_products(folder: Path, url: str, rows: Sequence[tuple[str, list[str | None]]], **tags: Any) -> RunResult:
    write(folder / "products.parquet", [{"sku": sku, "tags": names} for sku, names in rows], PRODUCTS)
    more = {key: tags.pop(key) for key in ("on_duplicate",) if key in tags}
    child = {"table": "tags", "through": "product_tags", "key": "name"} | tags
    load = {"source": "products.parquet", "table": "products", "children": {"tags": child}} | more
    return etl.load(write_job(folder, url, load))


def links(url: str) -> list[tuple[Any, ...]]:
    return fetch(url, "SELECT sku, name FROM product_tags JOIN tags USING (tag_id) ORDER BY 1, 2")


def test_shared_elements_are_found_by_their_key_or_made_and_linked(tags_url, tmp_path):
    result = load_products(tmp_path, tags_url, [("a", ["old", "new"]), ("b", ["new", "old", "new"]), ("c", [])])

    assert links(tags_url) == [("a", "new"), ("a", "old"), ("b", "new"), ("b", "old")]
    assert fetch(tags_url, "SELECT name FROM tags ORDER BY 1") == [("new",), ("old",)]
    assert result.loads[0].children == {"tags": ChildCounts(read=5, written=1, found=4)}


def test_a_shared_element_that_was_made_for_a_record_that_is_refused_is_made_again_for_the_next(tags_url, tmp_path):
    result = load_products(tmp_path, tags_url, [("a", ["new", "x"]), ("b", ["new"]), ("b", ["other"])])

    assert links(tags_url) == [("b", "new")]
    assert fetch(tags_url, "SELECT name FROM tags ORDER BY 1") == [("new",), ("old",)]
    assert (result.counts.rejected, result.counts.duplicates, result.counts.written) == (1, 1, 1)
    assert rejects(tags_url)[0]["message"].startswith("tags[2] (tags): ")
    assert rejects(tags_url)[0]["constraint_name"] == "short"


def test_only_a_bad_shared_element_is_left_out_where_that_is_asked_for(tags_url, tmp_path):
    result = load_products(tmp_path, tags_url, [("a", ["new", "x", None, "old"])], orphans="reject")

    assert links(tags_url) == [("a", "new"), ("a", "old")]
    assert result.loads[0].children == {"tags": ChildCounts(read=4, written=1, found=1, rejected=2)}


def test_shared_elements_that_are_missing_can_be_refused(tags_url, tmp_path):
    result = load_products(tmp_path, tags_url, [("a", ["old"]), ("b", ["old", "new"])], missing="reject")

    assert links(tags_url) == [("a", "old")]
    assert result.counts.rejected == 1
    assert (rejects(tags_url)[0]["reason"], rejects(tags_url)[0]["column_name"]) == ("foreign_key", "tags.name")


def test_replacing_a_record_takes_its_links_and_leaves_what_they_led_to(tags_url, tmp_path):
    load_products(tmp_path, tags_url, [("a", ["one", "two"]), ("b", ["two"])])

    result = load_products(tmp_path, tags_url, [("a", ["two", "three"])], on_duplicate="replace")

    assert result.counts.updated == 1
    assert links(tags_url) == [("a", "three"), ("a", "two"), ("b", "two")]
    assert fetch(tags_url, "SELECT count(*) FROM tags WHERE name = 'one'") == [(1,)]


# Resuming


def test_a_run_that_is_killed_goes_on_without_lost_or_doubled_children(shop_url, tmp_path):
    rows = [order(n, ("a", 1), ("b", 0 if n == 5 else 1), ("c", 3)) for n in range(1, 121)]
    write(tmp_path / "orders.parquet", rows)
    lines = {"lines": LINES | {"orphans": "reject"}}
    load = {"source": "orders.parquet", "table": "orders", "columns": COLUMNS, "children": lines, "commit_every": 5}
    job = write_job(tmp_path, shop_url, load)
    with started("load", job) as command:
        wait_until(lambda: bool(numbers(shop_url)))
        command.process.kill()
    committed = len(numbers(shop_url))
    assert 0 < committed < 120
    assert len(lines_of(shop_url)) == 3 * committed - 1

    result = etl.load(job)

    assert numbers(shop_url) == list(range(1, 121))
    assert len(lines_of(shop_url)) == 359
    assert result.loads[0].children == {"lines": ChildCounts(read=360, written=359, rejected=1)}
    assert len(rejects(shop_url)) == 1


def test_a_ledger_without_counts_of_children_can_be_read_and_is_brought_up_to_date(sqlite_shop_url, tmp_path):
    load_orders(tmp_path, sqlite_shop_url, [order(1)])
    run_sql(
        sqlite_shop_url,
        "ALTER TABLE etl_file DROP COLUMN child_counts",
        "UPDATE etl_version SET version_num = '0001'",
    )

    ended = call("history", tmp_path / "job.toml", "--json")
    assert [run["written"] for run in ended.result["runs"]] == [1]

    result = load_orders(tmp_path, sqlite_shop_url, [order(2, ("a", 1))])
    assert result.loads[0].children == {"lines": ChildCounts(read=1, written=1)}
    assert fetch(sqlite_shop_url, "SELECT version_num FROM etl_version") == [("0002",)]


# What cannot work is told before anything is written


def test_a_child_table_without_a_foreign_key_to_its_parent_is_told(database_url, tmp_path):
    run_sql(database_url, TABLES[0], "CREATE TABLE order_lines (line_no integer PRIMARY KEY, sku text, quantity int)")

    with pytest.raises(TargetMismatch, match="order_lines has no foreign key to orders") as caught:
        load_orders(tmp_path, database_url, [order(1)])

    assert "REFERENCES orders (order_id)" in str(caught.value)


def test_a_child_table_without_a_primary_key_is_told(sqlite_url, tmp_path):
    run_sql(
        sqlite_url,
        TABLES[0],
        "CREATE TABLE order_lines (order_id integer REFERENCES orders, line_no integer, sku text, quantity int)",
    )

    with pytest.raises(TargetMismatch, match="children lines: order_lines has no primary key"):
        load_orders(tmp_path, sqlite_url, [order(1)])


@pytest.mark.parametrize(
    ("lines", "more", "error", "told"),
    [
        (LINES | {"source": "customer"}, {}, SourceError, "only lists have children"),
        (LINES | {"source": "line"}, {}, SourceError, 'there is no column "line"'),
        (LINES | {"position": "nr"}, {}, TargetMismatch, 'no column "nr" that could take the position'),
        (LINES | {"columns": {"order_id": "sku"}}, {}, ConfigError, "is the foreign key to the record"),
        ({"position": "line_no"}, {}, ConfigError, "needs a table"),
        (LINES, {"on_duplicate": "update"}, ConfigError, 'on_duplicate = "replace" takes the place of "update"'),
        (LINES, {"on_duplicate": "replace", "key": "city"}, TargetMismatch, "is no unique constraint of orders"),
        (LINES, {"method": "row", "ignore_columns": "lines"}, None, ""),
        (LINES | {"columns": {"sku": "quantity"}}, {}, SourceError, 'no target column takes source column "sku"'),
        (LINES | {"through": "orders"}, {}, ConfigError, "position is not for elements that are shared"),
    ],
)
def test_what_cannot_work_is_told_in_a_sentence(sqlite_url, tmp_path, lines, more, error, told):
    run_sql(sqlite_url, *TABLES)
    if error is None:
        load_orders(tmp_path, sqlite_url, [order(1)], lines, **more)
        return
    with pytest.raises(error, match=told):
        load_orders(tmp_path, sqlite_url, [order(1)], lines, **more)


@pytest.mark.parametrize("key", ["create", "add_columns"])
def test_tables_of_nested_records_are_not_made_by_a_load(tmp_path, key):
    load = {"source": "x.parquet", "table": "orders", "children": {"lines": LINES}, key: True}

    with pytest.raises(ConfigError, match=rf"{key} goes without \[load.children\]: make their tables first"):
        etl.load(write_job(tmp_path, "sqlite:///shop.db", load))


# Beside filter, transform and what else is done to columns


SALE = pa.schema(
    [
        ("number", pa.int64()),
        ("buyer", pa.struct([("name", pa.string()), ("mail", pa.string())])),
        ("day", pa.string()),
        (
            "lines",
            pa.list_(
                pa.struct(
                    [
                        ("sku", pa.string()),
                        ("quantity", pa.string()),
                        ("price", pa.struct([("net", pa.int64()), ("tax", pa.int64())])),
                    ]
                )
            ),
        ),
    ]
)
SALES_TABLES = (
    "CREATE TABLE sales (number integer PRIMARY KEY, name varchar(20), label varchar(20), day date)",
    "CREATE TABLE sold (number integer NOT NULL REFERENCES sales ON DELETE CASCADE, place integer NOT NULL,"
    " sku varchar(5), quantity integer, total integer, record integer, path varchar(20), PRIMARY KEY (number, place))",
)
SALE_LOAD = {
    "source": "sales.parquet",
    "table": "sales",
    "filter": [{"column": "buyer.name", "not_equals": "Test"}],
    "columns": {
        "name": {"from": "buyer.name", "trim": True, "default": "nobody"},
        "label": {"concat": ["buyer.mail", "number"], "separator": "/", "case": "lower"},
        "day": {"from": "day", "format": "%d/%m/%Y"},
    },
}
SOLD = {
    "table": "sold",
    "position": "place",
    "orphans": "reject",
    "columns": {
        "total": {"compute": "add", "args": ["price.net", "price.tax"], "as": "integer"},
        "record": {"record": True},
        "path": {"file": True},
    },
}


def sale(number: int, name: str | None, *lines: tuple[str, str, int, int], day: str = "31/01/2024") -> dict[str, Any]:
    sold = [{"sku": sku, "quantity": n, "price": {"net": net, "tax": tax}} for sku, n, net, tax in lines]
    buyer = None if name is None else {"name": name, "mail": f"{name.strip()[0]}@X.PT"}
    return {"number": number, "buyer": buyer, "day": day, "lines": sold}


SALES = [
    sale(11, "Test", ("a", "1", 1, 1)),
    sale(12, " Ann ", ("a", "2", 10, 2), ("b", "x", 20, 3), ("c", "4", 30, 4)),
    sale(13, "Bob", ("a", "5", 1, 1), ("b", "6", 1, 1), day="soon"),
    sale(14, None, ("d", "7", 40, 5)),
]


@pytest.mark.parametrize("source", ["sales.parquet", "sales.jsonl"])
def test_all_that_is_done_to_columns_is_done_to_fields_and_elements_too(database_url, tmp_path, source):
    run_sql(database_url, *SALES_TABLES)
    write(tmp_path / "sales.parquet", SALES, SALE)
    (tmp_path / "sales.jsonl").write_text("".join(json.dumps(record) + "\n" for record in SALES))

    result = etl.load(write_job(tmp_path, database_url, SALE_LOAD | {"source": source, "children": {"lines": SOLD}}))

    day = "2024-01-31" if is_sqlite(database_url) else dt.date(2024, 1, 31)
    assert fetch(database_url, "SELECT * FROM sales ORDER BY 1") == [
        (12, "Ann", "a@x.pt/12", day),
        (14, "nobody", "14", day),
    ]
    assert fetch(database_url, "SELECT * FROM sold ORDER BY 1, 2") == [
        (12, 1, "a", 2, 12, 2, source),
        (12, 3, "c", 4, 34, 2, source),
        (14, 1, "d", 7, 45, 4, source),
    ]
    counts = result.loads[0].counts
    assert (counts.read, counts.written, counts.filtered, counts.rejected) == (4, 2, 1, 1)
    assert result.loads[0].children == {"lines": ChildCounts(read=7, written=3, rejected=1, skipped=3)}
    found = [(each["record"], each["phase"], each["column_name"]) for each in rejects(database_url)]
    assert sorted(found) == [(2, "child", "lines.quantity"), (3, "map", "day")]


def test_the_lists_that_a_transform_returns_are_those_that_count(sqlite_url, tmp_path):
    """It leaves out record 4, and renames the lists."""
    run_sql(sqlite_url, *SALES_TABLES)
    write(tmp_path / "sales.parquet", SALES, SALE)
    (tmp_path / "sales_cleaning.py").write_text(
        "import pyarrow.compute as pc\n\n"
        "def clean(records):\n"
        "    records = records.filter(pc.not_equal(records.column('number'), 14))\n"
        "    return records.rename_columns({'lines': 'items'})\n"
    )
    more = {"transform": "sales_cleaning:clean", "children": {"lines": SOLD | {"source": "items"}}}

    result = etl.load(write_job(tmp_path, sqlite_url, SALE_LOAD | more))

    assert fetch(sqlite_url, "SELECT number, place, total FROM sold ORDER BY 1, 2") == [(12, 1, 12), (12, 3, 34)]
    counts = result.loads[0].counts
    assert (counts.read, counts.written, counts.filtered, counts.rejected) == (4, 1, 2, 1)
    assert result.loads[0].children == {"lines": ChildCounts(read=5, written=2, rejected=1, skipped=2)}
    (orphan,) = (each for each in rejects(sqlite_url) if each["phase"] == "child")
    assert (orphan["record"], json.loads(orphan["source_values"])["sku"]) == (2, "b")


def test_key_says_which_repetition_is_a_duplicate_of_a_record_with_children(database_url, tmp_path):
    run_sql(database_url, *TABLES, "CREATE UNIQUE INDEX one_customer ON orders (customer)")
    load_orders(tmp_path, database_url, [order(1, ("a", 1))])
    rows = [order(1, ("b", 1), name="Eva"), order(2, ("c", 1), name="Ana")]

    result = load_orders(tmp_path, database_url, rows, key="order_id")

    assert (result.counts.duplicates, result.counts.rejected) == (1, 1)
    (reject,) = rejects(database_url)
    assert (reject["record"], reject["phase"], reject["reason"]) == (2, "write", "unique")
    assert lines_of(database_url) == [(1, 1, "a", 1)]


def test_check_says_what_replacing_needs(postgres_url, unprivileged_url, tmp_path):
    role = make_url(unprivileged_url).username
    run_sql(postgres_url, *TABLES, f'GRANT SELECT, INSERT ON orders, order_lines TO "{role}"')
    write(tmp_path / "orders.parquet", [order(1, ("a", 1))])
    load = {"source": "orders.parquet", "table": "orders", "columns": COLUMNS, "children": {"lines": LINES}}

    def told(**more: Any) -> str:
        done = call("check", write_job(tmp_path, unprivileged_url, load | more))
        return str(done.output)

    assert "GRANT" not in told()
    assert f"the role {role} may not DELETE from orders: GRANT DELETE ON orders TO it" in told(on_duplicate="replace")
    assert "duplicates  by order_id (orders_pkey): replace" in told(on_duplicate="replace")


def test_two_foreign_keys_to_the_parent_are_told_apart_by_their_columns(sqlite_url, tmp_path):
    run_sql(
        sqlite_url,
        TABLES[0],
        "CREATE TABLE order_lines (line_no integer, order_id integer REFERENCES orders, former integer REFERENCES"
        " orders, sku text, quantity int, PRIMARY KEY (order_id, line_no))",
    )
    with pytest.raises(ConfigError, match=r"\(order_id\) and \(former\)|\(former\) and \(order_id\)"):
        load_orders(tmp_path, sqlite_url, [order(1, ("a", 1))])

    load_orders(tmp_path, sqlite_url, [order(1, ("a", 1))], LINES | {"key": "order_id"})

    assert lines_of(sqlite_url) == [(1, 1, "a", 1)]


def test_check_says_where_each_list_goes(sqlite_shop_url, tmp_path):
    write(tmp_path / "orders.parquet", [order(1)])
    load = {"source": "orders.parquet", "table": "orders", "columns": COLUMNS, "children": {"lines": LINES}}
    ended = call("check", write_job(tmp_path, sqlite_shop_url, load))

    assert ended.exit_code == 0
    assert "method      row: a record and its children (lines) share one savepoint" in ended.output
    told = (
        'lines: "lines" into order_lines: order_id from the record, line_no from the place in the list, sku from "sku"'
    )
    assert told in ended.output


# The user's own classes


MODELS = """
from sqlalchemy import ForeignKey, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates

class Base(DeclarativeBase):
    pass

class Line(Base):
    __tablename__ = "order_lines"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.order_id", ondelete="CASCADE"), primary_key=True)
    line_no: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str | None]
    quantity: Mapped[int] = mapped_column(default=1)
    order: Mapped["Order"] = relationship(back_populates="lines")

    @validates("sku")
    def _upper(self, _key, sku):
        if sku == "bad":
            raise ValueError("no such article")
        return sku.upper()

class Order(Base):
    __tablename__ = "orders"
    order_id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    city: Mapped[str | None]
    lines: Mapped[list[Line]] = relationship(back_populates="order", cascade="all, delete-orphan")

@event.listens_for(Order.lines, "append")
def _appended(order, line, initiator):
    order.city = f"{order.city}+{line.sku}"
"""


@pytest.mark.parametrize(("orphans", "written"), [("refuse", [2, 3]), ("reject", [1, 2, 3])])
def test_validators_defaults_and_events_of_the_users_classes_run(shop_url, tmp_path, orphans, written):
    name = f"shop_models_{tmp_path.name}_{abs(hash(shop_url))}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    write(tmp_path / "orders.parquet", [order(1, ("a", 1), ("bad", 2)), order(2, ("b", 2), ("c", 3)), order(3)])
    lines = {"position": "line_no", "orphans": orphans}
    load = {
        "source": "orders.parquet",
        "model": f"{name}:Order",
        "columns": COLUMNS,
        "children": {"lines": lines},
    }
    result = etl.load(write_job(tmp_path, shop_url, load))

    assert numbers(shop_url) == written
    assert lines_of(shop_url)[-2:] == [(2, 1, "B", 2), (2, 2, "C", 3)]
    assert fetch(shop_url, "SELECT city FROM orders WHERE order_id = 2") == [("Évora+B+C",)]
    assert rejects(shop_url)[0]["message"] == "lines[2] (order_lines): no such article"
    assert result.loads[0].table == "orders"

    with pytest.raises(ConfigError, match="has no relationship line; it has lines"):
        etl.load(write_job(tmp_path, shop_url, load | {"children": {"line": {"source": "lines"}}}))


def test_the_parents_of_children_are_loaded_before_them(shop_url, tmp_path):
    run_sql(shop_url, "DROP TABLE order_lines", "CREATE TABLE articles (sku varchar(5) PRIMARY KEY)",
            TABLES[1].replace("sku varchar(5)", "sku varchar(5) REFERENCES articles"))  # fmt: skip
    write(tmp_path / "orders.parquet", [order(1, ("a", 1), ("none", 2))])
    pq.write_table(pa.table({"sku": ["a"]}), tmp_path / "articles.parquet")
    lines = LINES | {"orphans": "reject"}
    orders = {"source": "orders.parquet", "table": "orders", "columns": COLUMNS, "children": {"lines": lines}}

    etl.load(write_job(tmp_path, shop_url, orders, {"source": "articles.parquet", "table": "articles"}))

    assert lines_of(shop_url) == [(1, 1, "a", 1)]
    assert rejects(shop_url)[0]["reason"] == "foreign_key"
    assert rejects(shop_url)[0]["constraint_name"] == "order_lines_sku_fkey"
