"""Hypothesis strategies: a table of any kind that a database has, and a file of records that keep running into it.

What is drawn is an ``Example``; its text is a script for psql or the sqlite3 shell, so that one that fails can be tried
by hand. Every choice shrinks towards the plain one, which stands first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import strategies as st

Cells = tuple[str | None, ...]
Draw = Callable[[st.SearchStrategy[Any]], Any]

SCHEMA = "ex"


@dataclass(frozen=True)
class Table:
    """A target and what stands around it.

    ``given`` are the columns that a file gives; ``present`` the rows in it before, each an INSERT that may fail;
    ``looked_at`` the queries whose results must be the same whoever has written the rows.
    """

    name: str
    ddl: tuple[str, ...]
    given: tuple[str, ...]
    looked_at: tuple[str, ...]
    present: tuple[str, ...] = ()
    role: str = "owner"


@dataclass(frozen=True, repr=False)
class Example:
    """A table, the records of its files, and how they are cut: into pieces, transactions and files.

    A record is its cells, or a line as bytes that cannot be split into them; ``second`` is where a second file begins.
    """

    table: Table
    records: tuple[Cells | bytes, ...]
    piece: int = 100
    commit_every: int | Literal["file", "run"] = "run"
    record_duplicates: bool = True
    second: int | None = None
    format: str = "csv"
    load: Mapping[str, Any] = field(default_factory=dict)  # more keys of [[load]]

    def __repr__(self) -> str:
        columns = ", ".join(map(quoted, self.table.given))
        inserts = [
            f"-- a broken line: {record!r}"
            if isinstance(record, bytes)
            else f"INSERT INTO {quoted(self.table.name)} ({columns}) VALUES ({', '.join(map(literal, record))});"
            for record in self.records
        ]
        cut = f"pieces of {self.piece}, commit_every = {self.commit_every}, second file from {self.second}"
        told = f"-- role {self.table.role}, {self.format}, {cut}, record_duplicates = {self.record_duplicates}"
        told += "".join(f", {key} = {value!r}" for key, value in self.load.items())
        return "\n".join(["", *(f"{line};" for line in (*self.table.ddl, *self.table.present)), told, *inserts])


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def maybe(draw: Draw, *choices: str, blanks: int = 4) -> list[str]:
    """One of ``choices`` or, ``blanks`` times as often as each of them, none."""
    chosen = draw(st.sampled_from(("",) * blanks + choices))
    return [chosen] if chosen else []


# Values: some equal in the database and different in the file, and some that are none of the type


@dataclass(frozen=True)
class Kind:
    """A column's type, values of it, and texts that it refuses, be it the mapper or the database that says so."""

    type: str
    good: tuple[str, ...]
    bad: tuple[str, ...] = ()
    is_key: bool = True


TEXTS = ("x", "y", "X", "x ", "", "á", "a\nb", 'q"q', "tab\t\\N")

