"""The TOML file as a whole."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from etl.config.database import Database
from etl.config.load import Load
from etl.config.values import Model


class ConfigFile(Model):
    """The top level of the TOML file, with ``[defaults]`` already merged into each load."""

    database: Database = Field(description="where the tables and the ledger are")
    load: tuple[Load, ...] = Field(description="sources into one table")
    defaults: dict[str, Any] = Field(default_factory=dict, description="any key of `[[load]]`, for all loads")

    @field_validator("load", mode="before")
    @classmethod
    def _some_loads(cls, value: object) -> object:
        if not isinstance(value, list) or not value:
            raise ValueError("one or more [[load]] tables, each under its double brackets")
        return value
