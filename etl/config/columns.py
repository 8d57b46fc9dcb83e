"""``[load.columns]``: where a target column takes its values from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from etl.config.values import AnyConstant, Constant, Model, Strings, parse_constant
from etl.zones import is_time_zone


class Argument(Model):
    """A constant among the arguments of ``compute``."""

    value: Annotated[Constant, BeforeValidator(parse_constant)] = Field(
        description="the same value for every record", examples=[100]
    )


def _parse_args(value: object) -> object:
    """One column stands for a list of one."""
    args = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(arg, str | Argument) or _is_constant(arg) for arg in args):
        raise ValueError('a list of source columns and constants, such as ["price", { value = 100 }]')
    return tuple(args)


def _is_constant(arg: object) -> bool:
    return isinstance(arg, dict) and list(arg) == ["value"] and not isinstance(arg["value"], list | dict)


class ColumnSource(Model):
    """Where a target column takes its values from: exactly one of ``ORIGINS``, and how they are read."""

    ORIGINS: ClassVar = ("from", "value", "file", "record", "line", "concat", "compute")

    source: str | None = Field(default=None, alias="from", description="the source column", examples=["Date"])
    format: Strings = Field(
        default=(),
        description="how dates and times are written, in the terms of Python's `strptime`, or `epoch` or `epoch_ms` "
        "for seconds or milliseconds since 1970 in UTC; of a list the first that reads the text "
        "([mapping](mapping.md#dates-and-times)). By default ISO 8601",
        examples=["%d/%m/%Y"],
    )
    value: AnyConstant = Field(default=None, description="the same value in every row", examples=["PT"])
    timezone: str | None = Field(
        default=None,
        description="the IANA name of the zone that a timestamp without an offset is in, by default UTC; "
        "for columns with time zone ([mapping](mapping.md#time-zones))",
        examples=["Europe/Lisbon"],
    )
    trim: bool = Field(default=False, description="cut white space off both ends of the text", examples=[True])
    case: Literal["upper", "lower"] | None = Field(
        default=None, description="`upper` or `lower`: the text in that case", examples=["upper"]
    )
    empty_as_null: bool | None = Field(
        default=None,
        description="`true`: the empty text is NULL, also in quotes, and what `trim` leaves empty; `false`: a bare "
        "empty field is the empty text, and not NULL",
        examples=[True],
    )
    default: AnyConstant = Field(
        default=None,
        description="the value in place of NULL, and where the source has no such column",
        examples=["unknown"],
    )
    file: Literal[True] | None = Field(
        default=None, description="the path of the source, as it is shown", examples=[True]
    )
    record: Literal[True] | None = Field(default=None, description="the number of the record", examples=[True])
    line: Literal[True] | None = Field(
        default=None, description="the line where the record begins; NULL for Parquet", examples=[True]
    )
    concat: Strings = Field(
        default=(),
        description="source columns whose texts are joined; NULLs are left out",
        examples=[["first", "last"]],
    )
    separator: str | None = Field(
        default=None, description="what stands between the texts of `concat`, by default nothing", examples=[" "]
    )
    compute: str | None = Field(
        default=None,
        description="a function of pyarrow's `compute` that makes the value ([list](mapping.md#expressions))",
        examples=["utf8_reverse"],
    )
    args: Annotated[
        tuple[str | Argument, ...],
        BeforeValidator(_parse_args, json_schema_input_type=str | Argument | list[str | Argument]),
    ] = Field(
        default=(),
        description="the arguments of `compute`: source columns, and constants as `{ value = 100 }`",
        examples=[["price", {"value": 100}]],
    )
    options: Mapping[str, Any] = Field(
        default_factory=dict, description="the options of `compute`", examples=[{"start": 0, "stop": 3}]
    )
    read_as: str | None = Field(
        default=None,
        alias="as",
        description="the type that the arguments of `compute` are read in, such as `integer` or `numeric(12,2)`; "
        "by default their own, which is text in a CSV file",
        examples=["numeric(12,2)"],
    )

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Every source column that is named, each once."""
        named = (self.source, *self.concat, *(arg for arg in self.args if isinstance(arg, str)))
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def reads_texts(self) -> bool:
        """Whether anything is to be done to a text before it is converted."""
        return self.trim or self.case is not None or self.empty_as_null is not None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = (self.source, self.value, self.file, self.record, self.line, self.concat or None, self.compute)
        if sum(origin is not None for origin in given) != 1:
            raise ValueError(f"give exactly one of {', '.join(self.ORIGINS[:-1])} and {self.ORIGINS[-1]}")
        return self

    @model_validator(mode="after")
    def _companions(self) -> Self:
        """What goes with some origins only."""
        has_texts = self.source is not None or bool(self.concat) or self.compute is not None
        goes_with: dict[str, tuple[dict[str, object], bool]] = {
            "compute": (
                {"args": self.args, "options": self.options, "as": self.read_as is not None},
                self.compute is not None,
            ),
            "concat": ({"separator": self.separator is not None}, bool(self.concat)),
            "from, concat or compute": (
                {
                    "format": self.format,
                    "timezone": self.timezone,
                    "trim": self.trim,
                    "case": self.case,
                    "empty_as_null": self.empty_as_null is not None,
                    "default": self.default is not None,
                },
                has_texts,
            ),
        }
        for origin, (keys, is_given) in goes_with.items():
            stray = [key for key, is_set in keys.items() if is_set and not is_given]
            if stray:
                raise ValueError(f"{stray[0]} goes with {origin}")
        if self.compute is not None and not self.args:
            raise ValueError("compute needs args, the source columns that it computes with")
        return self

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and not is_time_zone(value):
            raise ValueError('the IANA name of a time zone that the system knows, such as "Europe/Lisbon"')
        return value


def _parse_column(value: object) -> object:
    """``column = "Source"`` is short for ``column = { from = "Source" }``."""
    if isinstance(value, str):
        return {"from": value}
    if isinstance(value, dict | ColumnSource):
        return value
    raise ValueError('the name of a source column, or a table such as { from = "Date", format = "%d/%m/%Y" }')


ColumnSources = Mapping[
    str, Annotated[ColumnSource, BeforeValidator(_parse_column, json_schema_input_type=str | ColumnSource)]
]
