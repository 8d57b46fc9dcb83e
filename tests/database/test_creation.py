"""`create` and `add_columns`: what is made of a table, when it is committed, and who may not make it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy import make_url

from etl.database import Making, NewColumn, connected, find_targets, make
from etl.records import ColumnType, Kind
from tests.commands import Job, count, execute, is_postgresql, query, tables
from tests.jobs import job_for

pytestmark = pytest.mark.newest_is_enough

ORDERS = """\
id,code,price,rate,paid,day,at,seen,mark,note,empty
1,007,1.50,1e-3,true,2024-01-31,2024-01-31 10:00,2024-01-31T10:00:00Z,0e6b1a52-9b1e-4c0e-8a83-0d8b2d5c0f11,a,
2,010,200,2.5,false,2024-02-29,2024-02-29,2024-02-29T10:00:00+02:00,0e6b1a52-9b1e-4c0e-8a83-0d8b2d5c0f12,"",
"""
ORDERS_TYPES = {
    "id": "BIGINT",
    "code": "TEXT",
    "price": "NUMERIC(38, 2)",
    "rate": "DOUBLE",
    "paid": "BOOLEAN",
    "day": "DATE",
    "at": "TIMESTAMP",
    "seen": "TIMESTAMP WITH TIME ZONE",
    "mark": "UUID",
    "note": "TEXT",
    "empty": "TEXT",
}
LOAD = 'source = "orders.csv"\ntable = "orders"\ncreate = true\nkey = "id"\n'
ADDING = 'source = "orders.csv"\ntable = "orders"\nadd_columns = true\n'


@pytest.fixture
def job(tmp_path: Path, database_url: str) -> Job:
    if not is_postgresql(database_url):
        Path(make_url(database_url).database or "").touch()
    job = Job(tmp_path, database_url)
    job.write("orders.csv", ORDERS)
    job.configure(LOAD)
    return job


@pytest.fixture
def sqlite_job(tmp_path: Path, sqlite_url: str) -> Job:
    """For what is the same whatever the database."""
    Path(make_url(sqlite_url).database or "").touch()
    job = Job(tmp_path, sqlite_url)
    job.write("orders.csv", ORDERS)
    job.configure(LOAD)
    return job


def types(url: str, table: str = "orders", schema: str | None = None) -> dict[str, str]:
    """As the database itself tells them."""
    if is_postgresql(url):
        found = query(
            url,
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attnum > 0 "
            f"AND a.attrelid = '{schema or 'public'}.\"{table}\"'::regclass ORDER BY a.attnum",
        )
    else:
        found = query(url, f"SELECT name, type FROM pragma_table_info('{table}')")
    return dict(found)


def expected(url: str, declared: dict[str, str]) -> dict[str, str]:
    if not is_postgresql(url):
        return declared
    names = {
        "DOUBLE": "double precision",
        "TIMESTAMP": "timestamp without time zone",
        "NUMERIC(38, 2)": "numeric(38,2)",
    }
    return {name: names.get(type_, type_.lower()) for name, type_ in declared.items()}


def test_a_missing_table_is_made_with_the_types_of_the_files_values_and_its_key(job):
    done = job.call("load", "--json")

    assert (done.exit_code, done.result["written"]) == (0, 2)
    assert types(job.url) == expected(job.url, ORDERS_TYPES)
    assert sa.inspect(sa.create_engine(job.url)).get_pk_constraint("orders")["constrained_columns"] == ["id"]
    assert query(job.url, "SELECT id, code, note, empty FROM orders ORDER BY id") == [
        (1, "007", "a", None),
        (2, "010", "", None),
    ]


def test_what_is_made_is_told(sqlite_job):
    told = sqlite_job.etl("load").errors

    assert "orders is made: id BIGINT, code TEXT, price NUMERIC(38, 2), rate DOUBLE" in told
    assert "primary key (id)" in told


def test_check_says_what_a_load_would_make_and_makes_nothing(job):
    done = job.call("check", "--json")

    (load,) = done.result["loads"]
    assert done.exit_code == 0
    assert load["makes"] == "table"
    assert [column["name"] for column in load["made_columns"]] == list(ORDERS_TYPES)
    assert load["made_columns"][2] == {"name": "price", "type": "NUMERIC(38, 2)"}
    assert "the table is not there: a load makes it with" in job.call("check").output
    assert tables(job.url) == set()


def test_a_dry_run_makes_nothing_that_stays(job):
    done = job.call("load", "--dry-run", "--json")

    assert (done.exit_code, done.result["written"]) == (0, 2)
    assert tables(job.url) == set()


def test_verify_compares_the_methods_on_a_table_that_is_not_there_yet(job):
    done = job.call("check", "--verify", "10", "--json")

    assert done.exit_code == 0
    assert done.result["loads"][0]["verify"]["same"] is True
    assert tables(job.url) == set()


def test_a_table_that_is_there_is_left_as_it_is(job):
    execute(job.url, "CREATE TABLE orders (id INTEGER PRIMARY KEY, code VARCHAR(3))")
    before = types(job.url)
    job.configure(LOAD + 'ignore_columns = "*"')

    done = job.call("load", "--json")

    assert (done.exit_code, done.result["written"]) == (0, 2)
    assert types(job.url) == before
    assert "makes" in job.call("check", "--json").result["loads"][0]
    assert job.call("check", "--json").result["loads"][0]["makes"] is None


def test_a_run_that_ended_before_its_first_commit_goes_on_with_the_table_that_it_made(job):
    job.write("orders.csv", "id,name\n1,a\n1,b\n2,c\n")
    job.configure(LOAD + 'on_duplicate = "error"\n')

    assert job.call("load").exit_code == 1
    assert (count(job.url, "orders"), list(types(job.url))) == (0, ["id", "name"])
    job.configure(LOAD)
    done = job.call("load", "--json")

    assert (done.exit_code, done.result["written"], done.result["duplicates"]) == (0, 2, 1)


def test_the_mapping_says_which_columns_there_are_and_what_they_are_called(sqlite_job):
    sqlite_job.write("orders.csv", "No,Date,Left out,Amount\n1,31/01/2024,x,5\n")
    sqlite_job.configure(
        LOAD + 'ignore_columns = "Left out"\n[load.columns]\nid = "No"\nday = { from = "Date", format = "%d/%m/%Y" }\n'
        "country = { value = 'PT' }\nrank = { value = 1.5 }\n"
    )

    assert sqlite_job.call("load").exit_code == 0
    declared = {"id": "BIGINT", "day": "DATE", "Amount": "BIGINT", "country": "TEXT", "rank": "DOUBLE"}
    assert types(sqlite_job.url) == expected(sqlite_job.url, declared)
    assert query(sqlite_job.url, 'SELECT id, "Amount", country, rank FROM orders') == [(1, 5, "PT", 1.5)]


def test_all_sources_of_a_load_are_looked_at(sqlite_job):
    sqlite_job.write("orders.csv", "id,a,b\n1,1,1\n")
    sqlite_job.write("more/2.csv", "id,a,c\n2,1.5,x\n")
    sqlite_job.configure(LOAD.replace('"orders.csv"', '["orders.csv", "more"]'))

    assert sqlite_job.call("load").exit_code == 0
    declared = {"id": "BIGINT", "a": "NUMERIC(38, 1)", "b": "BIGINT", "c": "TEXT"}
    assert list(types(sqlite_job.url)) == list(declared)
    assert types(sqlite_job.url)["a"].upper().replace(" ", "") == "NUMERIC(38,1)"


def test_two_loads_make_one_table_together(sqlite_job):
    sqlite_job.write("old.csv", "id,name\n1,a\n")
    sqlite_job.write("new.csv", "id,mail\nx2,b\n")
    load = 'source = "{0}.csv"\nname = "{0}"\ntable = "people"\nkey = "id"\n{1}'
    sqlite_job.configure(load.format("old", "create = true"), load.format("new", ""))

    done = sqlite_job.call("load", "--json")

    assert (done.exit_code, done.result["written"]) == (0, 2)
    assert types(sqlite_job.url, "people") == expected(sqlite_job.url, {"id": "TEXT", "name": "TEXT", "mail": "TEXT"})
    assert sorted(query(sqlite_job.url, "SELECT id, name, mail FROM people")) == [("1", "a", None), ("x2", None, "b")]


def test_a_parquet_file_gives_the_types_of_its_schema(job, tmp_path):
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "price": pa.array([None, None], pa.decimal128(9, 2)),
            "tags": pa.array([["a"], None], pa.list_(pa.string())),
            "day": pa.array([dt.date(2024, 2, 29), None]),
            "raw": pa.array([b"\x00", None], pa.binary()),
        }
    )
    pq.write_table(table, tmp_path / "orders.parquet")
    job.configure(LOAD.replace("csv", "parquet"))

    assert job.call("load").exit_code == 0
    blob = "bytea" if is_postgresql(job.url) else "BLOB"
    declared = {"id": "INTEGER", "price": "NUMERIC(9, 2)", "tags": "JSON", "day": "DATE"}
    found = types(job.url)
    assert found.pop("raw") == blob
    assert {name: type_.upper().replace(",", ", ").replace("  ", " ") for name, type_ in found.items()} == declared


def test_a_field_of_a_struct_gives_its_type_to_the_column_that_takes_it(job, tmp_path):
    customer = pa.struct([("name", pa.string()), ("since", pa.date32())])
    rows = [{"id": 1, "customer": {"name": "Ana", "since": dt.date(2024, 2, 29)}}, {"id": 2, "customer": None}]
    schema = pa.schema([("id", pa.int32()), ("customer", customer)])
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "orders.parquet")
    job.configure(f'{LOAD.replace("csv", "parquet")}\nignore_columns = "customer.name"\ncolumns.day = "customer.since"')

    assert job.call("load").exit_code == 0
    assert {name: type_.upper() for name, type_ in types(job.url).items()} == {"id": "INTEGER", "day": "DATE"}
    days = query(job.url, "SELECT day FROM orders WHERE id = 1")
    assert [str(day) for (day,) in days] == ["2024-02-29"]


def test_a_field_of_an_object_of_json_lines_gives_its_type_to_the_column_that_takes_it(job):
    job.write(
        "orders.jsonl",
        '{"id": 1, "customer": {"name": "Ana", "since": "2024-02-29", "geo": {"latitude": 38.5}}}\n{"id": 2}\n'
        '{"id": 3, "customer": {"since": "2023-01-31", "geo": null}}\n',
    )
    columns = 'columns.day = "customer.since"\ncolumns.latitude = "customer.geo.latitude"'
    job.configure(f'{LOAD.replace("csv", "jsonl")}\nignore_columns = "customer.name"\n{columns}')

    assert job.call("load").exit_code == 0
    declared = {name: type_.upper().replace(" ", "") for name, type_ in types(job.url).items()}
    assert declared == {"id": "BIGINT", "day": "DATE", "latitude": "NUMERIC(38,1)"}
    days = query(job.url, "SELECT day FROM orders ORDER BY id")
    assert [str(day) for (day,) in days] == ["2024-02-29", "None", "2023-01-31"]


def test_names_are_quoted(job):
    job.write("orders.csv", 'Order,a%b,"c""d",select,é ü\n1,2,3,4,5\n')
    job.configure(LOAD.replace('key = "id"', 'key = "Order"').replace('table = "orders"', "table = 'My \"table'"))

    done = job.call("load", "--json")

    assert (done.exit_code, done.result["written"]) == (0, 1)
    assert query(job.url, 'SELECT * FROM "My ""table"') == [(1, 2, 3, 4, 5)]
    columns = sa.inspect(sa.create_engine(job.url)).get_columns('My "table')
    assert [column["name"] for column in columns] == ["Order", "a%b", 'c"d', "select", "é ü"]


def test_a_table_that_has_no_column_is_told(sqlite_job):
    sqlite_job.configure(LOAD + 'ignore_columns = "*"')

    assert "there is no column to make the table orders of" in sqlite_job.call("load").told
    assert tables(sqlite_job.url) == set()


def test_a_key_that_is_no_column_is_told_before_anything_is_made(sqlite_job):
    sqlite_job.configure(LOAD.replace('"id"', '["id", "line"]'))

    done = sqlite_job.call("load")

    assert done.exit_code == 2
    assert "key names line, which the table orders would not have. It would have id, code," in done.told
    assert tables(sqlite_job.url) == set()


def test_a_table_made_without_a_key_has_a_warning(sqlite_job):
    sqlite_job.configure(LOAD.replace('key = "id"', ""))

    assert "made without a key" in sqlite_job.call("check").output


def test_a_null_in_a_key_is_a_reject_on_both_databases(job):
    job.write("orders.csv", "id,name\n1,a\n,b\n")

    done = job.call("load", "--json")

    assert (done.exit_code, done.result["written"]) == (3, 1)
    assert done.result["loads"][0]["rejects"][0]["reason"] == "not_null"


def test_made_columns_are_found_to_be_what_they_were_planned_as(database_url):
    if not is_postgresql(database_url):
        Path(make_url(database_url).database or "").touch()
    job = job_for(database_url, "t")
    kinds = [kind for kind in Kind if kind not in (Kind.NUMERIC, Kind.CHAR, Kind.ENUM, Kind.OTHER)]
    types = {kind.name: ColumnType(kind) for kind in kinds}
    types["limited"] = ColumnType(Kind.NUMERIC, precision=12, scale=3)
    types["unlimited"] = ColumnType(Kind.NUMERIC)
    columns = tuple(NewColumn(name, type_) for name, type_ in types.items())
    with connected(job.database) as connection:
        making = Making(job.loads[0], "t", None, columns, ("BIGINT", "TEXT"))
        planned = making.target(connection.dialect)
        make(connection, making)
        target = find_targets(connection, job, job.loads)["t"]

    assert target.columns == planned.columns
    assert (target.unique, target.foreign_keys, target.triggers) == ({("BIGINT", "TEXT"): "t_pkey"}, (), ())
    assert planned.name == target.name
    if planned.catalog and target.catalog:
        assert planned.catalog.required == target.catalog.required
        assert planned.catalog.obstacles == target.catalog.obstacles


# New columns


def test_columns_that_the_table_lacks_are_added(job):
    execute(job.url, "CREATE TABLE orders (id INTEGER PRIMARY KEY)", "INSERT INTO orders VALUES (9)")
    job.write("orders.csv", "id,price,note\n1,1.50,a\n")
    job.configure(ADDING)

    check = job.call("check", "--json").result["loads"][0]
    assert job.call("load", "--dry-run").exit_code == 0
    assert list(types(job.url)) == ["id"]
    done = job.call("load", "--json")

    assert check["makes"] == "columns"
    assert check["made_columns"] == [{"name": "price", "type": "NUMERIC(38, 2)"}, {"name": "note", "type": "TEXT"}]
    assert (done.exit_code, done.result["written"]) == (0, 1)
    declared = {"id": "INTEGER", "price": "NUMERIC(38, 2)", "note": "TEXT"}
    assert types(job.url) == expected(job.url, declared)
    assert query(job.url, "SELECT id, note FROM orders ORDER BY id") == [(1, "a"), (9, None)]
    job.write("orders.csv", "id,price,note,more\n2,3,b,x\n")
    assert job.call("load").exit_code == 0
    assert list(types(job.url)) == [*declared, "more"]


def test_a_resumed_run_has_the_columns_already(sqlite_job):
    execute(sqlite_job.url, "CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    sqlite_job.write("orders.csv", "id,name\n1,a\n1,b\n2,c\n")
    sqlite_job.configure(ADDING + 'on_duplicate = "error"\n')

    assert sqlite_job.call("load").exit_code == 1
    assert (count(sqlite_job.url, "orders"), list(types(sqlite_job.url))) == (0, ["id", "name"])
    sqlite_job.configure(ADDING)

    assert sqlite_job.call("load", "--json").result["written"] == 2


def test_a_name_that_differs_in_case_alone_is_a_slip_and_no_new_column(sqlite_job):
    execute(sqlite_job.url, "CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
    sqlite_job.write("orders.csv", "id,Note\n1,a\n")
    sqlite_job.configure(ADDING)

    done = sqlite_job.call("load")

    assert 'did you mean "note"?' in done.told
    assert list(types(sqlite_job.url)) == ["id", "note"]


def test_a_view_gets_no_columns(sqlite_job):
    execute(sqlite_job.url, "CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE VIEW orders AS SELECT id FROM t")
    sqlite_job.write("orders.csv", "id,name\n1,a\n")
    sqlite_job.configure(ADDING)

    assert "orders is a view, to which no columns can be added. It lacks name" in sqlite_job.call("load").told


# One database alone


def test_a_sqlite_file_is_made_with_the_table_by_a_load_and_by_nothing_else(tmp_path, sqlite_url):
    job = Job(tmp_path, sqlite_url)
    job.write("orders.csv", ORDERS)
    job.configure(LOAD)
    file = Path(make_url(sqlite_url).database or "")

    assert job.call("check").exit_code == 0
    assert job.call("check", "--verify", "5").exit_code == 0
    assert job.call("load", "--dry-run", "--json").result["written"] == 2
    assert not file.exists()
    assert job.call("load", "--json").result["written"] == 2
    assert count(sqlite_url, "orders") == 2


def test_columns_that_are_one_to_sqlite_are_told(tmp_path, sqlite_url):
    job = Job(tmp_path, sqlite_url)
    job.write("orders.csv", "id,Name,name\n1,a,b\n")
    job.configure(LOAD)

    assert "Name and name are the same name to SQLite" in job.call("load").told


def test_a_name_that_postgresql_would_cut_off_is_told(tmp_path, postgres_url):
    job = Job(tmp_path, postgres_url)
    job.write("orders.csv", f"id,{'x' * 64}\n1,a\n")
    job.configure(LOAD)

    assert "has 64 bytes, and PostgreSQL keeps 63" in job.call("load").told
    assert tables(postgres_url) == set()


def test_a_table_is_made_in_the_schema_that_is_named(tmp_path, postgres_url):
    execute(postgres_url, "CREATE SCHEMA sales")
    job = Job(tmp_path, postgres_url)
    job.write("orders.csv", ORDERS)
    job.configure(LOAD.replace('table = "orders"', 'table = "sales.orders"'))

    assert job.call("load").exit_code == 0
    assert list(types(postgres_url, schema="sales")) == list(ORDERS_TYPES)
    job.configure(LOAD.replace('table = "orders"', 'table = "shop.orders"'))
    assert "there is no schema shop to make orders in: create it first" in job.call("load").told


def test_a_role_without_create_is_told_what_to_grant(tmp_path, postgres_url, unprivileged_url):
    role = make_url(unprivileged_url).username
    execute(
        postgres_url,
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f'CREATE SCHEMA etl AUTHORIZATION "{role}"',
        "CREATE TABLE kept (id INTEGER PRIMARY KEY)",
        f'GRANT SELECT, INSERT ON kept TO "{role}"',
    )
    job = Job(tmp_path, unprivileged_url)
    job.write("orders.csv", ORDERS)
    job.configure(LOAD)

    check, load = job.call("check"), job.call("load")

    sentence = f"the role {role} may not create orders: GRANT CREATE ON SCHEMA public TO it"
    assert (check.exit_code, load.exit_code) == (1, 1)
    assert sentence in check.output
    assert sentence in load.told
    job.configure(ADDING.replace('"orders"', '"kept"'))
    assert f"the role {role} may not add columns to kept: only its owner may" in job.call("load").told
    assert list(types(postgres_url, "kept")) == ["id"]


# What is computed, filtered and transformed


def types_of(job: Job) -> dict[str, str]:
    """What `etl check` says that would be made."""
    (load,) = job.call("check", "--json").result["loads"]
    return {column["name"]: column["type"] for column in load["made_columns"]}


def test_a_computed_column_has_the_type_that_its_function_gives(job):
    job.write("items.csv", "id,a,b,at,name\n1,1.50,2,2024-01-31 10:00,x\n2,3,4,2024-02-29 11:30,y\n")
    job.configure(
        'source = "items.csv"\ntable = "items"\ncreate = true\nkey = "id"\n[load.columns]\n'
        'total = { compute = "multiply", args = ["a", "b"], as = "numeric(12,2)" }\n'
        'big = { compute = "greater", args = ["a", { value = 2 }], as = "double precision" }\n'
        'hour = { compute = "hour", args = ["at"], as = "timestamp" }\n'
        'upper = { compute = "utf8_upper", args = ["name"] }\n'
        'label = { concat = ["name", "b"], separator = "-" }\n'
        'day = { concat = ["at"], format = "%Y-%m-%d %H:%M" }\n'
    )
    timestamp = "TIMESTAMP WITHOUT TIME ZONE" if is_postgresql(job.url) else "TIMESTAMP"
    made = {"hour": "BIGINT", "upper": "TEXT", "big": "BOOLEAN", "label": "TEXT", "day": timestamp}
    total = "TEXT" if not is_postgresql(job.url) else "NUMERIC(25, 4)"  # of 12 + 12 + 1 digits: SQLite keeps 15
    types = types_of(job)
    assert {name: types[name] for name in made} == made
    assert types["total"] == total

    assert job.call("load").exit_code == 0

    rows = query(job.url, "SELECT id, CAST(total AS TEXT), big, hour, upper, label FROM items ORDER BY id")
    assert [(row[0], float(row[1]), bool(row[2]), *row[3:]) for row in rows] == [
        (1, 3.0, False, 10, "X", "x-2"),
        (2, 12.0, True, 11, "Y", "y-4"),
    ]


TRANSFORM = """
import pyarrow as pa
import pyarrow.compute as pc