POSTGRESQL_KINDS = (
    Kind("text", TEXTS),
    Kind("varchar(3)", ("x", "X", "xyz", "x "), ("wxyz", "x      ")),
    Kind("char(3)", ("x", "x ", "X", "xyz"), ("wxyz",)),
    Kind("citext", ("x", "X", "y", "Y")),
    Kind('text COLLATE "caseless"', ("x", "X", "y", "á")),
    Kind("numeric", ("1", "1.0", "1.00", "2", "NaN", "-0", "123456789012345678901234567890123456789012"), ("abc",)),
    Kind("numeric(4,2)", ("1", "1.0", "2", "-0", "99.99"), ("100", "1.005", "x")),
    Kind("double precision", ("0", "-0.0", "NaN", "1.5", "0.0", "Infinity"), ("1e999", "x")),
    Kind("real", ("0", "-0.0", "NaN", "0.1", "0.10"), ("1e60",)),
    Kind("smallint", ("1", "2", "3"), ("40000", "1.5", "x")),
    Kind("bigint", ("1", "2", "9223372036854775807"), ("9223372036854775808",)),
    Kind("boolean", ("true", "false"), ("maybe",)),
    Kind("date", ("2024-02-29", "2024-03-01", "0001-01-01"), ("2023-02-29", "x")),
    Kind("time", ("00:00:00", "12:30:00.5"), ("25:00:00",)),
    Kind("timestamp", ("2024-02-29 12:00:00", "2024-02-29T12:00:00", "2024-03-01 00:00:00.000001"), ("x",)),
    Kind("timestamptz", ("2024-02-29 12:00:00Z", "2024-02-29 13:00:00+01:00", "2024-03-01 00:00:00Z"), ("x",)),
    Kind("interval", ("1 day", "24:00:00", "1 mon", "30 days"), ("x",)),
    Kind("uuid", ("12345678-1234-1234-1234-123456789abc", "12345678-1234-1234-1234-123456789ABC"), ("1234",)),
    Kind("inet", ("127.0.0.1", "127.0.0.1/32", "127.0.0.0/8"), ("x",)),
    Kind("int[]", ("{1,2}", "{ 1, 2 }", "{NULL}", "{}"), ("{x}", "1")),
    Kind("int4range", ("[1,3)", "[1,2]", "[5,7)", "[2,6)", "empty"), ("[3,1)", "x")),
    Kind("jsonb", ('{"a": 1}', '{"a":1.0}', '{"a":1}', "null"), ("{",)),
    Kind("json", ('{"a": 1}', '{"a":1}'), ("{",), is_key=False),
    Kind("bytea", ("\\x00ff", "\\x00FF", "\\x"), ("\\x0",)),
    Kind("mood", ("sad", "ok"), ("bad",)),
    Kind("positive", ("1", "2", "3"), ("0", "-1", "x")),
    Kind("shouted", ("X", "Y"), ("x",)),
    Kind("roomy", ("1", "2", "3")),
)

# What some of the types and tables need. A function sees its table when it is called, not when it is made.
POSTGRESQL_SURROUNDINGS = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN positive AS int NOT NULL CHECK (VALUE > 0)",
    "CREATE DOMAIN shouted AS text CONSTRAINT loud CHECK (VALUE = upper(VALUE))",
)


def counting(name: str, table: str, volatility: str, language: str = "plpgsql") -> str:
    """A function that says how many rows are in the table: what it says is different for each row of the loop."""
    query = f"SELECT count(*) FROM {table}"
    body = query if language == "sql" else f"BEGIN RETURN ({query}); END"
    return f"CREATE FUNCTION {name}() RETURNS bigint LANGUAGE {language} {volatility} AS $$ {body} $$"


@dataclass(frozen=True)
class Names:
    """The quoted names of the table and its columns."""

    table: str
    id: str
    v: str
    n: str
    p: str
    s: str
    w: str


PLAIN = Names("t", "id", "v", "n", "p", "s", "w")
ODD = Names('T "x"', 'Id "1"', "select", "per%cent", ":p", "Größe", "a.b c")


def _in_sql(names: Names) -> Names:
    return Names(*(quoted(name) for name in (names.table, names.id, names.v, names.n, names.p, names.s, names.w)))


DEFERRABLE = (" DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED")


@st.composite
def postgresql_examples(draw: Draw, version: int) -> Example:
    """Any table of PostgreSQL ``version`` and records for it."""
    return _Postgresql(draw, version).example()


