"""Files from elsewhere, loaded with a config as a user would write it.

They lie where ``ETL_REAL_FILES`` says and are no part of the project: their licences differ. What must come out is told
by who made the files, or by Python's csv module.
"""

from __future__ import annotations

import ast
import csv
import datetime as dt
import gzip
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import make_url

from etl.readers.csv import CsvReader
from etl.records import Position
from tests.commands import Ended, call, execute, query
from tests.files import Dialect, write_job

FILES = Path(os.environ.get("ETL_REAL_FILES", "files-from-elsewhere"))
pytestmark = pytest.mark.skipif("ETL_REAL_FILES" not in os.environ, reason="ETL_REAL_FILES is not given")


@pytest.fixture
def database(sqlite_url: str) -> str:
    Path(make_url(sqlite_url).database or "").touch()
    return sqlite_url


def load_file(folder: Path, url: str, path: Path, types: Mapping[str, str], **load: Any) -> Ended:
    execute(url, "CREATE TABLE t (" + ", ".join(f'"{name}" {kind}' for name, kind in types.items()) + ")")
    return call("load", write_job(folder, url, {"table": "t", "source": str(path)} | load), "--json")


def rejects_of(folder: Path) -> list[dict[str, Any]]:
    output = call("rejects", folder / "job.toml", "--format", "jsonl").output
    return [json.loads(line) for line in output.splitlines()]


# DuckDB's faulty files, with the lines that it rejects and why

CLASSES = {
    "CAST": {"type", "range"},
    "MISSING COLUMNS": {"column_count"},
    "TOO MANY COLUMNS": {"column_count"},
    "UNQUOTED VALUE": {"quote"},
    "INVALID ENCODING": {"encoding"},
}
# A delimiter at the end of each record is a field more, which the config has to name: no field is dropped unasked.
TRAILING_DELIMITER = {"error/mismatch/bad.csv", "error/mismatch/bad2.csv"}


def duckdb_cases() -> list[dict[str, Any]]:
    path = FILES / "duckdb-csv" / "expected_rejects.json"
    cases: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return cases


def columns_of(case: dict[str, Any]) -> dict[str, Any]:
    """As a user writes them: by the names in the file's header, or by place."""
    path = FILES / "duckdb-csv" / case["file"]
    if case["header"]:
        names: Sequence[str] = path.read_bytes().split(b"\n", 1)[0].decode().strip().split(",")
    else:
        names = [f"f{number}" for number in range(1, len(case["columns"]) + 1)]
    format = case["options"].get("dateformat")
    return {
        column: {"from": name} | ({"format": format} if format and case["columns"][column] == "DATE" else {})
        for column, name in zip(case["columns"], names, strict=True)
    }


@pytest.mark.parametrize("case", duckdb_cases(), ids=lambda case: case["file"].removesuffix(".csv"))
def test_faulty_file_of_duckdb_is_rejected_line_by_line_as_there(case: dict[str, Any], tmp_path: Path, database: str):
    ignored = ["f4"] if case["file"] in TRAILING_DELIMITER else []
    ended = load_file(
        tmp_path,
        database,
        FILES / "duckdb-csv" / case["file"],
        case["columns"],
        csv={"header": case["header"]},
        columns=columns_of(case),
        ignore_columns=ignored,
    )
    assert ended.exit_code == 3, ended.errors
    rejects = rejects_of(tmp_path)
    assert [str(reject["line"]) for reject in rejects] == list(case["rejected_lines"])
    for reject in rejects:
        expected = set().union(*(CLASSES[name] for _, name in case["rejected_lines"][str(reject["line"])]))
        assert reject["reason"] in expected, reject["line"]
    assert query(database, "SELECT count(*) FROM t") == [(case["loaded"],)]


# csv-spectrum: the rows are beside the files

SPECTRUM = sorted((FILES / "csv-spectrum" / "csvs").glob("*.csv"))


def read(path: Path, dialect: Dialect = Dialect()) -> list[dict[str, str | None]]:
    reader = CsvReader(path, path.name, dialect)
    rows: list[dict[str, str | None]] = []
    for batch in reader.batches(Position(), []):
        assert batch.rejects == ()
        rows += batch.columns.to_pylist()
    return rows


@pytest.mark.parametrize("path", SPECTRUM, ids=lambda path: path.stem)
def test_file_of_csv_spectrum_has_its_rows(path: Path) -> None:
    expected = json.loads((path.parent.parent / "json" / f"{path.stem}.json").read_text())
    if path.stem == "location_coordinates":
        # Its JSON is no rows of it, and its coordinates have bare quotes: it is a file without quoting.
        expected = [dict(zip(*csv.reader(path.open(newline="", encoding="utf-8")), strict=True))]
        assert read(path, Dialect(quote="")) == expected
        return
    assert [{name: value or "" for name, value in row.items()} for row in read(path)] == expected


