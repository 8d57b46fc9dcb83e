"""Say what must become of each record of the sample files, and why; writes `expected.json`.

    python sample_data/expect.py [--check]

Independent of etl and of `generate.py`: it reads the files by the rules of the docs with the standard library
(pyarrow opens the Parquet file only), checks types by hand, and lets SQLite tables in memory judge keys,
foreign keys, NOT NULL and CHECK, one INSERT after the other. `--check` writes nothing and fails when the file
differs.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
Value = str | int | float | None
Convert = Callable[[str], Value]


class Refused(Exception):
    """A record that cannot be read or mapped, or that the database refuses; the argument is the reason."""


@dataclass
class Record:
    number: int
    line: int | None
    fields: list[str | None] | Refused


@dataclass
class Tally:
    read: int = 0
    written: int = 0
    duplicates: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, int]:
        names = ("read", "written", "duplicates", "rejected")
        return {name: getattr(self, name) for name in names}


# Reading: physical lines are put together until the quotes are closed ------------------------------------


def csv_records(path: Path) -> Iterator[Record]:
    """The records of a file, the header as number 0; a bad quote costs the physical line it stands on."""
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+$", path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    place, number = 0, 0
    while place < len(lines):
        end = place + 1
        while (state := quote_state(b"".join(lines[place:end]))) == "open" and end < len(lines):
            end += 1
        text = b"".join(lines[place:end])
        if text.strip(b"\r\n"):
            yield Record(number, place + 1, split(text, state))
            number += 1
        place = end


def quote_state(text: bytes) -> str:
    """`closed`, `open` (the record goes on) or `bad` (quote in a plain field, text behind a closing one)."""
    rest = text.rstrip(b"\r\n")
    while True:
        if rest.startswith(b'"'):
            quoted = re.match(rb'"(?:[^"]|"")*"', rest)
            if quoted is None:
                return "open"
            rest = rest[quoted.end() :]
        else:
            plain = re.match(rb"[^,]*", rest)
            assert plain is not None
            if b'"' in plain[0]:
                return "bad"
            rest = rest[plain.end() :]
        if not rest:
            return "closed"
        if not rest.startswith(b","):
            return "bad"
        rest = rest[1:]


def split(text: bytes, state: str) -> list[str | None] | Refused:
    if state != "closed":
        return Refused("quote")
    try:
        decoded = text.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return Refused("encoding")
    (fields,) = csv.reader(io.StringIO(decoded, newline=""), strict=True)
    nulls = re.findall(r'(?:^|,)("(?:[^"]|"")*"|[^,]*)', decoded)  # the fields with their quotes
    return [None if null == "" else value for value, null in zip(fields, nulls, strict=True)]


def parquet_records(path: Path) -> Iterator[Record]:
    table = pq.read_table(path).drop_columns(["supplier"])
    yield Record(0, None, list(table.column_names))
    for number, row in enumerate(table.to_pylist(), start=1):
        yield Record(number, None, [None if value is None else str(value) for value in row.values()])


# Mapping --------------------------------------------------------------------------------------------------


def integer(text: str) -> Value:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise Refused("type")
    if not -(2**31) <= int(text) < 2**31:
        raise Refused("range")
    return int(text)


def money(text: str) -> Value:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise Refused("type") from None
    if abs(number) >= 10**8:
        raise Refused("range")
    return float(number)


def boolean(text: str) -> Value:
    if text.lower() not in ("true", "false"):
        raise Refused("type")
    return int(text.lower() == "true")


def at_most(length: int) -> Convert:
    def convert(text: str) -> Value:
        if len(text) > length:
            raise Refused("too_long")
        return text

    return convert


def day(form: str) -> Convert:
    """Texts of this form. As in PostgreSQL, another form (22007) is not the same as no such day (22008)."""
    digits = re.sub("%.", r"\\d\\d", re.escape(form).replace("%Y", "%m%m"))

    def convert(text: str) -> Value:
        if not re.fullmatch(digits, text):
            raise Refused("type")
        try:
            return dt.datetime.strptime(text, form).isoformat(" ")
        except ValueError:
            raise Refused("range") from None

    return convert


@dataclass(frozen=True)
class Load:
    """A load: its files, its table, and the conversion of each source column (None: it is ignored)."""

    name: str
    files: tuple[str, ...]
    ddl: str
    convert: tuple[Convert | None, ...]


LOADS = (
    Load(
        "customers",
        ("customers.csv",),
        """CREATE TABLE customers (customer_id INTEGER NOT NULL PRIMARY KEY, name NOT NULL,
           email NOT NULL UNIQUE, country NOT NULL, address NOT NULL, note,
           newsletter NOT NULL, signed_up NOT NULL)""",
        (integer, at_most(60), at_most(80), at_most(2), str, str, boolean, day("%d.%m.%Y %H:%M")),
    ),
    Load(
        "products",
        ("products.parquet",),
        """CREATE TABLE products (product_id INTEGER NOT NULL PRIMARY KEY, sku NOT NULL UNIQUE, name NOT NULL,
           price NOT NULL CHECK (price >= 0), active NOT NULL, added_on NOT NULL)""",
        (integer, at_most(12), at_most(80), money, boolean, day("%Y-%m-%d")),
    ),
    Load(
        "orders",
        tuple(f"orders/orders-{number}.csv" for number in range(1, 11)),
        """CREATE TABLE orders (order_id INTEGER NOT NULL PRIMARY KEY,
           customer_id NOT NULL REFERENCES customers, ordered_on NOT NULL,
           status NOT NULL CHECK (status IN ('open', 'paid', 'shipped', 'cancelled')), shipping, comment)""",
        (integer, integer, day("%d/%m/%Y"), at_most(10), money, str, None),
    ),
    Load(
        "order_lines",
        ("order_lines.csv",),
        """CREATE TABLE order_lines (order_id NOT NULL REFERENCES orders, line_no NOT NULL,
           product_id NOT NULL REFERENCES products, quantity NOT NULL CHECK (quantity > 0),
           unit_price NOT NULL, PRIMARY KEY (order_id, line_no))""",
        (integer, integer, integer, integer, money),
    ),
)

FACTS = {
    "Order 1203 is paid in orders-2 and cancelled in orders-10: the first in natural order wins": (
        "SELECT status FROM orders WHERE order_id = 1203"
    ),
    "Order 1444 is refused in orders-3 and right in orders-9: a refused row does not hold its key": (
        "SELECT count(*) FROM orders WHERE order_id = 1444"
    ),
    "Customer 3's address has a newline inside": "SELECT address FROM customers WHERE customer_id = 3",
    "Customer 12 stays at the first address": "SELECT address FROM customers WHERE customer_id = 12",
    "Notes that are the empty string": "SELECT count(*) FROM customers WHERE note = ''",
    "Notes that are NULL": "SELECT count(*) FROM customers WHERE note IS NULL",
    "Customers who want the newsletter": "SELECT count(*) FROM customers WHERE newsletter",
    "Pieces ordered": "SELECT sum(quantity) FROM order_lines",
    "Orders in orders-4 (byte order mark, CRLF)": ("SELECT count(*) FROM orders WHERE order_id BETWEEN 1601 AND 1800"),
}


# Judging --------------------------------------------------------------------------------------------------


def mapped(load: Load, record: Record) -> list[Value]:
    if isinstance(record.fields, Refused):
        raise record.fields
    if len(record.fields) != len(load.convert):
        raise Refused("column_count")
    pairs = zip(record.fields, load.convert, strict=True)
    return [None if text is None else convert(text) for text, convert in pairs if convert]


def insert(database: sqlite3.Connection, load: Load, values: list[Value]) -> None:
    marks = ", ".join("?" * len(values))
    try:
        database.execute(f"INSERT INTO {load.name} VALUES ({marks})", values)
    except sqlite3.IntegrityError as error:
        kind = error.sqlite_errorname.removeprefix("SQLITE_CONSTRAINT_")
        reasons = {"PRIMARYKEY": "unique", "UNIQUE": "unique", "NOTNULL": "not_null", "CHECK": "check"}
        raise Refused({**reasons, "FOREIGNKEY": "foreign_key"}[kind]) from None


def judge(database: sqlite3.Connection, load: Load, path: Path, tally: Tally) -> Iterator[dict[str, object]]:
    """Count the records of one file into `tally` and yield its rejects."""
    records = parquet_records(path) if path.suffix == ".parquet" else csv_records(path)
    next(records)
    for record in records:
        tally.read += 1
        try:
            insert(database, load, mapped(load, record))
            tally.written += 1
        except Refused as refused:
            reason = str(refused)
            if reason == "unique":
                tally.duplicates += 1
                continue
            tally.rejected += 1
            tally.reasons[reason] += 1
            place = {"record": record.number, "line": record.line, "reason": reason}
            yield {"load": load.name, "file": str(path.relative_to(HERE)), **place}


def expected() -> dict[str, object]:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("PRAGMA foreign_keys = ON")
    loads, rejects, total = {}, [], Counter[str]()
    for load in LOADS:
        database.execute(load.ddl)
        tallies = {name: Tally() for name in load.files}
        for name, tally in tallies.items():
            rejects += list(judge(database, load, HERE / name, tally))
        counts = sum((Counter(tally.counts()) for tally in tallies.values()), Counter[str]())
        reasons = sum((tally.reasons for tally in tallies.values()), Counter[str]())
        total += counts
        loads[load.name] = {
            **counts,
            "reasons": dict(sorted(reasons.items())),
            "files": {name: tally.counts() for name, tally in tallies.items()},
        }
    facts = [{"what": what, "sql": sql, "value": database.execute(sql).fetchone()[0]} for what, sql in FACTS.items()]
    return {"run": dict(total), "loads": loads, "facts": facts, "rejects": rejects}


def as_text(result: dict[str, object]) -> str:
    """JSON with one line for each reject, so that a change can be read in a diff."""
    rejects = result.pop("rejects")
    assert isinstance(rejects, list)
    head = json.dumps(result, indent=2, ensure_ascii=False).removesuffix("\n}")
    rows = ",\n".join("    " + json.dumps(reject, ensure_ascii=False) for reject in rejects)
    return f'{head},\n  "rejects": [\n{rows}\n  ]\n}}\n'


def main() -> None:
    target, text = HERE / "expected.json", as_text(expected())
    if "--check" not in sys.argv:
        target.write_text(text, encoding="utf-8")
    elif target.read_text(encoding="utf-8") != text:
        sys.exit("expected.json is not what the files say: run expect.py and read the difference.")


if __name__ == "__main__":
    main()
