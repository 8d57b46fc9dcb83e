"""``[load.children.NAME]``: columns of lists, whose elements are rows of tables of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from etl.config.columns import ColumnSources
from etl.config.values import Model, Strings

ELEMENT = "element"  # what an element that is no struct is called


class Child(Model):
    """``[load.children.NAME]``: a column of lists, whose elements are rows of a table of their own."""

    source: str = Field(
        default="",
        description="the column of lists, or its path in a struct",
        examples=["lines"],
        json_schema_extra={"x-unset": "the name NAME"},
    )
    table: str | None = Field(
        default=None,
        description="the table of the elements; with `model` the relationship NAME of the class says it",
        examples=["order_lines"],
        json_schema_extra={"x-unset": "required without `model`"},
    )
    through: str | None = Field(
        default=None,
        description="the association table between both, for elements that many records may share",
        examples=["product_tags"],
    )
    key: Strings = Field(
        default=(),
        description="for shared elements: the columns by which one that is there already is found; "
        "if not given, the unique constraint all of whose columns the elements give",
        examples=["name"],
    )
    missing: Literal["create", "reject"] = Field(
        default="create",
        description='for shared elements: what becomes of one that is not there, `"create"` or `"reject"`',
        examples=["reject"],
    )
    position: str | None = Field(
        default=None,
        description="a column that takes the element's place in its list, from 1",
        examples=["line_no"],
    )
    orphans: Literal["refuse", "reject"] = Field(
        default="refuse",
        description='what a bad element costs: `"refuse"`, the whole record; `"reject"`, itself alone',
        examples=["reject"],
    )
    ignore_columns: Strings = Field(
        default=(),
        description='fields of the elements that no column takes; `"*"` for all',
        examples=[["note"]],
    )
    columns: ColumnSources = Field(
        default_factory=dict,
        description="which field of the elements feeds which column, as in `[load.columns]`; "
        "an element that is no struct is called `element`",
        examples=[{"sku": "product.sku"}],
    )
    children: Mapping[str, Child] = Field(
        default_factory=dict,
        description="lists in the elements, in the same way",
        examples=[{"taxes": {"table": "line_taxes"}}],
    )

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if self.through is not None and self.position is not None:
            raise ValueError("position is not for elements that are shared through an association table")
        if self.through is not None and self.children:
            raise ValueError("elements that are shared through an association table have no children of their own")
        return self
