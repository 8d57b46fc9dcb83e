"""On any table, updating by any method ends with the rows, verdicts and counts of a statement for each row."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.comparison import Postgresql, Sqlite, require_equal_methods
from tests.equivalence.campaigns import few, many
from tests.tables import Draw, Example, Table, postgresql_examples, quoted, sqlite_examples

FEW = 5


@st.composite
def _updating(draw: Draw, example: Example, *more: str) -> Example:
    """The same with updates, by a key that the table mostly has; sometimes an UPDATE fires a trigger, one of ``more``,
    or another table refers to what is updated."""
    keys = _keys_of(example.table)
    key = draw(st.sampled_from(list(keys.values()) or [example.table.given[:1]]))
    rest = tuple(name for name in example.table.given if name not in key)
    load: dict[str, Any] = {"on_duplicate": "update", "key": key}
    if rest and draw(st.sampled_from((False, False, True))):
        load["newer_by"] = draw(st.sampled_from(rest))
    if rest and draw(st.sampled_from((False, False, True))):
        chosen = draw(st.sets(st.sampled_from(rest), min_size=1))
        load["update_columns"] = tuple(sorted(chosen | ({load["newer_by"]} if "newer_by" in load else set())))
    surprises = [] if example.table.name == "seen" else [*more, *keys]
    surprise = draw(st.sampled_from((*[""] * 6, *surprises)))
    if surprise in keys:
        return replace(example, table=_referred(draw, example.table, surprise), load=load)
    with_trigger = replace(example.table, ddl=(*example.table.ddl, surprise))
    return replace(example, table=with_trigger if surprise else example.table, load=load)


def _keys_of(table: Table) -> dict[str, tuple[str, ...]]:
    """The unique constraints of the table: their columns as they are declared, and by name."""
    ddl = "".join(table.ddl).replace("parent (k int PRIMARY KEY, q int, UNIQUE (k, q))", "")
    found = re.findall(r"(?:UNIQUE|PRIMARY KEY)(?: NULLS NOT DISTINCT)? \(([^()]*)\)(?! DEFERRABLE)", ddl)
    names = {quoted(name): name for name in table.given}
    keys = {columns: tuple(names[part] for part in columns.split(", ") if part in names) for columns in found}
    return {columns: key for columns, key in keys.items() if len(key) == len(columns.split(", "))}


def _referred(draw: Draw, table: Table, columns: str) -> Table:
    """With rows of another table that refer to those which are there."""
    name = quoted(table.name)
    rule = draw(st.sampled_from(("", " ON UPDATE CASCADE", " ON UPDATE SET NULL")))
    parts = columns.split(", ")
    declared = [_type_of(table, part) for part in parts]
    own = [f"r{at}" for at in range(len(parts))]
    kind = "UNLOGGED " if "UNLOGGED" in _making(table) else ""  # only such a table may refer to one
    body = [
        *map(" ".join, zip(own, declared, strict=True)),
        f"FOREIGN KEY ({', '.join(own)}) REFERENCES {name} ({columns}){rule}",
    ]
    return replace(
        table,
        ddl=(*table.ddl, f"CREATE {kind}TABLE kid ({', '.join(body)})"),
        present=(*table.present, f"INSERT INTO kid SELECT {columns} FROM {name}"),
        looked_at=(*table.looked_at, "SELECT * FROM kid"),
    )


def _type_of(table: Table, column: str) -> str:
    declared = re.search(rf"{re.escape(column)} (.*?), \"", _making(table))
    assert declared is not None
    return {"serial": "int"}.get(declared[1], declared[1].partition(" GENERATED")[0])


def _making(table: Table) -> str:
    return next(statement for statement in table.ddl if f" {quoted(table.name)} (" in statement)


def _on_postgresql(postgresql: Postgresql, data: st.DataObject, folder: Path) -> None:
    version = postgresql.admin.info.server_version // 10_000
    example = data.draw(postgresql_examples(version))
    table = quoted(example.table.name)
    note = (
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" INSERT INTO log VALUES ('update', 1); RETURN new; END $$; CREATE TRIGGER note BEFORE UPDATE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION note()"
    )
    require_equal_methods(postgresql, data.draw(_updating(example, note), "the example"), folder)


def _on_sqlite(sqlite: Sqlite, data: st.DataObject, folder: Path) -> None:
    example = data.draw(sqlite_examples())
    table, second = quoted(example.table.name), quoted(example.table.given[1])
    triggers = (
        f"CREATE TRIGGER note AFTER UPDATE ON {table} BEGIN INSERT INTO log VALUES ('update', 1); END",
        f"CREATE TRIGGER note BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'no') WHERE new.{second} IS NULL; END",
    )
    require_equal_methods(sqlite, data.draw(_updating(example, *triggers), "the example"), folder)


@few(FEW)
@given(data=st.data())
def test_methods_agree_on_updates_of_any_table_of_postgresql(
    postgresql: Postgresql, tmp_path: Path, data: st.DataObject
) -> None:
    _on_postgresql(postgresql, data, tmp_path)


@many
@given(data=st.data())
def test_methods_agree_on_updates_of_any_table_of_postgresql_many_times(
    postgresql: Postgresql, tmp_path: Path, data: st.DataObject
) -> None:
    _on_postgresql(postgresql, data, tmp_path)


@few(FEW)
@given(data=st.data())
def test_methods_agree_on_updates_of_any_table_of_sqlite(sqlite: Sqlite, tmp_path: Path, data: st.DataObject) -> None:
    _on_sqlite(sqlite, data, tmp_path)


@many
@given(data=st.data())
def test_methods_agree_on_updates_of_any_table_of_sqlite_many_times(
    sqlite: Sqlite, tmp_path: Path, data: st.DataObject
) -> None:
    _on_sqlite(sqlite, data, tmp_path)