class _Columns:
    """The columns that every table has: a number, a value of any type, a small number, a parent, a text, any type."""

    def __init__(self, draw: Draw, kinds: Sequence[Kind], id_types: Sequence[str]) -> None:
        self.names = draw(st.sampled_from((PLAIN, PLAIN, PLAIN, ODD)))
        self.sql = _in_sql(self.names)
        self.most = draw(st.sampled_from((40, 12, 4)))
        self.v = draw(st.sampled_from([kind for kind in kinds if kind.is_key]))
        self.w = draw(st.sampled_from(kinds))
        self.id_type = draw(st.sampled_from(id_types))
        left_out = draw(st.sampled_from(("", "", "", self.names.w, self.names.s, self.names.p, self.names.n)))
        every = (self.names.id, self.names.v, self.names.n, self.names.p, self.names.s, self.names.w)
        self.given = tuple(name for name in every if name != left_out)

    def declared(self) -> list[str]:
        c = self.sql
        return [
            f"{c.id} {self.id_type}",
            f"{c.v} {self.v.type}",
            f"{c.n} int",
            f"{c.p} int",
            f"{c.s} text",
            f"{c.w} {self.w.type}",
        ]

    def records(self, draw: Draw, least: int, most: int, *, bad: bool) -> list[Cells]:
        cells = {
            self.names.id: self._cell(Kind("", tuple(map(str, range(self.most))), ("x",)), bad),
            self.names.v: self._cell(self.v, bad),
            self.names.n: self._cell(Kind("", tuple(map(str, range(9))), ("99999999999",)), bad),
            self.names.p: self._cell(Kind("", ("1", "2", "3"), ("7", "8")), bad),
            self.names.s: self._cell(Kind("", (*TEXTS, "a", "b", "c", "d"), ("\ufeff",)), bad),
            self.names.w: self._cell(self.w, bad),
        }
        row = st.tuples(*(cells[name] for name in self.given))
        rows: list[Cells] = draw(st.lists(row, min_size=least, max_size=most))
        return rows

    def _cell(self, kind: Kind, bad: bool) -> st.SearchStrategy[str | None]:
        """Bad values and NULLs are rare, or no row would be good."""
        rare = (*kind.bad, None) if bad else ()
        return st.sampled_from((*kind.good * 3, *rare) if rare else kind.good)