# csvkit's examples, which need more than the usual dialect: the rows are those of the files, written out

CSVKIT = FILES / "csvkit-examples"


@pytest.mark.parametrize(
    ("name", "dialect", "rows"),
    [
        ("test_skip_lines", {"skip_lines": 3}, [("1", "2", "3")]),
        ("test_skip_lines", {"header": 4}, [("1", "2", "3")]),
        ("test_utf8_bom", {}, [("1", "2", "3"), ("4", "5", "ʤ")]),
        ("test_utf16_big", {"encoding": "utf-16"}, [("1", "2", "3"), ("4", "5", "ʤ")]),
        ("test_utf16_little", {"encoding": "utf-16"}, [("1", "2", "3"), ("4", "5", "ʤ")]),
        ("test_latin1", {"encoding": "latin-1"}, [("1", "2", "3"), ("4", "5", "©")]),
        ("mac_newlines", {}, [("1", "2", "3"), ("Once upon\ra time", "5", "6")]),
        ("optional_quote_characters", {}, [("1", "2", "3")]),
        ("no_header_row", {"header": False}, [("1", "2", "3")]),
    ],
)
def test_file_of_csvkit_has_its_rows(name: str, dialect: dict[str, Any], rows: list[tuple[str, ...]]) -> None:
    found = read(CSVKIT / f"{name}.csv", replace(Dialect(), **dialect))
    assert [tuple(row.values()) for row in found] == rows


def test_numbers_of_another_locale_are_those_that_csvkit_converts_them_to(tmp_path: Path, database: str) -> None:
    types = {"a": "NUMERIC(10, 2)", "b": "INTEGER", "c": "TEXT"}
    dialect = {"decimal": ",", "thousands": "."}
    assert load_file(tmp_path, database, CSVKIT / "test_locale.csv", types, csv=dialect).exit_code == 0
    with (CSVKIT / "test_locale_converted.csv").open(newline="", encoding="utf-8") as file:
        expected = [(float(a), int(b), c or None) for a, b, c in list(csv.reader(file))[1:]]
    assert query(database, "SELECT a, b, c FROM t") == expected


@pytest.mark.parametrize(
    ("name", "dialect", "lines"),
    [("bad_skip_lines", {"skip_lines": 3}, [5, 6]), ("null_byte", {}, [2]), ("test_extra_header", {}, [2])],
)
def test_bad_lines_of_csvkit_are_rejects(
    name: str, dialect: dict[str, Any], lines: list[int], tmp_path: Path, database: str
) -> None:
    path = CSVKIT / f"{name}.csv"
    names = path.read_text(encoding="utf-8").lstrip("\n").splitlines()[0].split(",")
    assert load_file(tmp_path, database, path, dict.fromkeys(names, "TEXT"), csv=dialect).exit_code == 3
    assert [reject["line"] for reject in rejects_of(tmp_path)] == lines


# DuckDB's files in other encodings: their text by Python's codecs, their rows by its csv module


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("latin1.csv", "latin-1"),
        ("latin1.csv.gz", "latin-1"),
        ("only_latin1.csv", "latin-1"),
        ("all_latin1.csv", "latin-1"),
        ("shift_jis.csv", "shift_jis"),
        ("utf16.csv", "utf-16"),
        ("utf16.csv.gz", "utf-16"),
        ("only_utf16.csv", "utf-16"),
    ],
)
def test_file_in_another_encoding_has_its_rows(name: str, encoding: str) -> None:
    path = FILES / "duckdb-csv" / "encodings" / name
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode(encoding)
    expected = [fields for fields in csv.reader(io.StringIO(text, newline="")) if fields]
    found = read(path, Dialect(header=False, encoding=encoding, null=()))
    assert [list(row.values()) for row in found] == expected


def test_words_for_null_are_those_that_the_config_names() -> None:
    path = FILES / "duckdb-csv" / "null" / "multiple_nulls.csv"
    expected = [("Pedro", "31", "1.73"), ("Mark", None, None), ("Thijs", "26", None)]
    assert [tuple(row.values()) for row in read(path, Dialect(null=("", "null", "none")))] == expected


# Whole folders of sound files: as many records as Python's csv module has


def count_records(path: Path, delimiter: str, has_header: bool) -> int:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return sum(1 for fields in csv.reader(file, delimiter=delimiter) if fields) - has_header


