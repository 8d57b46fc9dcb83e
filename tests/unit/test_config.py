"""The config file: what each key means, how defaults and the environment go into it, and what every mistake is told."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from etl.config import ColumnSource, Csv, Job, Load, RejectLimit, read_database, read_job
from etl.errors import ConfigError

DATABASE = '[database]\nurl = "sqlite:///shop.db"\n'
LOAD = '[[load]]\nsource = "orders.csv"\ntable = "orders"\n'
OTHER_LOAD = '[[load]]\nsource = "customers.csv"\ntable = "customers"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def read(folder: Path, text: str) -> Job:
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return read_job(path)


def read_load(folder: Path, keys: str) -> Load:
    (load,) = read(folder, DATABASE + LOAD + keys).loads
    return load


def error_of(folder: Path, text: str) -> str:
    """What the user is told, with FILE for the path of the config."""
    with pytest.raises(ConfigError) as told:
        read(folder, text)
    return str(told.value).replace(str(folder / "job.toml"), "FILE")


# What the keys mean


def test_a_load_of_source_and_table_alone_has_the_documented_defaults(folder):
    assert read_load(folder, "") == Load(
        source=("orders.csv",),
        name="orders",
        format=None,
        table="orders",
        model=None,
        create=False,
        add_columns=False,
        key=(),
        on_duplicate="skip",
        record_duplicates=False,
        max_rejects=None,
        commit_every=100_000,
        method="auto",
        ignore_columns=(),
        csv=Csv(delimiter=",", quote='"', header=True, encoding="utf-8", null=("",)),
        columns={},
    )


@pytest.mark.parametrize("key", ["create", "add_columns"])
def test_what_is_made_of_a_table_goes_with_a_table(folder, key):
    text = f'{DATABASE}[[load]]\nsource = "orders.csv"\nmodel = "shop:Order"\n{key} = true\n'

    assert error_of(folder, text) == (
        f"FILE: [[load]] number 1: {key} goes with table: what a mapped class needs is made by its metadata.create_all."
        " Nothing was started."
    )


def test_every_key_of_a_load_is_read(folder):
    load = read_load(
        folder,
        """
        name = "autumn"
        format = "parquet"
        create = true
        add_columns = true
        key = ["order_id", "line_no"]
        on_duplicate = "error"
        record_duplicates = true
        max_rejects = 7
        commit_every = 5_000
        method = "row"
        ignore_columns = ["Exported by"]
        """,
    )

    assert load.name == "autumn"
    assert load.format == "parquet"
    assert load.create is True
    assert load.add_columns is True
    assert load.key == ("order_id", "line_no")
    assert load.on_duplicate == "error"
    assert load.record_duplicates is True
    assert load.max_rejects == RejectLimit(number=7)
    assert load.commit_every == 5_000
    assert load.method == "row"
    assert load.ignore_columns == ("Exported by",)


def test_every_key_of_the_database_is_read(folder):
    database = read(
        folder,
        """
        [database]
        url = "postgresql://clerk@db.example/shop"
        isolation_level = "SERIALIZABLE"
        schema = "sales"
        ledger_schema = "books"
        """
        + LOAD,
    ).database

    assert database.url == "postgresql://clerk@db.example/shop"
    assert database.isolation_level == "SERIALIZABLE"
    assert database.db_schema == "sales"
    assert database.ledger_place == "books"


def test_the_ledger_is_in_the_schema_etl_on_postgresql_and_in_none_on_sqlite(folder):
    on_postgresql = read(folder, '[database]\nurl = "postgresql://db/shop"\n' + LOAD).database
    on_sqlite = read(folder, DATABASE + LOAD).database

    assert (on_postgresql.ledger_place, on_sqlite.ledger_place) == ("etl", None)


def test_every_key_of_the_csv_dialect_is_read(folder):
    dialect = r"""
        [load.csv]
        delimiter = "\t"
        quote = "'"
        header = false
        encoding = "cp1252"
        null = ["NULL", "n/a"]
        """

    assert read_load(folder, dialect).csv == Csv(
        delimiter="\t", quote="'", header=False, encoding="cp1252", null=("NULL", "n/a")
    )


def test_every_key_of_an_odd_dialect_is_read(folder):
    dialect = r"""
        [load.csv]
        escape = '\'
        doubled_quotes = false
        strict_quotes = false
        comment = "#"
        skip_lines = 2
        header = [4, 5]
        decimal = ","
        thousands = "."
        true_words = ["ja", "J"]
        false_words = "nein"
        """

    assert read_load(folder, dialect).csv == Csv(
        escape="\\",
        doubled_quotes=False,
        strict_quotes=False,
        comment="#",
        skip_lines=2,
        header=(4, 5),
        decimal=",",
        thousands=".",
        true_words=("ja", "J"),
        false_words=("nein",),
    )


@pytest.mark.parametrize(("written", "header"), [("true", True), ("1", 1), ("3", 3), ("[3]", 3), ("[1, 2]", (1, 2))])
def test_a_header_is_there_or_not_or_at_a_line_or_several(folder, written, header):
    found = read_load(folder, f"[load.csv]\nheader = {written}\n").csv.header

    assert (found, type(found)) == (header, type(header))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            'delimiter = "||"',
            'delimiter: "||" is not allowed; allowed: one ASCII character such as "," or "\\t": '
            "delimiters of several characters are not read",
        ),
        ("delimiter = '\\t'", 'one character; TOML takes no escapes in single quotes, so use double ones: "\\t"'),
        ('escape = "ab"', "allowed: one ASCII character such as '\\', or \"\" for none"),
        ("escape = '\"'", "quote and escape are the same character: a quote is doubled anyway, leave escape out"),
        ('escape = ","', "delimiter and escape must not be the same character"),
        ('comment = ",x"', "delimiter and comment must not begin with the same character"),
        ('comment = "a\\n"', 'what lines of comment begin with, such as "#"'),
        ("skip_lines = -1", "skip_lines: -1 is not allowed; allowed: a number of lines such as 2"),
        ("skip_lines = true", "allowed: a number of lines such as 2"),
        ("header = 0", "header: 0 is not allowed; allowed: true, false, the number of a line such as 3, or several"),
        ("header = [2, 1]", "several in their order such as [3, 4]"),
        ("header = []", "several in their order such as [3, 4]"),
        ('header = "a"', "several in their order such as [3, 4]"),
        ("header = 2\nskip_lines = 2", "header is line 2, but skip_lines skips 2: leave it out"),
        ('decimal = ";"', 'decimal: ";" is not allowed; allowed: "." or ","'),
        ('decimal = ","\nthousands = ","', "decimal and thousands must not be the same character"),
        ('thousands = "e"', "one character that is no letter, digit or sign"),
        ('thousands = ".."', "one character that is no letter, digit or sign"),
        ('true_words = ["ja"]', "true_words and false_words must be given together"),
        ('true_words = ["x"]\nfalse_words = ["x"]', "true_words and false_words both have 'x'"),
        ('true_words = [" x"]\nfalse_words = ["y"]', "texts that are not empty, without white space around them"),
        ('encoding = "latin_2x"', "a text encoding that Python knows"),
        ('encoding = "shiftjis_x"', 'did you mean "shiftjis"'),
        ('encoding = "utf-8-bom"', 'did you mean "utf-8'),
        ('encoding = "base64"', "a text encoding that Python knows"),
        ('encoding = "a\\u0000b"', "a text encoding that Python knows"),
    ],
)
def test_a_dialect_that_cannot_be_is_told_with_what_is_allowed(folder, written, said):
    with pytest.raises(ConfigError) as error:
        read_load(folder, f"[load.csv]\n{written}\n")

    assert "[load.csv] of load 1" in str(error.value)
    assert said in str(error.value)


def test_a_file_without_quoting_has_an_empty_quote(folder):
    assert read_load(folder, '[load.csv]\nquote = ""\n').csv.quote == ""


def test_a_column_is_a_source_column_or_one_with_a_format_or_a_constant(folder):
    columns = """
        [load.columns]
        order_id = "Order ID"
        ordered_at = { from = "Date", format = "%d/%m/%Y" }
        country = { value = "PT" }
        """

    assert dict(read_load(folder, columns).columns) == {
        "order_id": ColumnSource.model_validate({"from": "Order ID"}),
        "ordered_at": ColumnSource.model_validate({"from": "Date", "format": "%d/%m/%Y"}),
        "country": ColumnSource(value="PT"),
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"0042"', "0042"),
        ("42", 42),
        ("4.5", 4.5),
        ("true", True),
        ("2023-02-28", dt.date(2023, 2, 28)),
        ("2023-02-28T12:30:00", dt.datetime(2023, 2, 28, 12, 30)),
        ("12:30:00", dt.time(12, 30)),
        ('""', ""),
        ("0", 0),
        ("false", False),
    ],
    ids=["text", "whole number", "fraction", "true", "date", "moment", "time", "no text", "zero", "false"],
)
def test_a_constant_keeps_its_type(folder, written, value):
    constant = read_load(folder, f"[load.columns]\ncountry = {{ value = {written} }}\n").columns["country"].value

    assert constant == value
    assert type(constant) is type(value)


@pytest.mark.parametrize(
    ("written", "sources"),
    [
        ('"orders/*.csv"', ("orders/*.csv",)),
        ('["a.csv", "b.csv.gz"]', ("a.csv", "b.csv.gz")),
        ('"-"', ("-",)),
    ],
    ids=["one", "a list", "standard input"],
)
def test_a_source_is_one_path_or_a_list(folder, written, sources):
    (load,) = read(folder, f'{DATABASE}[[load]]\ntable = "orders"\nsource = {written}\n').loads

    assert load.source == sources


@pytest.mark.parametrize(
    ("written", "limit", "shown"),
    [
        ("0", RejectLimit(number=0), "0"),
        ("100", RejectLimit(number=100), "100"),
        ('"1%"', RejectLimit(share=Decimal("0.01")), "1%"),
        ('"0.5 %"', RejectLimit(share=Decimal("0.005")), "0.5%"),
        ('"100%"', RejectLimit(share=Decimal("1")), "100%"),
    ],
)
def test_max_rejects_is_a_number_or_a_share(folder, written, limit, shown):
    found = read_load(folder, f"max_rejects = {written}\n").max_rejects

    assert (found, str(found)) == (limit, shown)


@pytest.mark.parametrize(("written", "meant"), [("1", 1), ('"file"', "file"), ('"run"', "run")])
def test_commit_every_is_a_number_of_rows_or_file_or_run(folder, written, meant):
    assert read_load(folder, f"commit_every = {written}\n").commit_every == meant


def test_the_name_of_a_load_is_its_tables_unless_it_says_so(folder):
    loads = read(
        folder,
        DATABASE + LOAD + '[[load]]\nsource = "x.csv"\nmodel = "shop.models:Order"\n' + OTHER_LOAD + 'name = "c"\n',
    ).loads

    assert [load.name for load in loads] == ["orders", "Order", "c"]


def test_the_job_is_named_by_its_file_and_lives_in_its_folder(folder):
    job = read(folder, DATABASE + LOAD)

    assert (job.name, job.folder) == ("job.toml", folder)


def test_a_byte_order_mark_is_no_mistake(folder):
    (folder / "job.toml").write_bytes(b"\xef\xbb\xbf" + (DATABASE + LOAD).encode())

    assert read_job(folder / "job.toml").loads[0].table == "orders"


# Defaults


def test_a_loads_own_key_wins_over_the_default(folder):
    first, second = read(
        folder, f'{DATABASE}[defaults]\ncommit_every = 10\nmethod = "row"\n{LOAD}commit_every = 20\n{OTHER_LOAD}'
    ).loads

    assert (first.commit_every, second.commit_every) == (20, 10)
    assert (first.method, second.method) == ("row", "row")


def test_csv_and_columns_of_defaults_are_merged_key_by_key(folder):
    (load,) = read(
        folder,
        f"""{DATABASE}
        [defaults.csv]
        delimiter = ";"
        encoding = "cp1252"
        [defaults.columns]
        channel = {{ value = "shop" }}
        country = {{ value = "PT" }}
        {LOAD}
        [load.csv]
        encoding = "utf-8"
        [load.columns]
        country = "Country"
        """,
    ).loads

    assert load.csv == Csv(delimiter=";", encoding="utf-8")
    assert dict(load.columns) == {
        "channel": ColumnSource(value="shop"),
        "country": ColumnSource.model_validate({"from": "Country"}),
    }


def test_a_default_table_stands_back_for_a_loads_model(folder):
    (load,) = read(
        folder, f'{DATABASE}[defaults]\ntable = "orders"\n[[load]]\nsource = "x.csv"\nmodel = "shop:Order"\n'
    ).loads

    assert (load.table, load.model) == (None, "shop:Order")


# The environment


def test_variables_are_put_into_any_string(folder, monkeypatch):
    monkeypatch.setenv("SHOP", "lisbon")
    monkeypatch.setenv("DELIMITER", ";")
    job = read(
        folder,
        """
        [database]
        url = "postgresql://${SHOP}:${SHOP}@db/${SHOP}_shop"
        [[load]]
        source = ["${SHOP}/a.csv", "${SHOP}/b.csv"]
        table = "orders"
        [load.csv]
        delimiter = "${DELIMITER}"
        [load.columns]
        shop = { value = "${SHOP}" }
        """,
    )

    assert job.database.url == "postgresql://lisbon:lisbon@db/lisbon_shop"
    assert job.loads[0].source == ("lisbon/a.csv", "lisbon/b.csv")
    assert job.loads[0].csv.delimiter == ";"
    assert job.loads[0].columns["shop"].value == "lisbon"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "orders"), ({"TABLE": "old_orders"}, "old_orders")],
    ids=["without the variable", "with it"],
)
def test_a_variable_may_have_a_default(folder, monkeypatch, environment, expected):
    monkeypatch.delenv("TABLE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (load,) = read(folder, f'{DATABASE}[[load]]\nsource = "x.csv"\ntable = "${{TABLE:-orders}}"\n').loads

    assert load.table == expected


def test_an_empty_variable_is_set(folder, monkeypatch):
    monkeypatch.setenv("QUOTE", "")

    assert read_load(folder, '[load.csv]\nquote = "${QUOTE:-x}"\n').csv.quote == ""


def test_a_dollar_that_begins_no_variable_stays(folder):
    assert read_load(folder, 'ignore_columns = ["$", "US$ {net}", "$HOME"]\n').ignore_columns == (
        "$",
        "US$ {net}",
        "$HOME",
    )


def test_missing_variables_are_all_told_with_their_places(folder, monkeypatch):
    for name in ("SHOP_URL", "SHOP_FILE", "SHOP_CODE"):
        monkeypatch.delenv(name, raising=False)

    assert error_of(
        folder,
        '[database]\nurl = "${SHOP_URL}"\n[[load]]\nsource = "${SHOP_FILE}"\ntable = "orders"\n'
        '[load.columns]\ncode = "${SHOP_CODE}"\n',
    ) == (
        "FILE has 3 errors, nothing was started:\n"
        "  [database] url: ${SHOP_URL} is not set in the environment\n"
        "  [[load]] number 1, source: ${SHOP_FILE} is not set in the environment\n"
        "  [load.columns] of load 1, code: ${SHOP_CODE} is not set in the environment"
    )


def test_one_missing_variable_is_one_sentence_and_a_remedy(folder, monkeypatch):
    monkeypatch.delenv("SHOP_URL", raising=False)

    assert error_of(folder, '[database]\nurl = "${SHOP_URL}"\n' + LOAD) == (
        "FILE: [database] url: ${SHOP_URL} is not set in the environment. "
        "Set it, or give a default as in ${NAME:-default}; nothing was started."
    )


# Paths


@pytest.mark.parametrize(
    ("url", "anchored"),
    [
        ("sqlite:///shop.db", "sqlite:///{folder}/shop.db"),
        ("sqlite:///../shop.db", "sqlite:///{folder.parent}/shop.db"),
        ("sqlite:////var/shop.db", "sqlite:////var/shop.db"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql://db/shop", "postgresql://db/shop"),
    ],
    ids=["relative", "upwards", "absolute", "in memory", "in memory by name", "postgresql"],
)
def test_a_relative_sqlite_path_starts_at_the_folder_of_the_config(folder, monkeypatch, url, anchored):
    monkeypatch.chdir("/")

    database = read(folder, f'[database]\nurl = "{url}"\n{LOAD}').database

    assert database.url == anchored.format(folder=folder)


def test_history_and_rejects_take_a_url_instead_of_a_config(folder):
    database, job = read_database("sqlite:///shop.db")

    assert (database.url, job) == ("sqlite:///shop.db", None)


def test_history_and_rejects_of_a_config_are_those_of_its_job(folder):
    (folder / "job.toml").write_text(DATABASE + LOAD)

    database, job = read_database(str(folder / "job.toml"))

    assert (database.url, job) == (f"sqlite:///{folder}/shop.db", "job.toml")


# Mistakes: file, table, key, the value seen, what is allowed

LOAD_KEYS = [
    (
        'format = "xls"',
        '[[load]] number 1, format: "xls" is not allowed; allowed: "csv", "jsonl", "parquet" or "arrow"',
    ),
    (
        'method = "fast"',
        '[[load]] number 1, method: "fast" is not allowed; allowed: "auto", "copy", "bulk" or "row"',
    ),
    (
        'on_duplicate = "merge"',
        '[[load]] number 1, on_duplicate: "merge" is not allowed; allowed: "skip", "update", "replace" or "error"',
    ),
    (
        "commit_every = 0",
        '[[load]] number 1, commit_every: 0 is not allowed; allowed: a number of rows such as 100_000, "file" or "run"',
    ),
    (
        "commit_every = true",
        "[[load]] number 1, commit_every: true is not allowed; "
        'allowed: a number of rows such as 100_000, "file" or "run"',
    ),
    (
        'max_rejects = "101%"',
        '[[load]] number 1, max_rejects: "101%" is not allowed; '
        'allowed: a number of records such as 100, or a share of those read such as "1%"',
    ),
    (
        "max_record_bytes = 0",
        "[[load]] number 1, max_record_bytes: 0 is not allowed; "
        "allowed: a number of bytes such as 16_000_000, at most 500_000_000",
    ),
    (
        'max_record_bytes = "16 MB"',
        '[[load]] number 1, max_record_bytes: "16 MB" is not allowed; '
        "allowed: a number of bytes such as 16_000_000, at most 500_000_000",
    ),
    (
        "max_rejects = -1",
        "[[load]] number 1, max_rejects: -1 is not allowed; "
        'allowed: a number of records such as 100, or a share of those read such as "1%"',
    ),
    (
        'record_duplicates = "perhaps"',
        '[[load]] number 1, record_duplicates: "perhaps" is not allowed; allowed: true or false',
    ),
    ("name = 3", "[[load]] number 1, name: 3 is not allowed; allowed: a string"),
    ("key = 3", "[[load]] number 1, key: 3 is not allowed; allowed: a string, or a list of strings"),
    ("ignore_columns = [3]", "[[load]] number 1, ignore_columns: 3 is not allowed; allowed: a string"),
    (
        'model = "shop:Order"',
        '[[load]] number 1: give exactly one of table and model, such as table = "orders"',
    ),
    (
        'key = ["a", "b"]\nnewer_by = "b"',
        "[[load]] number 1: b is in key, whose columns keep their values: leave it out of the others",
    ),
    (
        'newer_by = "b"\nupdate_columns = ["a"]',
        "[[load]] number 1: update_columns has to name the column of newer_by too: what is newer is told by it",
    ),
    ("csv = 3", "[load.csv] of load 1: 3 is not allowed; allowed: a table"),
    (
        'csv.delimiter = ";;"',
        '[load.csv] of load 1, delimiter: ";;" is not allowed; allowed: one ASCII character such as "," or "\\t": '
        "delimiters of several characters are not read",
    ),
    (
        'csv.quote = "«"',
        '[load.csv] of load 1, quote: "«" is not allowed; allowed: one ASCII character such as \'"\', or "" for none',
    ),
    (
        'csv.encoding = "klingon"',
        '[load.csv] of load 1, encoding: "klingon" is not allowed; '
        'allowed: a text encoding that Python knows, such as "utf-8", "latin-1" or "cp1252"',
    ),
    (
        'csv.encoding = "base64"',
        '[load.csv] of load 1, encoding: "base64" is not allowed; '
        'allowed: a text encoding that Python knows, such as "utf-8", "latin-1" or "cp1252"',
    ),
    (
        "csv.header = 0",
        "[load.csv] of load 1, header: 0 is not allowed; "
        "allowed: true, false, the number of a line such as 3, or several in their order such as [3, 4]",
    ),
    (
        "csv.null = 3",
        "[load.csv] of load 1, null: 3 is not allowed; allowed: a string, or a list of strings",
    ),
    (
        "csv.delimiter = '\"'",
        "[load.csv] of load 1: delimiter and quote must not be the same character",
    ),
    (
        "columns.total = 3",
        "[load.columns] of load 1, total: 3 is not allowed; allowed: the name of a source column, "
        'or a table such as { from = "Date", format = "%d/%m/%Y" }',
    ),
    (
        'columns.total = { from = "Total", value = 3 }',
        "[load.columns] of load 1, total: give exactly one of from, value, file, record, line, concat and compute",
    ),
    (
        'columns.total = { format = "%d" }',
        "[load.columns] of load 1, total: give exactly one of from, value, file, record, line, concat and compute",
    ),
    (
        'columns.total = { value = 3, format = "%d" }',
        "[load.columns] of load 1, total: format goes with from, concat or compute",
    ),
    (
        'columns.total = { from = "Total", timezone = "Europe/Lisbn" }',
        '[load.columns] of load 1, total.timezone: "Europe/Lisbn" is not allowed; '
        'allowed: the IANA name of a time zone that the system knows, such as "Europe/Lisbon"',
    ),
    (
        'columns.total = { from = "Total", case = "title" }',
        '[load.columns] of load 1, total.case: "title" is not allowed; allowed: "upper" or "lower"',
    ),
    (
        "columns.total = { record = false }",
        "[load.columns] of load 1, total.record: false is not allowed; allowed: true",
    ),
    (
        'columns.total = { from = "Total", separator = "" }',
        "[load.columns] of load 1, total: separator goes with concat",
    ),
    (
        "columns.total = { value = 3, default = 0 }",
        "[load.columns] of load 1, total: default goes with from, concat or compute",
    ),
    (
        'columns.total = { compute = "add" }',
        "[load.columns] of load 1, total: compute needs args, the source columns that it computes with",
    ),
    (
        'columns.total = { compute = "add", args = [{ value = [3] }] }',
        "[load.columns] of load 1, total.args: [{'value': [3]}] is not allowed; "
        'allowed: a list of source columns and constants, such as ["price", { value = 100 }]',
    ),
    (
        'filter = "paid"',
        '[[load]] number 1, filter: "paid" is not allowed; '
        'allowed: a list of conditions, such as [{ column = "status", equals = "paid" }]',
    ),
    (
        'filter = [{ column = "status", equals = "paid" }, { column = "total", equals = 1, less = 2 }]',
        "[[load]] number 1, filter.2: give column and exactly one of equals, not_equals, in, not_in, less, "
        "less_equal, greater, greater_equal, matches and is_null",
    ),
    (
        'filter = { column = "status", in = "paid" }',
        '[[load]] number 1, filter.1.in: "paid" is not allowed; '
        'allowed: a list of strings, numbers, booleans, dates or times, such as ["paid", "sent"]',
    ),
    (
        'filter = { column = "status", equals = "paid", any = [{ column = "total", equals = 1 }] }',
        "[[load]] number 1, filter.1: any stands alone, without column and comparison",
    ),
    (
        'transform = "cleaning"',
        '[[load]] number 1, transform: "cleaning" is not allowed; '
        'allowed: "module:function", such as "shop.cleaning:clean_orders"',
    ),
    (
        "columns.total = { value = [3] }",
        "[load.columns] of load 1, total.value: [3] is not allowed; "
        "allowed: a string, a number, a boolean, a date or a time",
    ),
]


@pytest.mark.parametrize(("key", "told"), LOAD_KEYS, ids=[key for key, _ in LOAD_KEYS])
def test_a_bad_value_is_told_with_its_place_and_what_is_allowed(folder, key, told):
    assert error_of(folder, f"{DATABASE}{LOAD}{key}\n") == f"FILE: {told}. Nothing was started."


UNKNOWN_KEYS = [
    (
        DATABASE + LOAD + 'filter = [{ column = "status", equal = "paid" }]\n',
        '[[load]] number 1, filter.1.equal: unknown key; did you mean "equals"?',
    ),
    ("colour = 1\n" + DATABASE + LOAD, "[colour]: unknown key; allowed: database, load, defaults."),
    (
        DATABASE + 'shemata = "sales"\n' + LOAD,
        '[database] shemata: unknown key; did you mean "schema"?',
    ),
    (DATABASE + LOAD + 'tabble = "x"\n', '[[load]] number 1, tabble: unknown key; did you mean "table"?'),
    (
        DATABASE + LOAD + '[load.csv]\ndelimitr = ";"\n',
        '[load.csv] of load 1, delimitr: unknown key; did you mean "delimiter"?',
    ),
    (
        DATABASE + LOAD + '[load.columns]\ntotal = { form = "x" }\n',
        '[load.columns] of load 1, total.form: unknown key; did you mean "format"?',
    ),
    (
        DATABASE + "[defaults]\ncommit_evey = 5\n" + LOAD + OTHER_LOAD,
        '[defaults] commit_evey: unknown key; did you mean "commit_every"?',
    ),
    (
        DATABASE + '[defaults.csv]\ndelimitr = ";"\n' + LOAD + OTHER_LOAD,
        '[defaults.csv] delimitr: unknown key; did you mean "delimiter"?',
    ),
    (
        DATABASE + LOAD + "zzz = 1\n",
        "[[load]] number 1, zzz: unknown key; allowed: source, name, format, hive, table, model, create, add_columns, "
        "key, on_duplicate, update_columns, newer_by, record_duplicates, max_rejects, max_record_bytes, commit_every, "
        "method, ignore_columns, csv, columns, filter, transform, children.",
    ),
]


@pytest.mark.parametrize(
    ("text", "told"),
    UNKNOWN_KEYS,
    ids=["filter", "top", "database", "load", "csv", "column", "defaults", "defaults.csv", "odd"],
)
def test_an_unknown_key_is_told_with_what_was_probably_meant(folder, text, told):
    assert error_of(folder, text) == f"FILE: {told} Nothing was started."


def test_a_bad_default_is_told_once_and_where_it_stands(folder):
    assert error_of(folder, f'{DATABASE}[defaults]\nmethod = "fast"\n{LOAD}{OTHER_LOAD}') == (
        'FILE: [defaults] method: "fast" is not allowed; allowed: "auto", "copy", "bulk" or "row". Nothing was started.'
    )


def test_a_bad_value_of_a_load_is_not_blamed_on_the_defaults(folder):
    assert error_of(folder, f'{DATABASE}[defaults]\nmethod = "row"\n{LOAD}{OTHER_LOAD}method = "fast"\n') == (
        'FILE: [[load]] number 2, method: "fast" is not allowed; allowed: "auto", "copy", "bulk" or "row". '
        "Nothing was started."
    )


MISSING = [
    (DATABASE, "[[load]]: [] is not allowed; allowed: one or more [[load]] tables, each under its double brackets."),
    (LOAD, "[database] is missing."),
    ("[database]\n" + LOAD, "[database] url is missing."),
    (DATABASE + '[[load]]\ntable = "orders"\n', "[[load]] number 1, source is missing."),
    (
        DATABASE + '[[load]]\nsource = "a.csv"\n',
        '[[load]] number 1: give exactly one of table and model, such as table = "orders".',
    ),
    (
        DATABASE + '[[load]]\nsource = "a.csv"\ntable = ""\n',
        '[[load]] number 1: give exactly one of table and model, such as table = "orders".',
    ),
    (
        DATABASE + '[[load]]\nsource = []\ntable = "orders"\n',
        "[[load]] number 1, source: [] is not allowed; allowed: a path, a glob, a folder, or a list of these.",
    ),
]


@pytest.mark.parametrize(
    ("text", "told"), MISSING, ids=["load", "database", "url", "source", "target", "empty table", "no source"]
)
def test_what_is_missing_is_told(folder, text, told):
    assert error_of(folder, text) == f"FILE: {told} Nothing was started."


def test_load_in_single_brackets_is_told_from_load_in_double_ones(folder):
    told = error_of(folder, DATABASE + LOAD.replace("[[load]]", "[load]"))

    assert told.endswith("one or more [[load]] tables, each under its double brackets. Nothing was started.")


def test_two_loads_of_one_name_are_told(folder):
    assert error_of(folder, DATABASE + LOAD + LOAD) == (
        'FILE: [[load]] name: "orders" is used by 2 loads; give each its own name. Nothing was started.'
    )


def test_all_mistakes_are_told_at_once(folder):
    text = f"""
        [database]
        url = "sqlite:///shop.db"
        isolation_level = "NONE"
        {LOAD}
        method = "fast"
        [load.csv]
        delimiter = "ab"
        {OTHER_LOAD}
        tabble = "x"
        [load.columns]
        total = {{ form = "x" }}
        """

    assert sorted(error_of(folder, text).splitlines()) == [
        '  [[load]] number 1, method: "fast" is not allowed; allowed: "auto", "copy", "bulk" or "row"',
        '  [[load]] number 2, tabble: unknown key; did you mean "table"?',
        '  [database] isolation_level: "NONE" is not allowed; '
        'allowed: "READ COMMITTED", "REPEATABLE READ" or "SERIALIZABLE"',
        '  [load.columns] of load 2, total.form: unknown key; did you mean "format"?',
        '  [load.csv] of load 1, delimiter: "ab" is not allowed; allowed: one ASCII character such as "," or "\\t": '
        "delimiters of several characters are not read",
        "FILE has 5 errors, nothing was started:",
    ]


def test_a_long_value_is_shown_cut(folder):
    assert f'method: "{"x" * 56}… is not allowed' in error_of(folder, f'{DATABASE}{LOAD}method = "{"x" * 500}"\n')


# Files that are no config


def test_a_file_that_is_not_there_is_told(folder):
    with pytest.raises(ConfigError) as told:
        read_job(folder / "nothing.toml")

    assert str(told.value) == (
        f"There is no config file {folder / 'nothing.toml'}. Give the path of a job's TOML file."
    )


def test_a_folder_is_no_config(folder):
    with pytest.raises(ConfigError) as told:
        read_job(folder)

    assert str(told.value) == (
        f"The config file {folder} cannot be read: Is a directory. Give the path of a job's TOML file."
    )


def test_a_file_that_is_not_toml_is_told_with_line_and_column(folder):
    assert error_of(folder, "[database]\nurl sqlite\n") == (
        "FILE is not valid TOML: Expected '=' after a key in a key/value pair (at line 2, column 5). Correct it there."
    )


def test_a_file_that_is_not_utf8_is_told_with_the_byte(folder):
    (folder / "job.toml").write_bytes(b'# \xe9t\xe9\n[database]\nurl = "sqlite://"\n')
    with pytest.raises(ConfigError) as told:
        read_job(folder / "job.toml")

    assert str(told.value) == f"{folder / 'job.toml'}: byte 2 is not UTF-8. Save the config as UTF-8 text."


# Passwords

SECRET = "tr0ub4dor"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://clerk:{SECRET}@db/shop",
        f"postgresql+asyncpg://clerk:{SECRET}@db/shop",
        f"postgresql://clerk:{SECRET}@db:port/shop",
        f"clerk:{SECRET}@db",
        f"postgresql//clerk:{SECRET}@db",
    ],
    ids=["other database", "other driver", "bad port", "no scheme", "no colon"],
)
def test_a_url_that_cannot_be_used_is_not_shown(folder, url):
    told = error_of(folder, f'[database]\nurl = "{url}"\n{LOAD}')

    assert told == (
        "FILE: [database] url: its value (not shown: it may hold a password) is not allowed; "
        "allowed: a database URL such as sqlite:///shop.db or postgresql://host/name. Nothing was started."
    )


def test_a_url_that_is_no_string_is_not_shown(folder):
    assert SECRET not in error_of(folder, f'[database]\nurl = ["{SECRET}"]\n{LOAD}')


def test_a_password_is_not_shown_by_a_mistake_elsewhere(folder, monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", SECRET)
    told = error_of(
        folder, '[database]\nurl = "postgresql://clerk:${SHOP_PASSWORD}@db/shop"\nshemata = "x"\n[[load]]\ncolour = 1\n'
    )

    assert "shemata" in told
    assert SECRET not in told


def test_a_bad_url_on_the_command_line_is_not_shown():
    with pytest.raises(ConfigError) as told:
        read_database(f"mysql://clerk:{SECRET}@db/shop")

    assert str(told.value) == (
        "The database URL cannot be used. Give one such as sqlite:///shop.db or postgresql://host/name."
    )


CHILDREN = [
    ('tables = "x"', '[load.children.lines] of load 1, tables: unknown key; did you mean "table"?'),
    ('orphans = "no"', '[load.children.lines] of load 1, orphans: "no" is not allowed; allowed: "refuse" or "reject".'),
    (
        "columns = { a = { formatt = 1 } }",
        '[load.children.lines.columns] of load 1, a.formatt: unknown key; did you mean "format"?',
    ),
    (
        'children = { taxes = { table = "t", position = 1 } }',
        "[load.children.lines.children.taxes] of load 1, position: 1 is not allowed;",
    ),
]


@pytest.mark.parametrize(("text", "told"), CHILDREN)
def test_what_is_wrong_with_a_child_is_told_with_its_place(folder, text, told):
    assert told in error_of(folder, f'{DATABASE}{LOAD}[load.children.lines]\ntable = "order_lines"\n{text}\n')
