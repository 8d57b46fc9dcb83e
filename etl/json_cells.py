"""The Arrow type of a column whose cells are JSON values, each the value's own text: ``1.50``, ``"a\\n"``, ``{"b":1}``.

The reader of JSON lines gives it, and the mapper turns it into what the target column takes: for a JSON column the text
is the value, for any other one a string is what stands between its quotes. Neither knows the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

_NO_FIELDS: Mapping[str, JsonCell] = MappingProxyType({})


class JsonCell(pa.ExtensionType):  # type: ignore[misc]  # pyarrow publishes no types
    """The texts are valid JSON (RFC 8259); a JSON ``null`` is a NULL.

    What is known of the values of the whole file, where the load leads into them: ``fields`` are the keys of those that
    are objects, ``element`` is what the lists among them hold. ``is_open`` says that nothing was seen but ``null``.
    """

    def __init__(
        self, fields: Mapping[str, JsonCell] = _NO_FIELDS, element: JsonCell | None = None, *, is_open: bool = False
    ) -> None:
        self.fields = MappingProxyType(dict(fields))
        self.element = element
        self.is_open = is_open
        super().__init__(pa.string(), "etl.json")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JsonCell) and self.known == other.known

    def __hash__(self) -> int:
        return hash(self.__arrow_ext_serialize__())

    @property
    def known(self) -> list[Any]:
        """What is known, as JSON has it."""
        fields = {name: cell.known for name, cell in self.fields.items()}
        return [fields, self.element and self.element.known, self.is_open]

    def __arrow_ext_serialize__(self) -> bytes:
        return json.dumps(self.known).encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> JsonCell:
        return _cell_of(json.loads(serialized))


def _cell_of(known: list[Any]) -> JsonCell:
    fields, element, is_open = known
    inner = {name: _cell_of(field) for name, field in fields.items()}
    return JsonCell(inner, element and _cell_of(element), is_open=is_open)


JSON_CELL = JsonCell()


def json_cells(texts: pa.Array, type_: JsonCell = JSON_CELL) -> pa.Array:
    """A ``string`` column of JSON texts as a column of the type."""
    return pa.ExtensionArray.from_storage(type_, texts)


def are_json_cells(type_: pa.DataType) -> bool:
    return isinstance(type_, JsonCell)