class _Postgresql:
    """Draws a table of PostgreSQL; what can be drawn is written out here."""

    def __init__(self, draw: Draw, version: int) -> None:
        self._draw = draw
        self._version = version
        integers = ("int", "int", "bigint", "smallint", "serial", "int GENERATED BY DEFAULT AS IDENTITY", "numeric(3)")
        self._columns = _Columns(draw, POSTGRESQL_KINDS, integers)
        self._c = self._columns.sql
        self._partitioning = "".join(maybe(draw, "RANGE", "LIST", "HASH", blanks=15))
        self._role = draw(st.sampled_from((*["owner"] * 8, "plain", "plain", "poor", "blind")))
        self._refers_to_itself = False

    def _maybe(self, *choices: str, blanks: int = 4) -> list[str]:
        return maybe(self._draw, *choices, blanks=blanks)

    def example(self) -> Example:
        c, columns, draw = self._c, self._columns, self._draw
        body = [*columns.declared(), *self._keys(), *self._checks(), *self._references(), *self._extra_columns()]
        unlogged = "" if self._partitioning else "".join(self._maybe("UNLOGGED ", blanks=20))
        by = f" PARTITION BY {self._partitioning} ({c.n})" if self._partitioning else ""
        table, target = f"CREATE {unlogged}TABLE {c.table} ({', '.join(body)}){by}", columns.names.table
        ddl = [*POSTGRESQL_SURROUNDINGS, self._parent(), "CREATE TABLE log (what text, n bigint)"]
        ddl += self._counting_functions()
        altered = self._altered()
        ddl += [table, *self._partitions(), *self._indexes(), *altered]
        surprises = self._surprises()
        looked_at = [self._query(c.table), "SELECT what, n FROM log"]
        if surprises and surprises[0].startswith("CREATE VIEW"):
            target = "seen"
        present = self._rows_of(c.table)
        is_inheritable = not self._partitioning and not any("whole" in statement for statement in altered)
        if is_inheritable and self._maybe("child", blanks=12):  # a CHECK of the whole row cannot be inherited
            ddl.append(f"CREATE TABLE child () INHERITS ({c.table})")
            present += self._rows_of("child")
        return Example(
            table=Table(
                name=target,
                ddl=(*ddl, *surprises),
                given=columns.given,
                looked_at=tuple(looked_at),
                present=tuple(present),
                role=self._role,
            ),
            **file_facts(draw, columns),
        )

    def _query(self, table: str) -> str:
        columns = ", ".join(f"{quoted(name)}::text" for name in self._columns.given)
        return f"SELECT tableoid::regclass::text, {columns}, d FROM {table}"

    def _rows_of(self, table: str) -> list[str]:
        """Rows that are there before, from the table's own values."""
        columns = ", ".join(map(quoted, self._columns.given))
        rows = self._columns.records(self._draw, 0, 6, bad=False)
        return [f"INSERT INTO {table} ({columns}) VALUES ({', '.join(map(literal, row))})" for row in rows]

    def _parent(self) -> str:
        made = "CREATE TABLE parent (k int PRIMARY KEY, q int, UNIQUE (k, q)); INSERT INTO parent SELECT i, i FROM"
        more = self._maybe(
            "; ALTER TABLE parent ENABLE ROW LEVEL SECURITY",
            "; CREATE TABLE more () INHERITS (parent); INSERT INTO more VALUES (7, 7)",
            blanks=10,
        )
        return f"{made} generate_series(1, 3) i{''.join(more)}"

    def _counting_functions(self) -> list[str]:
        volatility = self._draw(st.sampled_from(("STABLE", "VOLATILE")))
        return [
            counting("room", self._c.table, volatility),
            "CREATE DOMAIN roomy AS int CHECK (VALUE IS NULL OR room() < 9)",
        ]

    def _keys(self) -> list[str]:
        c = self._c
        if self._partitioning:
            keys = (
                f"PRIMARY KEY ({c.id}, {c.n})",
                f"UNIQUE ({c.n}, {c.v})",
                f"UNIQUE NULLS NOT DISTINCT ({c.n}, {c.s})",
            )
            return [*self._maybe(keys[0], blanks=1), *self._maybe(*keys[1:])]
        primary = self._maybe(f"PRIMARY KEY ({c.id})", f"PRIMARY KEY ({c.id}, {c.n})", f"UNIQUE ({c.id})", blanks=1)
        self._refers_to_itself = (
            bool(primary) and primary[0].endswith(f"({c.id})") and bool(self._maybe("x", blanks=12))
        )
        if primary and not self._refers_to_itself:
            primary[0] += "".join(self._maybe(*DEFERRABLE, blanks=6))
        others = [
            *self._maybe(f"UNIQUE ({c.v})", f"UNIQUE NULLS NOT DISTINCT ({c.v})", f"UNIQUE ({c.v}, {c.n})", blanks=3),
            *self._maybe(f"UNIQUE ({c.n}, {c.s})", f"UNIQUE NULLS NOT DISTINCT ({c.s}, {c.n})", f"UNIQUE ({c.s})"),
        ]
        others = [key + "".join(self._maybe(*DEFERRABLE, blanks=8)) for key in others]
        return [*primary, *others, *self._exclusions()]

    def _exclusions(self) -> list[str]:
        c = self._c
        plain = (f"EXCLUDE USING gist ({c.n} WITH =)", f"EXCLUDE (({c.n} % 5) WITH =) WHERE ({c.n} > 3)")
        if self._columns.v.type != "int4range":
            return self._maybe(*plain, blanks=20)
        ranges: tuple[str, ...] = (
            f"EXCLUDE USING gist ({c.v} WITH &&)",
            f"EXCLUDE USING gist ({c.n} WITH =, {c.v} WITH &&)",
        )
        if self._version >= 18:
            ranges += (f"UNIQUE ({c.n}, {c.v} WITHOUT OVERLAPS)",) * 2
        return self._maybe(*ranges, blanks=1)

    def _checks(self) -> list[str]:
        c = self._c
        return [
            *self._maybe(
                f"CHECK ({c.n} < 7)",
                f"CHECK ({c.id} <> {c.n} OR {c.s} IS NULL)",
                f"CHECK (10 / {c.n} < 7)",
                f"CHECK ({c.v} IS NOT NULL OR {c.s} IS NOT NULL)",
                f"CHECK (length({c.s}) < 2)",
            ),
            *self._maybe(
                "CHECK (room() < 9)", f"CHECK ({c.id} >= room())", "CONSTRAINT few CHECK (room() < 5)", blanks=50
            ),
        ]

    def _references(self) -> list[str]:
        c = self._c
        to_parent = self._maybe(
            f"FOREIGN KEY ({c.p}) REFERENCES parent",
            f"FOREIGN KEY ({c.p}) REFERENCES parent ON DELETE CASCADE",
            f"FOREIGN KEY ({c.p}, {c.n}) REFERENCES parent (k, q)",
            f"FOREIGN KEY ({c.p}, {c.n}) REFERENCES parent (k, q) MATCH FULL",
        )
        to_itself = [f"FOREIGN KEY ({c.n}) REFERENCES {c.table} ({c.id})"] if self._refers_to_itself else []
        return [key + "".join(self._maybe(*DEFERRABLE)) for key in (*to_parent, *to_itself)]

    def _extra_columns(self) -> list[str]:
        c = self._c
        generated: tuple[str, ...] = (
            f"g int GENERATED ALWAYS AS ({c.n} * 2) STORED",
            f"g int GENERATED ALWAYS AS ({c.n} / 2) STORED UNIQUE",
            f"g int GENERATED ALWAYS AS (10 / {c.n}) STORED CHECK (g < 9)",
        )
        if self._version >= 18:
            generated += (f"g int GENERATED ALWAYS AS (10 / {c.n}) VIRTUAL CHECK (g < 9)",)
        if self._partitioning:
            generated = generated[:1]
        default = "".join(self._maybe(" DEFAULT 5", " DEFAULT room()", " DEFAULT room() CHECK (d < 7)", blanks=20))
        return [
            f"d bigint{default}",
            *self._maybe(*generated, blanks=8),
            *self._maybe("i int GENERATED ALWAYS AS IDENTITY", "i serial", "i int DEFAULT 3 NOT NULL", blanks=8),
        ]

    def _partitions(self) -> list[str]:
        table = self._c.table
        bounds = {
            "": (),
            "RANGE": ("FROM (0) TO (4)", "FROM (4) TO (7)"),
            "LIST": ("IN (0, 1, 2)", "IN (3, 4, NULL)"),
            "HASH": ("WITH (MODULUS 2, REMAINDER 0)", "WITH (MODULUS 2, REMAINDER 1)"),
        }[self._partitioning]
        made = [f"CREATE TABLE part{at} PARTITION OF {table} FOR VALUES {bound}" for at, bound in enumerate(bounds)]
        if made and self._maybe("x", blanks=2):
            made.append(f"ALTER TABLE part0 ADD CHECK ({self._c.s} <> 'x')")
        if made and self._maybe("x", blanks=3):
            made.append(f"CREATE UNIQUE INDEX ON part1 (lower({self._c.s}))")
        return made

    def _indexes(self) -> list[str]:
        c = self._c
        if self._partitioning:
            return []
        indexes = (
            f"(lower({c.s}))",
            f"({c.s}) WHERE {c.n} > 3",
            f"({c.id}, lower({c.s}))",
            f'({c.s} COLLATE "caseless")',
            f"({c.n}) INCLUDE ({c.s})",
            f"({c.v}) NULLS NOT DISTINCT WHERE {c.n} = 1",
        )
        return [f"CREATE UNIQUE INDEX ON {c.table} {index}" for index in self._maybe(*indexes, blanks=12)]

    def _altered(self) -> list[str]:
        """What is said of a table that is there already."""
        c = self._c
        checks = [
            "ADD CHECK (room() < 7)",
            f"ADD CHECK ({c.n} < 8) NOT VALID",
            "ADD CHECK (tableoid > 0::oid)",
        ]
        if not self._partitioning:
            checks.append(f"ADD CONSTRAINT whole CHECK ({c.table}.* IS DISTINCT FROM NULL AND {c.n} < 8)")
            checks.append(f"ADD FOREIGN KEY ({c.p}) REFERENCES parent NOT VALID")
        if self._version >= 18:
            checks += [f"ADD CHECK ({c.n} < 3) NOT ENFORCED"]
            checks += [] if self._partitioning else [f"ADD FOREIGN KEY ({c.p}) REFERENCES parent NOT ENFORCED"]
        required: tuple[str, ...] = (f"ALTER {c.s} SET NOT NULL", f"ALTER {c.v} SET NOT NULL")
        if self._version >= 18:
            required += (f"ADD CONSTRAINT given NOT NULL {c.s} NOT VALID",)
        return [f"ALTER TABLE {c.table} {what}" for what in (*self._maybe(*required), *self._maybe(*checks, blanks=20))]

    def _surprises(self) -> list[str]:
        """At most one of the things that make an INSERT more than an INSERT."""
        make = self._draw(st.sampled_from((*[list] * 6, self._trigger, self._rule, self._view, self._policies)))
        made: list[str] = make()
        return made

    def _trigger(self) -> list[str]:
        c = self._c
        moment, body = self._draw(st.sampled_from(tuple(_triggers(c))))
        kind = "CONSTRAINT TRIGGER" if "DEFERRED" in moment else "TRIGGER"
        table = c.table
        if self._partitioning and "EACH ROW" in moment:
            table = self._draw(st.sampled_from((c.table, "part0")))
        return [
            f"CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
            f"CREATE {kind} fire {moment.replace(' INSERT', f' INSERT ON {table}')} EXECUTE FUNCTION fire()",
            *(f"ALTER TABLE {table} {how} TRIGGER fire" for how in self._maybe("DISABLE", "ENABLE ALWAYS", blanks=6)),
        ]

    def _rule(self) -> list[str]:
        c = self._c
        rules = (
            f"DO ALSO INSERT INTO log VALUES ('rule', new.{c.n})",
            f"WHERE new.{c.n} > 5 DO INSTEAD NOTHING",
            "DO INSTEAD NOTHING",
        )
        return [f"CREATE RULE other AS ON INSERT TO {c.table} {self._draw(st.sampled_from(rules))}"]

    def _view(self) -> list[str]:
        c = self._c
        names = ", ".join(map(quoted, self._columns.given))
        new = ", ".join(f"new.{quoted(name)}" for name in self._columns.given)
        body = self._draw(
            st.sampled_from(
                (
                    f"INSERT INTO {c.table} ({names}) VALUES ({new}); RETURN new;",
                    f"IF new.{c.id} = 3 THEN RETURN NULL; END IF; INSERT INTO {c.table} ({names}) VALUES ({new});"
                    f" INSERT INTO log VALUES ('instead', new.{c.id}); RETURN new;",
                    "",
                )
            )
        )
        view = f"CREATE VIEW seen AS SELECT {names} FROM {c.table}"
        if not body:
            return [view + "".join(self._maybe(f" WHERE {c.id} < 30", f" WHERE {c.id} < 30 WITH CHECK OPTION"))]
        return [
            view,
            f"CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
            "CREATE TRIGGER instead INSTEAD OF INSERT ON seen FOR EACH ROW EXECUTE FUNCTION instead()",
        ]

    def _policies(self) -> list[str]:
        """Row level security, and mostly a role that it is for."""
        c = self._c
        self._role = self._draw(st.sampled_from(("plain", "poor", "blind", "owner")))
        seen, new = self._draw(st.sampled_from((("true", "true"), (f"{c.n} < 3", "true"), ("true", f"{c.n} < 8"))))
        return [
            f"ALTER TABLE {c.table} ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY seeing ON {c.table} FOR SELECT USING ({seen})",
            f"CREATE POLICY adding ON {c.table} FOR INSERT WITH CHECK ({new})",
        ]