def shape(records):
    length = pc.cast(pc.utf8_length(records["name"]), pa.int16())
    cut = pc.utf8_slice_codeunits(records["price"], 1, 99)
    records = records.drop_columns(["price"]).append_column("price", cut)
    return records.append_column("length", length)
"""


@pytest.fixture
def shaped(job: Job, request: pytest.FixtureRequest) -> Job:
    name = f"shaping_{abs(hash(request.node.name))}"
    job.write(f"{name}.py", TRANSFORM)
    job.write("items.csv", "id,name,price,state\n1,one,€1.50,ok\n2,three,€20,ok\nsum,,€21.50,total\n")
    job.configure(
        f'source = "items.csv"\ntable = "items"\ncreate = true\nkey = "id"\ntransform = "{name}:shape"\n'
        'ignore_columns = ["state"]\nfilter = [{ column = "state", equals = "ok" }]\n'
    )
    return job


def test_what_a_transform_returns_has_the_types_of_its_values_and_what_is_filtered_has_none(shaped):
    assert types_of(shaped) == {"id": "BIGINT", "name": "TEXT", "price": "NUMERIC(38, 2)", "length": "SMALLINT"}

    assert shaped.call("load").exit_code == 0

    rows = query(shaped.url, "SELECT id, name, price, length FROM items ORDER BY id")
    assert [(*row[:2], float(row[2]), row[3]) for row in rows] == [(1, "one", 1.5, 3), (2, "three", 20.0, 5)]


def test_columns_of_a_transform_are_added(shaped):
    execute(shaped.url, "CREATE TABLE items (id INTEGER PRIMARY KEY)")
    config = shaped.config.read_text()
    shaped.config.write_text(config.replace("create = true\nkey", "add_columns = true\nkey"))

    assert shaped.call("load").exit_code == 0

    rows = query(shaped.url, "SELECT id, name, price, length FROM items ORDER BY id")
    assert [(*row[:2], float(row[2]), row[3]) for row in rows] == [(1, "one", 1.5, 3), (2, "three", 20.0, 5)]


def test_what_is_filtered_gives_no_type_to_json_lines(job):
    job.write("items.jsonl", '{"id": 1, "price": 1.5, "ok": true}\n{"id": "none", "price": "x", "ok": false}\n')
    job.configure(
        'source = "items.jsonl"\ntable = "items"\ncreate = true\nfilter = [{ column = "ok", equals = true }]\n'
    )

    assert types_of(job) == {"id": "BIGINT", "price": "NUMERIC(38, 1)", "ok": "BOOLEAN"}
    assert job.call("load").exit_code == 0
