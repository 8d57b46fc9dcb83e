"""``[[load]]``: sources into one table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from etl.addresses import STORES, WEB, scheme_of
from etl.config.children import Child
from etl.config.columns import ColumnSources
from etl.config.conditions import Conditions
from etl.config.csv import Csv
from etl.config.limits import (
    RECORD_BYTES,
    BytesAsWritten,
    LimitAsWritten,
    RejectLimit,
    parse_limit,
    parse_record_bytes,
)
from etl.config.values import Model, Strings, is_number

Method = Literal["auto", "copy", "bulk", "row"]

Format = Literal["csv", "jsonl", "parquet", "arrow"]


def _parse_commit_every(value: object) -> object:
    if value in ("file", "run") or is_number(value, 1):
        return value
    raise ValueError('a number of rows such as 100_000, "file" or "run"')


_IntervalAsWritten = Annotated[int, Field(gt=0)] | Literal["file", "run"]


class Load(Model):
    """``[[load]]``: sources into one table."""

    source: Strings = Field(
        description="path, glob, folder, `.zip` archive, or `-` for standard input ([sources](sources.md)). Files are "
        "loaded in natural order: `orders-2` before `orders-10`. What becomes of files that change meanwhile: "
        "[results](results.md#sources-that-change)",
        examples=[["a.csv", "b/*.csv.gz"]],
    )
    name: str = Field(
        default="",
        description="what messages, `--only` and the ledger call the load",
        examples=["orders"],
        json_schema_extra={"x-unset": "the table's name"},
    )
    format: Format | None = Field(
        default=None,
        description="`csv`, `parquet`, `jsonl` or `arrow` ([sources](sources.md)); the suffix is looked up through "
        "`.gz`, `.zst`, `.bz2` and `.lz4`",
        examples=["csv"],
        json_schema_extra={"x-unset": "from the suffix"},
    )
    hive: bool = Field(
        default=False,
        description="`true`: a folder stands for the files in its folders too, and each folder `key=value` in the path "
        "of a source is a column `key` of it, whose text is `value` ([sources](sources.md#hive-partitions))",
        examples=[True],
    )
    table: str | None = Field(
        default=None,
        description="the target table, or `schema.table`",
        examples=["orders"],
        json_schema_extra={"x-unset": "this or `model`"},
    )
    model: str | None = Field(
        default=None,
        description="a mapped class of SQLAlchemy in place of a table; its module is imported, looked for beside the "
        "config too",
        examples=["shop.models:Order"],
        json_schema_extra={"x-unset": "this or `table`"},
    )
    create: bool = Field(
        default=False,
        description="make the table if it is missing, with the columns of the mapping and the types of the file's "
        "values: see [schemas](schemas.md)",
        examples=[True],
    )
    add_columns: bool = Field(
        default=False,
        description="add the file's columns that the table lacks, as columns that may be NULL: see "
        "[schemas](schemas.md)",
        examples=[True],
    )
    key: Strings = Field(
        default=(),
        description="the columns of the unique constraint that says which rows are duplicates; a row that repeats "
        "another unique constraint is a reject then. By default each of them is meant, and for an update the primary "
        "key. Of a table that `create` makes it is the primary key",
        examples=[["order_id"]],
    )
    on_duplicate: Literal["skip", "update", "replace", "error"] = Field(
        default="skip",
        description=(
            "what happens to a row whose key is already there: `skip` counts it and goes on, `update` gives its values "
            "to the row that is there ([exactly](results.md#updates)), `replace` is that for a record with `children` "
            "([exactly](nested.md#replacing)), `error` ends the run"
        ),
        examples=["error"],
    )
    update_columns: Strings = Field(
        default=(),
        description=(
            'with `on_duplicate = "update"`: the columns that an existing row takes from the source; the others keep '
            "their values. By default all that the load feeds, but for the key"
        ),
        examples=[["price"]],
    )
    newer_by: str | None = Field(
        default=None,
        description=(
            'with `on_duplicate = "update"`: a row is updated only if the value of this column is greater than the '
            "one it has; an older record is `unchanged`. A NULL in the table is older than any value, a NULL in the "
            "source is never newer"
        ),
        examples=["updated_at"],
    )
    record_duplicates: bool = Field(
        default=False, description="list duplicates in `etl rejects` too, in the phase `duplicate`", examples=[True]
    )
    max_rejects: Annotated[RejectLimit | None, BeforeValidator(parse_limit, json_schema_input_type=LimitAsWritten)] = (
        Field(
            default=None,
            description="more rejects of the load than this end the run with exit code 4, before the open transaction "
            "is committed: a number, or a share of the records read so far (judged from 1,000 records on, and at the "
            "end of the load). `etl load --max-rejects` overrides it",
            examples=["1%"],
            json_schema_extra={"x-unset": "no limit"},
        )
    )
    max_record_bytes: Annotated[int, BeforeValidator(parse_record_bytes, json_schema_input_type=BytesAsWritten)] = (
        Field(
            default=RECORD_BYTES,
            description="a record longer than this is a reject (`too_long`), at most `500_000_000`. In a CSV file the "
            "bytes of the record as text in UTF-8, in a Parquet file those of the values that are read. The memory "
            "that a load takes grows with it: see [limits](#limits)",
            examples=[1_000_000],
        )
    )
    commit_every: Annotated[
        int | Literal["file", "run"], BeforeValidator(_parse_commit_every, json_schema_input_type=_IntervalAsWritten)
    ] = Field(
        default=100_000,
        description='rows in a transaction, `"file"` or `"run"`. A run that dies goes on after the last commit',
        examples=["file"],
    )
    method: Method = Field(
        default="auto",
        description="`auto`, `copy` (PostgreSQL), `bulk` or `row`; the verdicts are the same. `etl check` says which "
        "one is taken and why",
        examples=["bulk"],
    )
    ignore_columns: Strings = Field(
        default=(),
        description='source columns that no target column takes; `"*"` for all. One that is not named is an error',
        examples=[["Exported by"]],
    )
    csv: Csv = Field(default=Csv(), description="how the CSV files are written", examples=[{"delimiter": ";"}])
    columns: ColumnSources = Field(
        default_factory=dict,
        description="which source column feeds which target column",
        examples=[{"order_id": "Order ID"}],
        json_schema_extra={"x-unset": "same names"},
    )
    filter: Conditions = Field(
        default=(),
        description="conditions that a record has to meet, all of them; the others are left out and counted as "
        "`filtered` ([mapping](mapping.md#filter))",
        examples=[[{"column": "status", "equals": "paid"}]],
    )
    transform: str | None = Field(
        default=None,
        description="a function of the user's, `module:function`, that gets and returns the records as Arrow record "
        "batches; its module is imported, looked for beside the config too ([mapping](mapping.md#transform))",
        examples=["shop.cleaning:clean_orders"],
    )
    children: Mapping[str, Child] = Field(
        default_factory=dict,
        description="columns of lists, whose elements are rows of other tables ([nested records](nested.md))",
        examples=[{"lines": {"table": "order_lines", "position": "line_no"}}],
    )

    @field_validator("source")
    @classmethod
    def _some_source(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(value):
            raise ValueError("a path, a glob, a folder, or a list of these")
        if any((scheme := scheme_of(source)) is not None and scheme not in (*WEB, *STORES) for source in value):
            raise ValueError("a URL that begins with http, https, s3, gs, abfs or abfss, or a path without ://")
        return value

    @field_validator("transform")
    @classmethod
    def _names_function(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^:\s]+:[^:\s]+", value):
            raise ValueError('"module:function", such as "shop.cleaning:clean_orders"')
        return value

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if bool(self.table) == bool(self.model):
            raise ValueError('give exactly one of table and model, such as table = "orders"')
        return self

    @model_validator(mode="after")
    def _making_goes_with_table(self) -> Self:
        if not (self.create or self.add_columns):
            return self
        key = "create" if self.create else "add_columns"
        if self.model:
            raise ValueError(f"{key} goes with table: what a mapped class needs is made by its metadata.create_all")
        if self.children:
            raise ValueError(
                f"{key} goes without [load.children]: make their tables first, with the foreign keys that join them"
            )
        return self

    @model_validator(mode="after")
    def _updates_make_sense(self) -> Self:
        if kept := [name for name in self.key if name in (*self.update_columns, self.newer_by)]:
            raise ValueError(f"{kept[0]} is in key, whose columns keep their values: leave it out of the others")
        if self.newer_by is not None and self.update_columns and self.newer_by not in self.update_columns:
            raise ValueError("update_columns has to name the column of newer_by too: what is newer is told by it")
        return self

    @model_validator(mode="after")
    def _whole_records_are_replaced(self) -> Self:
        if self.children and self.on_duplicate == "update":
            raise ValueError('with [load.children] on_duplicate = "replace" takes the place of "update"')
        if not self.children and self.on_duplicate == "replace":
            raise ValueError('on_duplicate = "replace" is for loads with [load.children]; "update" is for flat tables')
        if self.model is None:
            _require_tables(self.children)
        return self


def _require_tables(children: Mapping[str, Child]) -> None:
    """Raise ValueError for a child without a table."""
    for name, child in children.items():
        if not child.table:
            raise ValueError(f'[load.children.{name}] needs a table, such as table = "order_lines"')
        _require_tables(child.children)