def _triggers(c: Names) -> Iterator[tuple[str, str]]:
    """When a trigger fires, and what it does: drop, change or refuse rows, look at the table, end the load."""
    before, after = "BEFORE INSERT FOR EACH ROW", "AFTER INSERT FOR EACH ROW"
    statement = "INSERT FOR EACH STATEMENT"
    count = f"SELECT count(*) FROM {c.table}"
    yield before, f"IF new.{c.n} = 2 THEN RETURN NULL; END IF; RETURN new;"
    yield before, f"new.{c.s} := coalesce(new.{c.s}, 'filled'); new.{c.id} := new.{c.id} % 20; RETURN new;"
    yield before, f"IF new.{c.n} = 4 THEN {_refusing('no_four')} END IF; RETURN new;"
    yield before, f"IF new.{c.n} = 8 THEN RAISE 'unknown'; END IF; RETURN new;"
    yield after, f"IF ({count}) % 5 = 4 THEN {_refusing('fifth')} END IF; RETURN NULL;"
    yield f"{after} WHEN (new.{c.n} > 3)", "INSERT INTO log VALUES (tg_when, 1); RETURN NULL;"
    yield f"AFTER {statement}", f"INSERT INTO log SELECT tg_when, count(*) FROM {c.table}; RETURN NULL;"
    yield f"BEFORE {statement}", f"INSERT INTO log SELECT tg_when, count(*) FROM {c.table}; RETURN NULL;"
    several = f"IF (SELECT count(*) FROM fresh) > 1 THEN {_refusing('one')} END IF; RETURN NULL;"
    yield "AFTER INSERT REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT", several
    deferred = "AFTER INSERT DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
    yield deferred, f"IF ({count}) > 7 THEN {_refusing('seven')} END IF; RETURN NULL;"