def sound_files() -> list[Path]:
    patterns = ("airportsdata/*.csv", "chinook/*.csv", "northwind/*.csv", "openflights/*.dat", "vega/*.[ct]sv")
    return sorted(path for pattern in patterns for path in FILES.glob(pattern))


@pytest.mark.long
@pytest.mark.parametrize("path", sound_files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_record_of_a_sound_file_is_written(path: Path, tmp_path: Path, database: str) -> None:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    has_header = path.suffix != ".dat"
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = next(csv.reader(file, delimiter=delimiter))
    names = first if has_header else [f"f{number}" for number in range(1, len(first) + 1)]
    dialect = {"header": has_header, "delimiter": delimiter} | ({} if has_header else {"null": ["", "\\N"]})
    ended = load_file(tmp_path, database, path, dict.fromkeys(names, "TEXT"), csv=dialect, format="csv")
    assert ended.exit_code in (0, 3), ended.errors
    records = count_records(path, delimiter, has_header)
    assert (ended.result["read"], ended.result["written"], len(rejects_of(tmp_path))) == (records, records, 0)


# Parquet files of other writers, old and odd encodings among them: the values that pyarrow's own conversion gives

PARQUET = sorted((FILES / "parquet").glob("*.parquet"))
# Records that the target cannot hold: a map whose keys are numbers is no JSON object, SQLite has no NaN.
REFUSED = {
    "nested_maps.snappy": ("type", "a", {1, 2, 5, 6}),
    "map_no_value": ("type", "my_map", {1, 2, 3}),
    "float16_nonzeros_and_nans": ("range", "x", {4}),
}


def sql_type(kind: pa.DataType) -> str:
    if pa.types.is_nested(kind):
        return "JSON"
    if pa.types.is_decimal(kind):
        return f"NUMERIC({kind.precision}, {kind.scale})"
    kinds = (
        (pa.types.is_boolean, "BOOLEAN"),
        (pa.types.is_uint64, "NUMERIC(20, 0)"),
        (pa.types.is_integer, "BIGINT"),
        (pa.types.is_floating, "DOUBLE PRECISION"),
        (pa.types.is_timestamp, "TIMESTAMP"),
        (pa.types.is_binary, "BLOB"),
    )
    return next((name for is_kind, name in kinds if is_kind(kind)), "TEXT")


def as_kept(value: object) -> object:
    """What a single value is in an SQLite file."""
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}"
    return float(value) if isinstance(value, Decimal) else value


@pytest.mark.parametrize("path", PARQUET, ids=lambda path: path.stem)
def test_parquet_file_of_another_writer_has_its_rows(path: Path, tmp_path: Path, database: str) -> None:
    content = pq.read_table(path)
    names = content.schema.names
    load_file(tmp_path, database, path, {field.name: sql_type(field.type) for field in content.schema})
    reason, column, refused = REFUSED.get(path.stem, ("", "", set()))
    rejects = [(reject["reason"], reject["column"], reject["record"]) for reject in rejects_of(tmp_path)]
    assert rejects == [(reason, column, number) for number in sorted(refused)]
    written = content.filter(pa.array([number not in refused for number in range(1, len(content) + 1)], pa.bool_()))
    expected = written.to_pylist(maps_as_pydicts="strict")
    nested = {field.name for field in content.schema if pa.types.is_nested(field.type)}
    for row, record in zip(query(database, "SELECT * FROM t ORDER BY rowid"), expected, strict=True):
        kept = dict(zip(names, row, strict=True))
        assert {name: json.loads(kept[name]) if name in nested and kept[name] else kept[name] for name in names} == {
            name: as_kept(value) for name, value in record.items()
        }


# What PostgreSQL's own COPY does with odd bytes, probe by probe

