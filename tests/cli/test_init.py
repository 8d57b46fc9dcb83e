"""`etl init`: what is found in files, and that the config it writes loads them as it stands."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import make_url

from etl.discovery.draft import snake_case
from tests.commands import ROOT, Ended, call, count, execute, is_postgresql, query, tables

pytestmark = pytest.mark.newest_is_enough

CUSTOMERS = "CustomerID,Name,Postal code\n1,Ana,01000\n2,Rui,02000\n3,Eva,\n"
ORDERS = "Order ID;Customer ID;Date;Total\n10;1;31/01/2024;1.50\n11;2;01/02/2024;20\n12;1;15/02/2024;3.25\n"
LINES = "order_id,line,sku\n10,1,a\n10,2,b\n11,1,a\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = folder / f"{name}.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def init(*arguments: str | Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """The text of the config, and its loads by name of their table."""
    done = call("init", *arguments)
    assert done.exit_code == 0, done.errors
    return done.output, {load["table"]: load for load in tomllib.loads(done.output)["load"]}


def loaded(config: str, *files: str, database: Sequence[str] = ()) -> Ended:
    assert call("init", *files, *database, "-o", config).exit_code == 0
    return call("load", config, "--json")


def test_the_config_loads_the_files_as_it_stands(folder):
    write(folder, lines=LINES, orders=ORDERS, customers=CUSTOMERS)

    done = loaded("shop.toml", "lines.csv", "orders.csv", "customers.csv")

    assert (done.exit_code, done.result["written"], done.result["rejected"]) == (0, 9, 0)
    url = f"sqlite:///{folder / 'shop.db'}"
    assert query(url, "SELECT customer_id, name, postal_code FROM customers ORDER BY 1") == [
        (1, "Ana", "01000"),
        (2, "Rui", "02000"),
        (3, "Eva", None),
    ]
    assert query(url, "SELECT order_id, customer_id, date, total FROM orders ORDER BY 1")[0] == (
        10,
        1,
        "2024-01-31",
        1.5,
    )
    assert call("load", "shop.toml", "--json").result["loads"][0]["files"][0]["status"] == "already_loaded"


def test_the_dialect_types_keys_and_foreign_keys_are_found(folder):
    write(folder, lines=LINES, orders=ORDERS, customers=CUSTOMERS)

    text, loads = init("lines.csv", "orders.csv", "customers.csv")

    assert list(loads) == ["customers", "orders", "lines"], "parents first"
    assert [loads[name]["key"] for name in loads] == [["customer_id"], ["order_id"], ["order_id", "line"]]
    assert loads["orders"]["csv"] == {"delimiter": ";"}
    assert loads["orders"]["columns"] == {
        "order_id": "Order ID",
        "customer_id": "Customer ID",
        "date": {"from": "Date", "format": "%d/%m/%Y"},
        "total": "Total",
    }
    assert re.findall(r"# foreign key: every (\w+) .* is found as (\w+) in (\w+)", text) == [
        ("customer_id", "customer_id", "customers"),
        ("order_id", "order_id", "orders"),
    ]
    comments = dict(re.findall(r"^(\w+) = .*?  # (.*)$", text, re.MULTILINE))
    assert comments["customer_id"] == "bigint"
    assert comments["postal_code"] == "text, 1 NULL"
    assert comments["date"] == "date"
    assert comments["total"] == "numeric(38,2)"


def test_a_foreign_key_that_one_record_breaks_is_none(folder):
    write(folder, orders=ORDERS.replace("11;2;", "11;4;"), customers=CUSTOMERS)

    assert "foreign key" not in init("orders.csv", "customers.csv")[0]


def test_a_table_that_is_there_is_mapped_to_by_name(folder, monkeypatch, database_url):
    if not is_postgresql(database_url):
        Path(make_url(database_url).database or "").touch()
    execute(
        database_url,
        'CREATE TABLE "Orders" (order_id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, date DATE, note TEXT)',
    )
    write(folder, orders=ORDERS)

    monkeypatch.setenv("SHOP_URL", database_url)
    done = loaded("job.toml", "orders.csv", database=["--database", "${SHOP_URL}"])

    text = (folder / "job.toml").read_text(encoding="utf-8")
    (load,) = tomllib.loads(text)["load"]
    assert (done.exit_code, done.result["written"]) == (0, 3)
    assert load["table"] == "Orders"
    assert load["ignore_columns"] == ["Total"]
    assert {"create", "key"}.isdisjoint(load)
    assert "# note: not in the file" in text
    assert sorted(query(database_url, 'SELECT order_id, customer_id FROM "Orders"')) == [(10, 1), (11, 2), (12, 1)]
    assert tables(database_url) >= {"Orders"}


def test_a_missing_table_is_made_in_the_database_that_is_given(folder, monkeypatch, database_url):
    write(folder, customers=CUSTOMERS)

    monkeypatch.setenv("SHOP_URL", database_url)
    done = loaded("job.toml", "customers.csv", database=["--database", "${SHOP_URL}"])

    assert (done.exit_code, done.result["written"]) == (0, 3)
    assert count(database_url, "customers") == 3


def test_numbers_with_a_decimal_comma_are_numbers_in_the_table_that_is_made(folder, monkeypatch, database_url):
    write(folder, sales="id;total;code\n1;1.234,50;0,07\n2;99,5;1,2345\n3;;1\n")
    monkeypatch.setenv("SHOP_URL", database_url)

    done = loaded("job.toml", "sales.csv", database=["--database", "${SHOP_URL}"])

    assert (done.exit_code, done.result["written"]) == (0, 3)
    found = query(database_url, "SELECT id, total * 100, code * 10000 FROM sales ORDER BY id")
    assert [tuple(None if cell is None else int(cell) for cell in row) for row in found] == [
        (1, 123450, 700),
        (2, 9950, 12345),
        (3, None, 10000),
    ]


def test_init_writes_nothing_into_the_database(folder, database_url):
    if not is_postgresql(database_url):
        Path(make_url(database_url).database or "").touch()
    write(folder, customers=CUSTOMERS)

    init("customers.csv", "--database", database_url)

    assert tables(database_url) == set()


def test_a_password_is_never_written_and_a_variable_stays_one(folder, monkeypatch, postgres_url):
    write(folder, customers=CUSTOMERS)
    url = make_url(postgres_url)
    password = url.password or "sesame-7"
    given = url.set(password=password).render_as_string(hide_password=False)

    text, _ = init("customers.csv", "--database", given)
    assert f":{password}@" not in text
    assert "The password is left out" in text
    monkeypatch.setenv("SHOP_URL", given)
    text, _ = init("customers.csv", "--database", "${SHOP_URL}")
    assert 'url = "${SHOP_URL}"' in text
    assert f":{password}@" not in text


def test_a_file_is_not_written_over_unless_that_is_forced(folder):
    write(folder, customers=CUSTOMERS)
    (folder / "job.toml").write_text("mine")

    done = call("init", "customers.csv", "-o", "job.toml")

    assert done.exit_code == 2
    assert done.told == "etl: job.toml is there already. Give another path, or --force."
    assert (folder / "job.toml").read_text() == "mine"
    assert call("init", "customers.csv", "-o", "job.toml", "--force").exit_code == 0
    assert "[[load]]" in (folder / "job.toml").read_text()


def test_paths_are_relative_to_the_config_that_is_written(folder):
    write(folder, customers=CUSTOMERS)
    (folder / "jobs").mkdir()

    done = loaded("jobs/job.toml", "customers.csv")

    assert (done.exit_code, done.result["written"]) == (0, 3)
    assert (folder / "jobs" / "job.db").is_file()


def test_the_files_of_a_folder_go_into_one_table(folder):
    (folder / "orders").mkdir()
    write(folder / "orders", **{"orders-1": "id,n\n1,5\n", "orders-2": "id,n\n2,5.5\n3,\n"})

    text, loads = init("orders")

    assert loads["orders"]["source"] == "orders"
    assert loads["orders"]["key"] == ["id"]
    assert "# numeric(38,1), 1 NULL" in text
    assert "# 3 records" in text


def test_json_lines_have_the_types_of_their_texts_and_so_has_the_table_that_is_made(folder, monkeypatch, database_url):
    monkeypatch.setenv("SHOP_URL", database_url)
    lines = ['{"id": 1, "at": "2024-01-31", "code": "007", "more": {"a": [1, 2]}}', '{"id": 2, "more": null}']
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")

    ended = loaded("job.toml", "events.jsonl", database=("--database", "${SHOP_URL}"))

    types = re.findall(r"^(\w+) = .*# (\w+)", Path("job.toml").read_text(), re.MULTILINE)
    assert types[-4:] == [("id", "bigint"), ("at", "date"), ("code", "text"), ("more", "json")]
    assert (ended.exit_code, ended.result["written"]) == (0, 2)
    assert [str(cell) for cell in query(database_url, "SELECT id, at, code FROM events ORDER BY id")[0]] == [
        "1",
        "2024-01-31",
        "007",
    ]


def test_parquet_has_its_types(folder):
    pq.write_table(pa.table({"id": pa.array([1, 2], pa.int32()), "Price": [1.5, None]}), folder / "p.parquet")

    text, loads = init("p.parquet")

    assert loads["p"]["columns"] == {"id": "id", "price": "Price"}
    assert loads["p"]["key"] == ["id"]
    assert "# double precision, 1 NULL" in text


@pytest.mark.parametrize(
    ("content", "csv"),
    [
        ("a,b\n1,2\n", None),
        ("a;b\n1,5;2,5\n3,5;4\n", {"delimiter": ";", "decimal": ","}),
        ("a;b\n1.234,50;12\n999,00;3\n", {"delimiter": ";", "decimal": ",", "thousands": "."}),
        ("a;b\n1,234,567;x\n1,234;y\n", {"delimiter": ";", "thousands": ","}),
        ("a;b\n1'234.50;x\n", {"delimiter": ";", "thousands": "'"}),
        ("a;b\n1 234,50;x\n0,5;y\n", {"delimiter": ";", "decimal": ",", "thousands": " "}),
        ("a;b\n1,234;x\n", {"delimiter": ";"}),  # may be either, and stays a text
        ("a;b\n1,5;2.5\n", {"delimiter": ";"}),  # not in one file
        ("a\tb\nx, y\t2\n", {"delimiter": "\t"}),
        ("a|b\n1|2\n", {"delimiter": "|"}),
        ('a,b\n"x;y;z",2\n"p;q;r",3\n', None),
        ("a,b\n'x,1','2'\n'y,2','3'\n", {"quote": "'"}),
        ("a,b\nit's,1\nhe's,2\n", None),
        ("name\nx\ny\n", None),
        ("1,2.5,x\n2,3.5,y\n", {"header": False}),
        ("x,y\na,b\n", None),
        ("id,2019,2020\n1,5,6\n", None),
        ("Größe,b\né,1\n", None),
        ("é,b\nè,1\n".encode("cp1252"), {"encoding": "cp1252"}),
        ("é,b\nè,1\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("\ufeffa,b\n1,2\n".encode(), None),
        ("é,ü\nè,1\nà,2\n".encode() + b"\xff,3\n", None),  # one broken record is no other encoding
    ],
)
def test_the_dialect_of_a_file_is_found(folder, content, csv):
    write(folder, x=content)

    _, loads = init("x.csv")

    assert loads["x"].get("csv") == csv


def test_records_that_cannot_be_read_are_told_and_one_bad_file_is_not_parted_otherwise(folder):
    write(folder, x="a,b,c\n1,2\n1,2,3\n4,5,6\n7,8,9\n")

    text, loads = init("x.csv")

    assert "csv" not in loads["x"]
    assert "# 4 records, 1 of which cannot be read: a load lists them as rejects" in text


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("n,id\nx,2\ny,1\n", ["id"]),  # a number before a text
        ("id,b\n1,x\n1,y\n", ["b"]),
        ("id,b\n1,x\n,y\n", ["b"]),  # not one with a NULL
        ("a,b,c\n1,1,x\n1,2,x\n2,1,x\n", ["a", "b"]),
        ("a,b\n1,1\n1,1\n", None),
        ("a\n1.5\n2.5\n", None),  # a measure is no key
        ("a\n", None),
    ],
)
def test_the_key_is_the_best_column_or_pair_that_is_different_in_every_record(folder, content, key):
    write(folder, x=content)

    assert init("x.csv")[1]["x"].get("key") == key


def test_a_key_of_many_records_is_unique_over_all_batches(folder):
    numbers = [*range(1, 150_000), 7]
    write(folder, x="a,b\n" + "".join(f"{number},{place}\n" for place, number in enumerate(numbers)))

    assert init("x.csv")[1]["x"]["key"] == ["b"]


def test_columns_get_names_that_need_no_quotes(folder):
    write(folder, **{"Order Details": "OrderID,order id,Größe (cm),%,#\n1,2,3,4,5\n"})

    _, loads = init("Order Details.csv")

    names = ["order_id", "order_id_2", "größe_cm", "column", "column_2"]
    assert list(loads["order_details"]["columns"]) == names
    assert [snake_case(name) for name in ("HTTPServer", "e-mail", "A", "order2Line")] == [
        "http_server",
        "e_mail",
        "a",
        "order2_line",
    ]


def test_what_cannot_be_read_is_told_in_a_sentence(folder):
    write(folder, x="")

    assert call("init", "missing.csv").told.startswith("etl: There is no file 'missing.csv' in")
    assert call("init", "x.csv").exit_code == 1
    assert "Standard input cannot be read more than once" in call("init", "-").told
    assert call("init").exit_code == 2


def test_the_sample_shop_is_loaded_but_for_the_records_that_cannot_be_read(folder):
    sample = ROOT / "sample_data"
    files = [str(sample / name) for name in ("orders", "order_lines.csv", "customers.csv", "products.parquet")]

    done = loaded("shop.toml", *files)

    assert done.exit_code == 3
    rejects = [(load["name"], reject["phase"]) for load in done.result["loads"] for reject in load["rejects"]]
    assert {phase for _, phase in rejects} == {"read"}
    assert done.result["read"] == 7_486
    assert done.result["rejected"] == 8


@pytest.mark.skipif("ETL_REAL_FILES" not in os.environ, reason="ETL_REAL_FILES is not given")
@pytest.mark.parametrize(
    ("name", "records", "keys"), [("northwind", 3_362, 12), ("chinook", 15_607, 11)], ids=["northwind", "chinook"]
)
def test_real_files_are_loaded_whole(folder, name, records, keys):
    files = sorted((Path(os.environ["ETL_REAL_FILES"]) / name).glob("*.csv"))

    done = loaded("job.toml", *map(str, files))

    assert (done.exit_code, done.result["read"], done.result["written"]) == (0, records, records)
    text = (folder / "job.toml").read_text(encoding="utf-8")
    assert len(re.findall("^key = ", text, re.MULTILINE)) == keys