def _refusing(constraint: str) -> str:
    return f"RAISE EXCEPTION USING errcode = '23514', constraint = '{constraint}';"


# SQLite

SQLITE_KINDS = (
    Kind("TEXT", TEXTS),
    Kind("VARCHAR(3)", ("x", "X", "xyz", "x "), ("wxyz",)),
    Kind("VARCHAR(3) COLLATE NOCASE", ("x", "X", "y")),
    Kind("CHAR(3)", ("x", "x ", "X", "xyz"), ("wxyz",)),
    Kind("NUMERIC(4, 2)", ("1", "1.0", "2", "-0", "99.99"), ("100", "x")),
    Kind("DOUBLE PRECISION", ("0", "-0.0", "1.5", "0.0"), ("x",)),
    Kind("SMALLINT", ("1", "2", "3"), ("40000", "x")),
    Kind("BIGINT", ("1", "2", "9223372036854775807"), ("9223372036854775808",)),
    Kind("BOOLEAN", ("true", "false"), ("maybe",)),
    Kind("DATE", ("2024-02-29", "2024-03-01"), ("2023-02-29",)),
    Kind("TIMESTAMP", ("2024-02-29 12:00:00", "2024-02-29T12:00:00"), ("x",)),
    Kind("JSON", ('{"a": 1}', '{"a":1}'), ("{",)),
    Kind("BLOB", ("\\x00ff", "\\x"), ("\\x0",)),
)


