"""One place that says which conversion serves which source type and target type."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pyarrow as pa
import pyarrow.types as types

from etl.errors import ConfigError, TargetMismatch
from etl.mapping.conversion import Conversion, Converted, TextConversion, then
from etl.mapping.documents import json_documents
from etl.mapping.formats import format_conversion
from etl.mapping.numbers import boolean_conversion, float_conversion, integer_conversion, numeric_conversion
from etl.mapping.spelling import USUAL, Spelling
from etl.mapping.texts import (
    bytes_conversion,
    enum_conversion,
    json_conversion,
    text_conversion,
    uuid_conversion,
)
from etl.mapping.times import time_conversion
from etl.mapping.typed import (
    canonical_texts,
    family_conversion,
    is_document,
    plain_array,
    plain_type,
    why_not,
)
from etl.records import ColumnType, Kind


def choose_conversion(
    source: pa.DataType, target: ColumnType, format_: str | None = None, spelling: Spelling = USUAL
) -> Conversion:
    """How a source column of an Arrow type becomes a target column.

    Raises TargetMismatch if no cell of the type can be stored, ConfigError if ``format_`` cannot be used.
    Neither message names the column: who calls knows it.
    """
    plain = plain_type(source)
    why = why_not(plain, target)
    if why is not None:
        raise TargetMismatch(f"a column of type {source} cannot be stored as {target.kind.value}: {why}")
    by_text = conversion_of_texts(target, format_, spelling)
    if format_ is not None and not _takes_format(plain):
        raise ConfigError(f"a format is for texts, and the source column has type {source}", "Leave the format out.")
    if is_document(plain):
        return partial(_convert_plain, conversion=json_documents)
    family = family_conversion(plain, target) if format_ is None else None
    return partial(_convert_plain, conversion=family or partial(_convert_by_text, by_text=by_text))


def _takes_format(plain: pa.DataType) -> bool:
    # Whole numbers such as 20230131 are read by a format too.
    readable = (types.is_string, types.is_binary, types.is_integer, types.is_null)
    return any(is_type(plain) for is_type in readable)


def _convert_plain(array: pa.Array, conversion: Conversion) -> Converted:
    return conversion(plain_array(array))


def _convert_by_text(array: pa.Array, by_text: TextConversion) -> Converted:
    return then(canonical_texts(array), by_text)


def conversion_of_texts(target: ColumnType, format_: str | None = None, spelling: Spelling = USUAL) -> TextConversion:
    """The rule for texts of a target type; its ``type`` is the Arrow type that the target column gets.

    ``spelling`` says how the source writes numbers and booleans.

    Raises ConfigError if ``format_`` cannot be used for the type.
    """
    if format_ is not None:
        return format_conversion(target.kind, format_)
    return spelling.respelled(target.kind, _RULES[target.kind](target))


_RULES: dict[Kind, Callable[[ColumnType], TextConversion]] = {
    Kind.SMALLINT: lambda target: integer_conversion(target.kind),
    Kind.INTEGER: lambda target: integer_conversion(target.kind),
    Kind.BIGINT: lambda target: integer_conversion(target.kind),
    Kind.NUMERIC: numeric_conversion,
    Kind.REAL: float_conversion,
    Kind.DOUBLE: float_conversion,
    Kind.BOOLEAN: lambda _: boolean_conversion(),
    Kind.DATE: lambda target: time_conversion(target.kind),
    Kind.TIME: lambda target: time_conversion(target.kind),
    Kind.TIMESTAMP: lambda target: time_conversion(target.kind),
    Kind.TIMESTAMPTZ: lambda target: time_conversion(target.kind),
    Kind.TEXT: lambda target: text_conversion(target.length),
    Kind.CHAR: lambda target: text_conversion(target.length),
    Kind.UUID: lambda _: uuid_conversion(),
    Kind.JSON: lambda _: json_conversion(),
    Kind.BYTES: lambda _: bytes_conversion(),
    Kind.ENUM: lambda target: enum_conversion(target.labels),
    Kind.OTHER: lambda _: text_conversion(None),
}
