"""The Arrow type of a column whose cells are JSON values, each the value's own text: ``1.50``, ``"a\\n"``, ``{"b":1}``.

The reader of JSON lines gives it, and the mapper turns it into what the target column takes: for a JSON column the text
is the value, for any other one a string is what stands between its quotes. Neither knows the other.
"""

from __future__ import annotations

import pyarrow as pa


class JsonCell(pa.ExtensionType):  # type: ignore[misc]  # pyarrow publishes no types
    """The texts are valid JSON (RFC 8259); a JSON ``null`` is a NULL."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "etl.json")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> JsonCell:
        return cls()


JSON_CELL = JsonCell()


def json_cells(texts: pa.Array) -> pa.Array:
    """A ``string`` column of JSON texts as a column of the type."""
    return pa.ExtensionArray.from_storage(JSON_CELL, texts)


def are_json_cells(type_: pa.DataType) -> bool:
    return isinstance(type_, JsonCell)