# Where etl says something else, and why (docs/csv.md, docs/types.md).
_LINE_ENDS = "each line may have a line end of its own"
_QUOTES = "quotes enclose a whole field or none of it: COPY drops them from within a field without a word"
_ISO = "dates and times are ISO 8601, or of the form that the config gives; words and guesses are refused"
_NO_ROLLING = "24:00 and second 60 are no times of that day"
_NO_OFFSET = "an offset into a column without time zone would be dropped"
_SPACES = "spaces at the end count: none is dropped"
AGREED = {
    "CRLF file then LF line: error": _LINE_ENDS,
    "LF file then CRLF line: mixed -> error": _LINE_ENDS,
    "backslash escape outside quotes is plain": "an escape is one outside of quotes too",
    "UTF-8 BOM + int column": "a byte order mark is removed",
    "UTF-8 BOM is not stripped (no header)": "a byte order mark is removed",
    "\\. alone on a line ends data (PG<=17)": "a line is a record, whatever is on it; PostgreSQL 18 says so too",
    "blank line, 2 columns": "a blank line is no record",
    "empty file": "a file without its header is refused",
    "quoted then text": _QUOTES,
    "space before quote: quote is literal section": _QUOTES,
    "text then quoted section with comma": _QUOTES,
    "char(3) <- 'abc  '": _SPACES,
    "varchar(3) <- 'abc  '": _SPACES,
    "date <- '02/03/2024'": _ISO,
    "date <- '2024-01-01 BC'": _ISO,
    "date <- '2024-01-01T10:00:00'": _ISO,
    "date <- '2024-060'": _ISO,
    "date <- '2024-2-3'": _ISO,
    "date <- '20240229'": _ISO,
    "date <- 'J2451187'": _ISO,
    "date <- 'Jan 5 2024'": _ISO,
    "date <- 'infinity'": _ISO,
    "date <- 'today'": _ISO,
    "timestamp <- 'epoch'": _ISO,
    "timestamptz <- '2024-03-31 02:30 Europe/Berlin'": _ISO,
    "time <- '24:00'": _NO_ROLLING,
    "timestamp <- '2024-01-01 10:00:60'": _NO_ROLLING,
    "timestamp <- '2024-01-01 24:00:00'": _NO_ROLLING,
    "timestamp <- '2024-01-01 10:00+02'": _NO_OFFSET,
    "timestamp <- '2024-01-01T10:00:00Z'": _NO_OFFSET,
    "float8 <- '0x1p3'": "numbers are decimal",
    "numeric(5,2) <- 'NaN'": "NUMERIC takes numbers",
}
# These options of COPY have no counterpart.
NO_COUNTERPART = {"force_null(a)", "force_not_null(a)", "header match"}
OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "header": {"header": True},
    "null 'NA'": {"null": ["NA"]},
    "null '\\N'": {"null": ["\\N"]},
    "encoding 'LATIN1'": {"encoding": "latin-1"},
    "encoding 'WIN1252'": {"encoding": "cp1252"},
    "encoding 'SJIS'": {"encoding": "shift_jis"},
    "escape '\\'": {"escape": "\\"},
    "delimiter E'\\t'": {"delimiter": "\t"},
    "delimiter ';'": {"delimiter": ";"},
    "delimiter '||'": {"delimiter": "||"},
}


def probes() -> list[dict[str, Any]]:
    path = FILES / "copy-semantics" / "pg15_copy_csv.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())["probes"] if path.exists() else []
    return found


def outcome_of(probe: dict[str, Any], folder: Path, url: str) -> str:
    """What etl makes of a probe: the rows as PostgreSQL's text, or the kind of refusal."""
    execute(url, "DROP TABLE IF EXISTS t", f"CREATE TABLE t ({probe['columns']})")
    (folder / "in.csv").write_bytes(ast.literal_eval(f"b{probe['input']}"))
    names = [column.split()[0] for column in probe["columns"].split(",") if column[0].isalpha() and " " in column]
    dialect = {"header": False} | OPTIONS[probe["options"]]
    columns = {} if dialect["header"] else {"columns": {name: name for name in names}}
    job = write_job(folder, url, {"table": "t", "source": "in.csv", "csv": dialect} | columns)
    ended = call("load", job, "--json", "--rerun")
    if ended.exit_code not in (0, 3):
        return f"exit {ended.exit_code}"
    rows = query(url, "SELECT " + ", ".join(f"CAST({name} AS text)" for name in names) + " FROM t")
    reasons = [reject["reason"] for load in ended.result["loads"] for reject in load["rejects"]]
    return json.dumps([list(row) for row in rows]) + "".join(f" and {reason}" for reason in sorted(reasons))


def outcome_of_copy(probe: dict[str, Any]) -> str:
    return json.dumps(probe["outcome"]["rows"]) if "rows" in probe["outcome"] else probe["outcome"]["sqlstate"]


@pytest.mark.long
def test_copy_and_etl_differ_where_agreed_and_nowhere_else(tmp_path: Path, postgres_url: str) -> None:
    differences = {}
    for probe in probes():
        if probe["options"] in NO_COUNTERPART:
            continue
        ours, copy = outcome_of(probe, tmp_path, postgres_url), outcome_of_copy(probe)
        is_refused = not ours.startswith("[") or " and " in ours
        if ours != copy and not (is_refused and "sqlstate" in probe["outcome"]):
            differences[probe["name"]] = f"{copy} / {ours}"
    assert sorted(differences) == sorted(AGREED), differences
