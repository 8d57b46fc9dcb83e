"""``compute``: a scalar function of Arrow by its name, from a list of those that are allowed.

Each of them makes one value of the values of one record, and of nothing else, so that the value is the same however
the records are cut into batches. A record for which the function fails, as a division by zero does, is refused alone.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from etl.errors import ConfigError
from etl.mapping.conversion import Conversion, Converted, Refused
from etl.mapping.feeds import SourceColumn
from etl.records import ColumnType, Kind, Reason, RecordBatch

TEXT_FUNCTIONS = (
    *("binary_length", "count_substring", "count_substring_regex", "ends_with"),
    *("find_substring", "find_substring_regex", "match_like", "match_substring", "match_substring_regex"),
    *("replace_substring", "replace_substring_regex", "starts_with", "string_is_ascii", "utf8_capitalize"),
    *("utf8_center", "utf8_is_alnum", "utf8_is_alpha", "utf8_is_decimal", "utf8_is_digit", "utf8_is_lower"),
    *("utf8_is_numeric", "utf8_is_space", "utf8_is_upper", "utf8_length", "utf8_lower", "utf8_lpad", "utf8_ltrim"),
    *("utf8_ltrim_whitespace", "utf8_normalize", "utf8_replace_slice", "utf8_reverse", "utf8_rpad", "utf8_rtrim"),
    *("utf8_rtrim_whitespace", "utf8_slice_codeunits", "utf8_swapcase", "utf8_title", "utf8_trim"),
    *("utf8_trim_whitespace", "utf8_upper", "utf8_zero_fill"),
)
NUMBER_FUNCTIONS = (
    *("abs", "add", "ceil", "divide", "floor", "multiply", "negate", "power", "round", "round_to_multiple", "sign"),
    *("sqrt", "subtract", "trunc"),
)
TIME_FUNCTIONS = (
    *("ceil_temporal", "day", "day_of_week", "day_of_year", "days_between", "floor_temporal", "hour", "hours_between"),
    *("is_leap_year", "iso_week", "iso_year", "minute", "minutes_between", "month", "quarter", "second"),
    *("seconds_between", "year", "years_between"),
)
CHOOSING_FUNCTIONS = (
    *("and_kleene", "coalesce", "equal", "greater", "greater_equal", "invert", "is_null", "is_valid"),
    *("less", "less_equal", "max_element_wise", "min_element_wise", "not_equal", "or_kleene"),
)
FUNCTIONS = frozenset((*TEXT_FUNCTIONS, *NUMBER_FUNCTIONS, *TIME_FUNCTIONS, *CHOOSING_FUNCTIONS))

_CHECKED = frozenset(("abs", "add", "divide", "multiply", "negate", "power", "sqrt", "subtract"))  # others wrap around
_LIST = "docs/mapping.md lists them."
_CORRECT = "Correct compute, args, options and as under [load.columns]."
_TYPE = re.compile(r"\s*(?P<name>[a-z ]+?)\s*(?:\(\s*(?P<precision>\d+)\s*(?:,\s*(?P<scale>\d+)\s*)?\))?\s*")
_KINDS = {
    **{kind.value: kind for kind in (Kind.SMALLINT, Kind.INTEGER, Kind.BIGINT, Kind.NUMERIC, Kind.REAL, Kind.DOUBLE)},
    **{kind.value: kind for kind in (Kind.BOOLEAN, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.TEXT)},
    "double": Kind.DOUBLE,
    "timestamptz": Kind.TIMESTAMPTZ,
}
_TOLD = {
    "overflow": "the result is too large",
    "divide by zero": "a division by zero",
    "square root of negative number": "the root of a negative number",
}


@dataclass(frozen=True, slots=True)
class Argument:
    """A source column that is an argument, and how its cells are read."""

    column: SourceColumn
    conversion: Conversion
    type: pa.DataType

    def cells(self, records: RecordBatch) -> Converted:
        return self.conversion(self.column.cells(records).values)


@dataclass(frozen=True, slots=True)
class Computation:
    """What a function makes of its arguments; a scalar among them is the same for every record."""

    function: str
    call: Callable[..., pa.Array]
    arguments: tuple[Argument | pa.Scalar, ...]
    type: pa.DataType

    @property
    def source_columns(self) -> tuple[str, ...]:
        columns = (arg.column for arg in self.arguments if isinstance(arg, Argument))
        return tuple(dict.fromkeys(name for column in columns for name in column.source_columns))

    def __str__(self) -> str:
        shown = (str(arg.column) if isinstance(arg, Argument) else repr(arg.as_py()) for arg in self.arguments)
        return f"{self.function}({', '.join(shown)})"

    def cells(self, records: RecordBatch) -> Converted:
        given = [arg.cells(records) if isinstance(arg, Argument) else arg for arg in self.arguments]
        unread = {
            place: why for arg in reversed(given) if isinstance(arg, Converted) for place, why in arg.refused.items()
        }
        arrays = [arg.values if isinstance(arg, Converted) else arg for arg in given]
        computed = self._computed(arrays, 0, len(records.numbers))
        return Converted(computed.values, {**computed.refused, **unread})

    def _computed(self, arrays: Sequence[pa.Array | pa.Scalar], first: int, count: int) -> Converted:
        """Of ``count`` records from ``first`` on; where the function fails, of their halves, down to the one record."""
        part = [arg.slice(first, count) if isinstance(arg, pa.Array) else arg for arg in arrays]
        try:
            return Converted(self.call(*part))
        except (pa.ArrowInvalid, pa.ArrowCapacityError) as error:
            if count == 1:
                return Converted(pa.nulls(1, self.type), {first: self._why(error)})
        half = count // 2
        left, right = self._computed(arrays, first, half), self._computed(arrays, first + half, count - half)
        return Converted(pa.concat_arrays([left.values, right.values]), {**left.refused, **right.refused})

    def _why(self, error: Exception) -> Refused:
        # Arrow's own words may show the cell.
        return Refused(
            Reason.COMPUTE,
            f"{self.function} cannot be computed: {_TOLD.get(str(error).lower(), 'there is no such value')}",
        )


def plan_computation(
    function: str, arguments: Sequence[Argument | pa.Scalar], options: Mapping[str, Any]
) -> Computation:
    """A function of ``arguments``.

    Raises ConfigError for a function that is not allowed, and for arguments or options that it does not take: it is
    tried on one record without values.
    """
    check_function(function)
    wrapper = getattr(pc, f"{function}_checked" if function in _CHECKED else function)
    arity = pc.get_function(wrapper.__name__).arity
    if arity is not Ellipsis and arity != len(arguments):
        raise ConfigError(f"{function} takes {arity} args, and {len(arguments)} are given", _CORRECT)
    _check_options(function, wrapper, options)
    call = partial(wrapper, **options)
    try:
        result = call(*(_nothing(arg.type) if isinstance(arg, Argument) else arg for arg in arguments))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        given = ", ".join(str(arg.type) for arg in arguments)
        said = " ".join(str(error).split()).rstrip(".")
        hint = " Say by as how texts are read." if isinstance(error, pa.ArrowNotImplementedError) else ""
        raise ConfigError(f"{function} cannot be computed with ({given}): {said}", f"{_CORRECT}{hint}") from error
    return Computation(function, call, tuple(arguments), result.type)


def check_function(function: str) -> None:
    """Raise ConfigError unless the function is one of those that are allowed."""
    if function not in FUNCTIONS:
        close = difflib.get_close_matches(function, FUNCTIONS, n=1)
        hint = f' (did you mean "{close[0]}"?)' if close else ""
        raise ConfigError(
            f'"{function}" is none of the functions that compute allows{hint}', f"Correct compute; {_LIST}"
        )


def _check_options(function: str, wrapper: Callable[..., pa.Array], options: Mapping[str, Any]) -> None:
    known = [name for name, parameter in inspect.signature(wrapper).parameters.items() if _is_option(parameter)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ConfigError(f"{function} has no option {unknown[0]}; it has {', '.join(known) or 'none'}", _CORRECT)


def _is_option(parameter: inspect.Parameter) -> bool:
    is_named = parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return is_named and parameter.name not in ("memory_pool", "options")


def _nothing(type_: pa.DataType) -> pa.Array:
    # A pattern that is none is told when a text is looked at, and not before.
    return pa.array([""]) if types.is_string(type_) else pa.nulls(1, type_)


def argument_type(text: str) -> ColumnType:
    """The type that ``as`` names. Raises ConfigError for one that is not known."""
    match = _TYPE.fullmatch(text.lower())
    kind = _KINDS.get(match["name"]) if match else None
    if match is None or kind is None or (match["precision"] and kind is not Kind.NUMERIC):
        raise ConfigError(f'as = "{text}" is no type that arguments are read in', f"Give one of {', '.join(_KINDS)}.")
    precision, scale = int(match["precision"] or 0), int(match["scale"] or 0)
    if kind is not Kind.NUMERIC:
        return ColumnType(kind)
    if not 0 < precision <= 38 or scale > precision:
        raise ConfigError(f'as = "{text}" has not its digits', "Give at most 38, such as numeric(12,2).")
    return ColumnType(kind, precision=precision, scale=scale)
