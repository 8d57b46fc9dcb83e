"""Nested cells (lists, structs, maps) as JSON text, for JSON columns."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa

from etl.mapping.conversion import Converted, Refused
from etl.mapping.texts import HAS_NUL, NOT_UTF8
from etl.mapping.times import OUT_OF_YEARS
from etl.records import Reason

NO_JSON_VALUE = Refused(Reason.TYPE, "a value that JSON cannot hold, such as NaN, bytes or a key given twice")


class _NoJsonError(Exception):
    def __init__(self, why: Refused) -> None:
        super().__init__(why.message)
        self.why = why


def json_documents(cells: pa.Array) -> Converted:
    """Each cell as compact JSON text: numbers exact, dates and times in ISO notation, maps as objects."""
    read = [json_document(cell) if cell.is_valid else None for cell in cells]
    refused = {place: cell for place, cell in enumerate(read) if isinstance(cell, Refused)}
    return Converted(pa.array([None if isinstance(cell, Refused) else cell for cell in read], pa.string()), refused)


def json_document(cell: Any) -> str | Refused:
    """The JSON text of one Arrow scalar that is not NULL."""
    try:
        return _written(cell.as_py(maps_as_pydicts="strict"))
    except UnicodeDecodeError:
        return NOT_UTF8
    except OverflowError:
        return OUT_OF_YEARS  # a date or time that Python's calendar has not
    except (ValueError, KeyError):
        # Two fields of one name, a key given twice, nanoseconds that a datetime would lose.
        return NO_JSON_VALUE
    except _NoJsonError as refusal:
        return refusal.why


def _written(value: object) -> str:
    if isinstance(value, dict):
        members = (f"{_name(name)}:{_written(member)}" for name, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dt.date | dt.time):
        return _quoted(value.isoformat())
    return _number(value)


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise _NoJsonError(NO_JSON_VALUE)
    return _quoted(value)


def _quoted(text: str) -> str:
    if "\0" in text:
        raise _NoJsonError(HAS_NUL)
    return json.dumps(text, ensure_ascii=False)


def _number(value: object) -> str:
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise _NoJsonError(NO_JSON_VALUE)