@st.composite
def sqlite_examples(draw: Draw) -> Example:
    """Any table of SQLite and records for it."""
    columns = _Columns(draw, SQLITE_KINDS, ("INTEGER", "BIGINT", "NUMERIC(3)"))
    c = columns.sql
    body = [*columns.declared(), "d INTEGER DEFAULT 5", *_sqlite_constraints(draw, c)]
    has_key = any(part.startswith("PRIMARY KEY") for part in body)
    options = maybe(draw, " WITHOUT ROWID", blanks=8) if has_key else []
    ddl = [
        "CREATE TABLE parent (k INTEGER PRIMARY KEY, q INTEGER, UNIQUE (k, q))",
        "INSERT INTO parent VALUES (1, 1), (2, 2), (3, 3)",
        "CREATE TABLE log (what TEXT, n INTEGER)",
        f"CREATE TABLE {c.table} ({', '.join(body)}){''.join(options)}",
        *(
            f"CREATE UNIQUE INDEX ux ON {c.table} {index}"
            for index in maybe(
                draw,
                f"(lower({c.s}))",
                f"({c.s}) WHERE {c.n} > 3",
                f"({c.s} COLLATE NOCASE)",
                f"({c.id} DESC, {c.s})",
                blanks=6,
            )
        ),
    ]
    surprise = _sqlite_surprise(draw, c, columns)
    looked_at = ", ".join(quoted(name) for name in columns.given)
    names = ", ".join(map(quoted, columns.given))
    present = [
        f"INSERT INTO {c.table} ({names}) VALUES ({', '.join(map(literal, row))})"
        for row in columns.records(draw, 0, 6, bad=False)
    ]
    return Example(
        table=Table(
            name="seen" if surprise and surprise[0].startswith("CREATE VIEW") else columns.names.table,
            ddl=(*ddl, *surprise),
            given=columns.given,
            looked_at=(f"SELECT {looked_at}, d FROM {c.table}", "SELECT what, n FROM log"),
            present=tuple(present),
        ),
        **file_facts(draw, columns),
    )


