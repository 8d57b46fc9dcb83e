"""``filter``: the conditions that a record has to meet."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from etl.config.values import AnyConstant, Constants, Model, Strings


def _parse_conditions(value: object) -> object:
    """One condition stands for a list of one."""
    if isinstance(value, dict | Condition):
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(item, dict | Condition) for item in value):
        return tuple(value)
    raise ValueError('a list of conditions, such as [{ column = "status", equals = "paid" }]')


class Condition(Model):
    """One condition of ``filter``: a source column and one comparison, or ``any`` of several conditions."""

    COMPARISONS: ClassVar = (
        *("equals", "not_equals", "in", "not_in", "less", "less_equal", "greater", "greater_equal"),
        *("matches", "is_null"),
    )

    column: str | None = Field(default=None, description="the source column", examples=["status"])
    equals: AnyConstant = Field(default=None, description="is this value", examples=["paid"])
    not_equals: AnyConstant = Field(default=None, description="is another value, or NULL", examples=["void"])
    is_in: Constants = Field(default=None, alias="in", description="is one of these", examples=[["paid", "sent"]])
    not_in: Constants = Field(default=None, description="is none of these, or NULL", examples=[["void", "test"]])
    less: AnyConstant = Field(default=None, description="is less", examples=[100])
    less_equal: AnyConstant = Field(default=None, description="is less or equal", examples=[100])
    greater: AnyConstant = Field(default=None, description="is greater", examples=[0])
    greater_equal: AnyConstant = Field(default=None, description="is greater or equal", examples=[0])
    matches: str | None = Field(
        default=None, description="has a match of this regular expression (RE2)", examples=["^PT"]
    )
    is_null: bool | None = Field(default=None, description="is NULL, or is not", examples=[False])
    format: Strings = Field(
        default=(), description="how dates and times are written, as for a column", examples=["%d/%m/%Y"]
    )
    any: Annotated[tuple[Condition, ...], BeforeValidator(_parse_conditions)] = Field(
        default=(),
        description="at least one of these conditions holds",
        examples=[[{"column": "status", "equals": "paid"}, {"column": "total", "equals": 0}]],
    )

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Every source column that is named."""
        inner = [name for condition in self.any for name in condition.source_columns]
        return (*(() if self.column is None else (self.column,)), *inner)

    @property
    def comparison(self) -> tuple[str, object]:
        """The name of the comparison, and the value that is compared with."""
        return self._comparisons[0]

    @property
    def _comparisons(self) -> list[tuple[str, object]]:
        given = {name: getattr(self, "is_in" if name == "in" else name) for name in self.COMPARISONS}
        return [(name, value) for name, value in given.items() if value is not None]

    @model_validator(mode="after")
    def _one_comparison(self) -> Self:
        if self.any and (self.column is not None or self._comparisons):
            raise ValueError("any stands alone, without column and comparison")
        if not self.any and (self.column is None or len(self._comparisons) != 1):
            words = f"{', '.join(self.COMPARISONS[:-1])} and {self.COMPARISONS[-1]}"
            raise ValueError(f"give column and exactly one of {words}")
        return self


Conditions = Annotated[tuple[Condition, ...], BeforeValidator(_parse_conditions)]
