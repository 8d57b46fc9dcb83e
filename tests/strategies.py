"""Hypothesis strategies: small tables with many constraints, and rows that keep running into them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from hypothesis import strategies as st

Row = dict[str, int | None]
COLUMNS = ("a", "b", "c", "p", "parent")
PARENTS = (0, 1)  # the keys that are in the table p; the rows refer to others too
LIMIT = 3  # ck_c refuses what is not below


@dataclass(frozen=True)
class Broken:
    """A constraint that a row breaks, as a refusal names it."""

    reason: str
    sqlstate: str
    constraint: str | None = None
    column: str | None = None


@dataclass(frozen=True)
class Shape:
    """A table: its name says which one, so that a test can make each of them once."""

    primary_key: tuple[str, ...]
    unique: dict[str, tuple[str, ...]] = field(hash=False)
    not_null: bool
    check: bool
    to_parent: bool
    to_itself: bool
    name: str

    def create(self) -> str:
        parts = [f"{column} INTEGER{' NOT NULL' if column == 'c' and self.not_null else ''}" for column in COLUMNS]
        if self.primary_key:
            parts.append(f"PRIMARY KEY ({', '.join(self.primary_key)})")
        parts += [f"CONSTRAINT {name} UNIQUE ({', '.join(key)})" for name, key in self.unique.items()]
        if self.check:
            parts.append(f"CONSTRAINT {self.name}_ck CHECK (c < {LIMIT})")
        if self.to_parent:
            parts.append(f"CONSTRAINT {self.name}_fk_p FOREIGN KEY (p) REFERENCES p (id)")
        if self.to_itself:
            parts.append(f"CONSTRAINT {self.name}_fk_self FOREIGN KEY (parent) REFERENCES {self.name} (a)")
        return f"CREATE TABLE {self.name} ({', '.join(parts)})"

    def broken_by(self, row: Row, table: list[Row]) -> list[Broken]:
        """By hand: the constraints that ``row`` breaks when ``table`` is what the table holds."""
        return [*self._broken_by_itself(row), *self._broken_keys(row, table), *self._broken_references(row, table)]

    def _broken_by_itself(self, row: Row) -> Iterator[Broken]:
        required = [*self.primary_key, *(["c"] if self.not_null and "c" not in self.primary_key else [])]
        yield from (Broken("not_null", "23502", column=column) for column in required if row[column] is None)
        if self.check and row["c"] is not None and row["c"] >= LIMIT:
            yield Broken("check", "23514", f"{self.name}_ck")

    def _broken_keys(self, row: Row, table: list[Row]) -> Iterator[Broken]:
        keys = self.unique | ({f"{self.name}_pkey": self.primary_key} if self.primary_key else {})
        for name, key in keys.items():
            wanted = [row[column] for column in key]
            if None not in wanted and any([other[column] for column in key] == wanted for other in table):
                yield Broken("unique", "23505", name)

    def _broken_references(self, row: Row, table: list[Row]) -> Iterator[Broken]:
        if self.to_parent and row["p"] is not None and row["p"] not in PARENTS:
            yield Broken("foreign_key", "23503", f"{self.name}_fk_p")
        if (
            self.to_itself
            and row["parent"] is not None
            and row["parent"] not in {row["a"], *(other["a"] for other in table)}
        ):
            yield Broken("foreign_key", "23503", f"{self.name}_fk_self")


def _all_shapes() -> list[Shape]:
    keys: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = [
        ((), []),
        ((), [("a",)]),
        (("a",), []),
        (("a", "b"), []),
        (("a",), [("b",)]),
        (("a",), [("b", "c")]),
        (("a", "b"), [("a",), ("b", "c")]),
        (("b",), [("a",), ("c",)]),
    ]
    shapes: list[Shape] = []
    flags = [True, False]
    for (primary, uniques), not_null, check, parent, itself in product(keys, flags, flags, flags, flags):
        if itself and ("a",) not in (primary, *uniques):
            continue  # there is no key to refer to
        name = f"t{len(shapes)}"
        unique = {f"{name}_{'_'.join(key)}_key": key for key in uniques}
        shapes.append(Shape(primary, unique, not_null, check, parent, itself, name))
    return shapes


SHAPES = random.Random(20_240_229).sample(_all_shapes(), 24)


def rows(most: int) -> st.SearchStrategy[list[Row]]:
    """Few values, so that keys collide, references miss, and NULL is everywhere."""
    cells: dict[str, Any] = {
        "a": st.one_of(st.integers(0, 9), st.none()),
        "b": st.one_of(st.integers(0, 5), st.none()),
        "c": st.one_of(st.integers(0, LIMIT), st.none()),
        "p": st.sampled_from([0, 1, 1, None, 2]),
        "parent": st.one_of(st.none(), st.integers(0, 9)),
    }
    return st.lists(st.fixed_dictionaries(cells), max_size=most)


@dataclass(frozen=True)
class Example:
    """A table, what is in it before, the rows of the source, and how many of them each record batch has."""

    shape: Shape
    before: list[Row]
    rows: list[Row]
    size: int


examples = st.builds(
    Example, st.sampled_from(SHAPES), rows(4), rows(24).filter(bool), st.sampled_from([1, 2, 3, 5, 8, 24])
)
