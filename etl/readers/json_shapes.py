"""What is inside the values of JSON lines, as far as a load leads into them: by paths such as ``address.city``, and by
the lists whose elements are children.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from etl.config import ELEMENT, Child, ColumnSource, Condition, Load
from etl.json_cells import JSON_CELL, JsonCell
from etl.json_values import Members, items_of, members_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a load leads: the source columns that it names, and what it names in the elements of lists, by the list."""

    paths: frozenset[str] = frozenset()
    lists: Mapping[str, Wanted] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.paths or self.lists)

    def behind(self, key: str) -> Wanted:
        """What is wanted of the value of ``key``, but for its elements."""
        start = f"{key}."
        return Wanted(
            frozenset(path.removeprefix(start) for path in self.paths if path.startswith(start)),
            {path.removeprefix(start): inner for path, inner in self.lists.items() if path.startswith(start)},
        )

    @property
    def keys(self) -> list[str]:
        """The keys that are looked for, if a path has a key of each of its parts."""
        return sorted({path.partition(".")[0] for path in (*self.paths, *self.lists)})


NOTHING = Wanted()


def wanted_of(load: Load) -> Wanted:
    """What a load names in its sources."""
    return _wanted(load.columns, load.ignore_columns, load.children, load.filter)


def _wanted(
    columns: Mapping[str, ColumnSource],
    ignored: Sequence[str],
    children: Mapping[str, Child],
    conditions: Sequence[Condition] = (),
) -> Wanted:
    fed = (name for entry in columns.values() for name in entry.source_columns)
    tested = (name for condition in conditions for name in condition.source_columns)
    lists = {
        child.source or name: _wanted(child.columns, child.ignore_columns, child.children)
        for name, child in children.items()
    }
    return Wanted(frozenset((*fed, *tested, *ignored)) - {"*"}, lists)


class Shape:
    """What has been seen of the values at one place; of their elements, if ``element`` says what is wanted of them."""

    def __init__(self, wanted: Wanted, element: Wanted | None = None, *, is_element: bool = False) -> None:
        self._wanted = wanted
        self._is_parted = is_element or bool(wanted)  # children take the fields of their names without naming them
        self._fields: dict[str, Shape | None] = {}  # None: the load does not lead into it
        self._element = None if element is None else Shape(element, is_element=True)
        self._has_objects = self._has_lists = self._has_others = False

    @property
    def most_keys(self) -> int:
        """Those of the values with most keys, here or within."""
        inner = [shape.most_keys for shape in (*self._fields.values(), self._element) if shape is not None]
        return max(len(self._fields), *inner, 0)

    @property
    def type(self) -> JsonCell:
        is_open = not (self._has_objects or self._has_lists or self._has_others)
        fields = {key: JSON_CELL if shape is None else shape.type for key, shape in self._fields.items()}
        if self._has_plain_elements:
            fields = {}
        elif is_open:
            fields = {key: self._inner_type(key) for key in self._wanted.keys}
        element = self._element.type if self._element is not None and (is_open or self._has_lists) else None
        return JsonCell(fields, element, is_open=is_open)

    @property
    def _has_plain_elements(self) -> bool:
        """Whether elements are taken whole, objects among them too: as the config says, and some are no objects."""
        return ELEMENT in self._wanted.paths and (self._has_lists or self._has_others)

    def add(self, values: Sequence[msgspec.Raw]) -> None:
        """Values that were seen here."""
        by_kind: dict[bytes, list[msgspec.Raw]] = {}
        for value in values:
            by_kind.setdefault(bytes(memoryview(value)[:1]), []).append(value)
        objects, lists = by_kind.pop(b"{", []), by_kind.pop(b"[", [])
        by_kind.pop(b"n", None)
        self._has_others |= bool(by_kind)
        self.add_objects(list(map(members_of, objects)) if self._is_parted else [])
        self._has_objects |= bool(objects)
        self._has_lists |= bool(lists)
        if self._element is not None:
            self._element.add(list(chain.from_iterable(map(items_of, lists))))

    def add_objects(self, objects: Iterable[Members]) -> None:
        """Objects that were seen here, parted."""
        objects = list(objects)
        self._has_objects |= bool(objects)
        for key in dict.fromkeys(chain.from_iterable(objects)):
            if key not in self._fields:
                self._fields[key] = self._inner(key)
        for key, shape in self._fields.items():
            if shape is not None:
                shape.add([members[key] for members in objects if key in members])

    def _inner(self, key: str) -> Shape | None:
        behind, element = self._wanted.behind(key), self._wanted.lists.get(key)
        return Shape(behind, element) if behind or element is not None else None

    def _inner_type(self, key: str) -> JsonCell:
        shape = self._inner(key)
        return JSON_CELL if shape is None else shape.type
