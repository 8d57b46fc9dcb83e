"""Where in the config file something is: pydantic's locations in the words of TOML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from etl.config.children import Child
from etl.config.columns import ColumnSource
from etl.config.conditions import Condition
from etl.config.csv import Csv
from etl.config.database import Database
from etl.config.file import ConfigFile
from etl.config.load import Load


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the config file: words for its TOML table, the key in it, the model that knows the keys."""

    table: str
    key: str
    model: type[BaseModel]

    @property
    def where(self) -> str:
        return f"{self.table} {self.key}" if self.key else self.table.removesuffix(",")


def place_of(location: tuple[str | int, ...], content: dict[str, Any] | None = None) -> Place:
    """The place for pydantic's location of an error; what only ``[defaults]`` of ``content`` has is there."""
    first, *rest = location
    if first == "database":
        return Place("[database]", ".".join(map(str, rest)), Database)
    if first == "defaults":
        return _load_place([str(part) for part in rest], "[defaults]", "[defaults.{}]")
    if first != "load" or not rest or not isinstance(rest[0], int):
        return Place("[[load]]" if first == "load" else f"[{first}]", "", ConfigFile)
    index, path = rest[0], [str(part) for part in rest[1:]]
    if content and not _has(content["load"][index], path) and _has(content.get("defaults"), path):
        return _load_place(path, "[defaults]", "[defaults.{}]")
    return _load_place(path, f"[[load]] number {index + 1},", f"[load.{{}}] of load {index + 1},")


def _load_place(path: list[str], table: str, subtable: str) -> Place:
    if path[:1] == ["csv"]:
        return Place(subtable.format("csv"), ".".join(path[1:2]), Csv)
    if path[:1] == ["columns"]:
        return Place(subtable.format("columns"), ".".join(path[1:3]), ColumnSource)
    if path[:1] == ["filter"] and len(path) > 1:
        return Place(table, f"filter.{int(path[1]) + 1}" + "".join(f".{key}" for key in path[2:3]), Condition)
    if path[:1] == ["children"] and path[1:]:
        return _child_place(path, subtable)
    return Place(table, ".".join(path[:1]), Load)


def _child_place(path: list[str], subtable: str) -> Place:
    above: list[str] = []
    while path[:1] == ["children"] and path[1:]:
        above, path = [*above, *path[:2]], path[2:]
    if path[:1] == ["columns"]:
        return Place(subtable.format(".".join([*above, "columns"])), ".".join(path[1:3]), ColumnSource)
    return Place(subtable.format(".".join(above)), ".".join(path[:1]), Child)


def _has(table: object, path: list[str]) -> bool:
    """Whether the keys of ``path``, the first two of them at most, lead to something in ``table``."""
    for key in path[:2] if path[:1] in (["csv"], ["columns"]) else path[:1]:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a table, as they are written."""
    return tuple(field.alias or name for name, field in model.model_fields.items())
