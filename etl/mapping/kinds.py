"""One place that says which conversion serves which source type and target type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.types as types

from etl.errors import ConfigError, TargetMismatch
from etl.json_cells import are_json_cells
from etl.mapping.conversion import Conversion, Converted, TextConversion, then
from etl.mapping.documents import json_documents
from etl.mapping.epochs import EPOCHS
from etl.mapping.formats import formats_conversion
from etl.mapping.local_times import LocalTimes
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
from etl.mapping.unquoting import texts_of_json
from etl.records import ColumnType, Kind


@dataclass(frozen=True, slots=True)
class Reading:
    """How the cells of a source column are read, beyond what their type and the target's say.

    ``formats`` and ``timezone`` are for dates and times, ``clean`` changes texts before they are converted,
    ``spelling`` says how numbers and booleans are written.
    """

    formats: Sequence[str] = ()
    timezone: str | None = None
    clean: Callable[[pa.Array], pa.Array] | None = None
    spelling: Spelling = USUAL

    @property
    def is_for_texts(self) -> bool:
        return bool(self.formats) or self.clean is not None


AS_IT_IS = Reading()


def choose_conversion(source: pa.DataType, target: ColumnType, reading: Reading = AS_IT_IS) -> Conversion:
    """How a source column of an Arrow type becomes a target column.

    Raises TargetMismatch if no cell of the type can be stored, ConfigError if the ``reading`` cannot be used.
    Neither message names the column: who calls knows it.
    """
    if are_json_cells(source):
        return partial(_convert_json, target=target, by_text=_cleaned(conversion_of_texts(target, reading), reading))
    plain = plain_type(source)
    why = why_not(plain, target)
    if why is not None:
        raise TargetMismatch(f"a column of type {source} cannot be stored as {target.kind.value}: {why}")
    by_text = conversion_of_texts(target, reading)
    if reading.is_for_texts:
        _require_texts(plain, source, reading)
        return partial(_convert_plain, conversion=partial(_convert_by_text, by_text=_cleaned(by_text, reading)))
    if is_document(plain):
        return partial(_convert_plain, conversion=json_documents)
    family = family_conversion(plain, target, _local_times(reading))
    return partial(_convert_plain, conversion=family or partial(_convert_by_text, by_text=by_text))


def _require_texts(plain: pa.DataType, source: pa.DataType, reading: Reading) -> None:
    if reading.clean is not None and not any(is_type(plain) for is_type in _TEXTS):
        raise ConfigError(
            f"trim, case and empty_as_null are for texts, and the source column has type {source}", "Leave them out."
        )
    fractions = (types.is_floating, types.is_decimal) if set(reading.formats) <= set(EPOCHS) else ()
    # Whole numbers such as 20230131 are read by a format too.
    if not any(is_type(plain) for is_type in (*_TEXTS, types.is_integer, *fractions)):
        raise ConfigError(f"a format is for texts, and the source column has type {source}", "Leave the format out.")


_TEXTS = (types.is_string, types.is_binary, types.is_null)


def _cleaned(by_text: TextConversion, reading: Reading) -> Conversion:
    clean = reading.clean
    return by_text if clean is None else lambda texts: by_text(clean(texts))


def _convert_plain(array: pa.Array, conversion: Conversion) -> Converted:
    return conversion(plain_array(array))


def _convert_by_text(array: pa.Array, by_text: Conversion) -> Converted:
    return then(canonical_texts(array), by_text)


def _convert_json(cells: pa.Array, target: ColumnType, by_text: Conversion) -> Converted:
    return by_text(cells.storage) if target.kind is Kind.JSON else then(texts_of_json(cells), by_text)


def conversion_of_texts(target: ColumnType, reading: Reading = AS_IT_IS) -> TextConversion:
    """The rule for texts of a target type; its ``type`` is the Arrow type that the target column gets.

    Raises ConfigError if the formats or the time zone of ``reading`` cannot be used for the type.
    """
    if reading.timezone is not None and target.kind is not Kind.TIMESTAMPTZ:
        raise ConfigError(
            f"a timezone is for columns of type {Kind.TIMESTAMPTZ.value}, not for {target.kind.value}",
            "Leave timezone out, or give the column that type.",
        )
    local = _local_times(reading)
    if reading.formats:
        return formats_conversion(target.kind, reading.formats, local)
    if local is not None:
        return local.conversion()
    return reading.spelling.respelled(target.kind, _RULES[target.kind](target))


def _local_times(reading: Reading) -> LocalTimes | None:
    return None if reading.timezone is None else LocalTimes(reading.timezone)


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