def _sqlite_constraints(draw: Draw, c: Names) -> list[str]:
    key = maybe(draw, f"PRIMARY KEY ({c.id})", f"PRIMARY KEY ({c.id}, {c.n})", f"UNIQUE ({c.id})", blanks=1)
    to_itself = [f"FOREIGN KEY ({c.n}) REFERENCES {c.table} ({c.id})"] if key and key[0].endswith(f"({c.id})") else []
    return [
        *maybe(
            draw,
            f"g INTEGER GENERATED ALWAYS AS ({c.n} * 2) STORED",
            f"g INTEGER GENERATED ALWAYS AS ({c.n} / 2) VIRTUAL CHECK (g < 4)",
            blanks=6,
        ),
        *key,
        *maybe(draw, f"UNIQUE ({c.v})", f"UNIQUE ({c.v}, {c.n})", f"UNIQUE ({c.v}) ON CONFLICT FAIL", blanks=3),
        *maybe(draw, f"UNIQUE ({c.n}, {c.s})", f"UNIQUE ({c.s})"),
        *maybe(
            draw,
            f"CHECK ({c.n} < 7)",
            f"CONSTRAINT ck CHECK ({c.id} <> {c.n} OR {c.s} IS NULL)",
            f"CHECK ({c.s} IS NOT NULL)",
            f"CHECK (length({c.s}) < 2)",
        ),
        *maybe(
            draw,
            f"FOREIGN KEY ({c.p}) REFERENCES parent (k)",
            f"FOREIGN KEY ({c.p}, {c.n}) REFERENCES parent (k, q)",
            f"FOREIGN KEY ({c.p}) REFERENCES parent (k) ON DELETE CASCADE",
        ),
        *(maybe(draw, *to_itself, blanks=8) if to_itself else []),
    ]


def _sqlite_surprise(draw: Draw, c: Names, columns: _Columns) -> list[str]:
    names = ", ".join(map(quoted, columns.given))
    new = ", ".join(f"new.{quoted(name)}" for name in columns.given)
    bodies = (
        f"AFTER INSERT ON {c.table} BEGIN INSERT INTO log SELECT 'after', count(*) FROM {c.table}; END",
        f"BEFORE INSERT ON {c.table} BEGIN SELECT RAISE(ABORT, 'no four') WHERE new.{c.n} = 4; END",
        f"BEFORE INSERT ON {c.table} BEGIN SELECT RAISE(IGNORE) WHERE new.{c.n} = 2; END",
        f"AFTER INSERT ON {c.table} BEGIN INSERT INTO log VALUES ('fail', new.{c.n});"
        f" SELECT RAISE(FAIL, 'no fail') WHERE new.{c.n} = 4; END",
        f"AFTER INSERT ON {c.table} WHEN (SELECT count(*) FROM {c.table}) > 7 BEGIN SELECT RAISE(ABORT, 'full'); END",
        f"INSTEAD OF INSERT ON seen BEGIN INSERT INTO {c.table} ({names}) VALUES ({new});"
        " INSERT INTO log VALUES ('instead', 1); END",
    )
    chosen = draw(st.sampled_from(("",) * 12 + bodies))
    if not chosen:
        return []
    view = [f"CREATE VIEW seen AS SELECT {names} FROM {c.table}"] if chosen.startswith("INSTEAD") else []
    return [*view, f"CREATE TRIGGER fire {chosen}"]


# Files

# Each costs itself: a quote that is left open could swallow the records behind it, and their numbers.
BROKEN_LINES = (b"1\n", b",,,,,,,,,,,\n", b'"x"y\n', b"\xff\n", b"a\0\n", b"\n")


def file_facts(draw: Draw, columns: _Columns) -> dict[str, Any]:
    """The records and how they are cut, as the arguments of an ``Example``."""
    bad = draw(st.booleans())
    least = draw(st.sampled_from((1, 10, 30)))  # lists that may be short are short
    records: list[Cells | bytes] = [*columns.records(draw, least, 60, bad=bad)]
    form = draw(st.sampled_from(("csv", "csv", "csv", "parquet")))
    if form == "csv":
        for line in draw(st.lists(st.sampled_from(BROKEN_LINES), max_size=2)) if bad else ():
            records.insert(draw(st.integers(0, len(records))), line)
    return {
        "records": tuple(records),
        "piece": draw(st.sampled_from((100, 20, 12, 8, 6, 4, 3, 1))),
        "commit_every": draw(st.sampled_from(("run", "file", 100, 20, 7, 3, 2, 1))),
        "record_duplicates": draw(st.sampled_from((True, True, False))),
        "second": draw(st.one_of(st.none(), st.integers(0, len(records)))),
        "format": form,
    }
