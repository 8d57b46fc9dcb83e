"""How a column of texts becomes a column of values: fast for the many cells, exact for the few.

A fast conversion works on the whole column in Arrow and leaves NULL wherever it is not sure. Whatever is NULL
then, but was not NULL before, is in doubt, and an exact parser in plain Python decides it: a value, or a
refusal with its reason. The parser is the rule; the fast way only has to agree with it wherever it gives a
value. Texts in doubt are parsed once for each distinct text, so a column full of the same odd text costs one
call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapping.column_bytes import ColumnBytes
from etl.records import Reason

WHITE_SPACE = " \t\n\r\v\f"  # what PostgreSQL's isspace() skips around a value


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a cell cannot be stored; the message never shows the cell."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted column. A refused cell is NULL in ``values``; ``refused`` has its place and reason."""

    values: pa.Array
    refused: Mapping[int, Refused] = field(default_factory=dict)


Conversion = Callable[[pa.Array], Converted]


@dataclass(frozen=True, slots=True)
class TextConversion:
    """The rule for texts of one target type.

    ``fast`` gives an array of ``type`` that is NULL where it is in doubt; ``exact`` gives what ``pa.array``
    takes for ``type``, or a ``Refused``. Both see the text without white space around it when ``trims`` is
    true.
    """

    type: pa.DataType
    fast: Callable[[pa.Array], pa.Array]
    exact: Callable[[str], object]
    trims: bool = True

    def __call__(self, texts: pa.Array) -> Converted:
        """Convert an Arrow ``string`` column that holds valid UTF-8."""
        if self.trims and ColumnBytes.of(texts).may_have_white_edge():
            texts = pc.ascii_trim(texts, characters=WHITE_SPACE)
        values = self.fast(texts)
        if values.null_count == texts.null_count:
            return Converted(values)
        return self._parse_doubtful(texts, values)

    def _parse_doubtful(self, texts: pa.Array, values: pa.Array) -> Converted:
        doubtful = pc.and_(values.is_null(), texts.is_valid())
        encoded = texts.filter(doubtful).dictionary_encode()
        parsed = [self.exact(text.as_py()) for text in encoded.dictionary]  # one by one: they may be long
        distinct = _array_of([None if isinstance(cell, Refused) else cell for cell in parsed], self.type)
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        return Converted(
            pc.replace_with_mask(values, doubtful, distinct.take(encoded.indices)),
            {
                place: cell
                for place, code in zip(places(doubtful), codes, strict=True)
                if isinstance(cell := parsed[code], Refused)
            },
        )


def _array_of(cells: list[object], type_: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(type_):  # Arrow counts the zeros of 0.0012 as digits, and refuses it for numeric(2,4)
        return pa.array(cells, pa.decimal256(76, type_.scale)).cast(type_)
    return pa.array(cells, type_)


def always_in_doubt(type_: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    """The fast conversion of a type that has none: every cell goes to the exact parser."""
    return lambda texts: pa.nulls(len(texts), type_)


def places(mask: pa.Array) -> list[int]:
    """The indices at which a boolean column is true (NULL counts as false)."""
    found: list[int] = np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)).tolist()
    return found


def keep_where(values: pa.Array, mask: pa.Array) -> pa.Array:
    """``values`` with NULL wherever ``mask`` is not true; the same array, not a copy, if nothing changes."""
    kept = mask if values.null_count == 0 else pc.and_(mask, values.is_valid())
    if kept.true_count == len(values) - values.null_count:
        return values
    return pc.if_else(mask, values, pa.scalar(None, values.type))


def keep_matching(texts: pa.Array, pattern: str) -> pa.Array:
    """``texts`` with NULL for each that does not match ``pattern`` (RE2) as a whole."""
    return keep_where(texts, pc.match_substring_regex(texts, rf"\A(?:{pattern})\z"))


def keep_within(values: pa.Array, low: Any, high: Any) -> pa.Array:
    """``values`` with NULL for each outside ``low`` to ``high``, both included."""
    inside = pc.and_(
        pc.greater_equal(values, pa.scalar(low, values.type)),
        pc.less_equal(values, pa.scalar(high, values.type)),
    )
    return keep_where(values, inside)


def cast_or_none(values: pa.Array, type_: pa.DataType) -> pa.Array | None:
    """``values`` as ``type_``, or None if a single one of them cannot be cast without loss."""
    try:
        return values.cast(type_)
    except pa.ArrowInvalid:
        return None


def refuse_lost(before: pa.Array, after: pa.Array, why: Refused) -> Converted:
    """A column in which every cell that ``after`` lost is refused for the same reason."""
    if before.null_count == after.null_count:
        return Converted(after)
    return Converted(after, dict.fromkeys(places(pc.and_(before.is_valid(), after.is_null())), why))


def then(first: Converted, conversion: Conversion) -> Converted:
    """Convert what ``first`` gave, in which refused cells are NULL, and keep the refusals of both steps."""
    second = conversion(first.values)
    if not first.refused:
        return second
    return Converted(second.values, {**second.refused, **first.refused})
