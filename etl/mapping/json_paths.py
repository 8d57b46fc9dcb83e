"""What is inside JSON cells: the values of the keys of objects, and the elements of lists, as JSON cells again."""

from __future__ import annotations

from itertools import chain

import msgspec
import numpy as np
import pyarrow as pa

from etl.json_cells import JSON_CELL, json_cells
from etl.json_values import NULL, Members, items_of, may_repeat_a_key, members_of, repeated_keys, texts_of
from etl.mapping.conversion import Converted, Refused
from etl.mapping.paths import Listed, Parted
from etl.records import Reason

NO_OBJECT = Refused(Reason.TYPE, "is no JSON object")
NO_WAY = Refused(Reason.TYPE, "its path leads into a JSON value that is no object")
NO_LIST = Refused(Reason.TYPE, "is no JSON list")


def part_objects(cells: pa.Array, fields: pa.Schema) -> Parted:
    """The values of some keys, as the ``fields`` that they are; a key that an object has not is NULL.

    What is no object is refused, and what gives a key twice.
    """
    objects: list[Members] = []
    refused: dict[int, Refused] = {}
    for place, text in enumerate(_texts(cells)):
        found: Members | Refused = {} if text is None else _members(text)
        if isinstance(found, Refused):
            refused[place] = found
            found = {}
        objects.append(found)
    columns = [
        json_cells(texts_of([members.get(field.name, NULL) for members in objects]), field.type) for field in fields
    ]
    return Parted(columns, refused)


def field_of(cells: pa.Array, key: str) -> Converted:
    """The values of one key."""
    parted = part_objects(cells, pa.schema([(key, cells.type.fields[key])]))
    refused = {place: NO_WAY if why is NO_OBJECT else why for place, why in parted.refused.items()}
    return Converted(parted.columns[0], refused)


def part_lists(cells: pa.Array) -> Listed:
    """The elements of lists. What is no list is refused."""
    lists: list[list[msgspec.Raw]] = []
    refused: dict[int, Refused] = {}
    for place, text in enumerate(_texts(cells)):
        try:
            lists.append([] if text is None else items_of(text))
        except msgspec.ValidationError:
            refused[place] = NO_LIST
            lists.append([])
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    elements = json_cells(texts_of(list(chain.from_iterable(lists))), cells.type.element or JSON_CELL)
    return Listed(lengths, elements, refused)


def _texts(cells: pa.Array) -> list[bytes | None]:
    texts: list[bytes | None] = cells.storage.cast(pa.binary()).to_pylist()
    return texts


def _members(text: bytes) -> Members | Refused:
    try:
        members = members_of(text)
    except msgspec.ValidationError:
        return NO_OBJECT
    repeated = repeated_keys(text) if may_repeat_a_key([text], [members]) else []
    return Refused(Reason.SYNTAX, f"gives the key {', '.join(repeated)} more than once") if repeated else members
