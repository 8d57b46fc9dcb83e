"""What the models of the config share: their base, lists of strings, and the constants of TOML."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, TypeGuard

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Model(BaseModel):
    """A table of the config: frozen, and no key is let pass that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _as_tuple(value: object) -> object:
    """One string stands for a list of one."""
    return (value,) if isinstance(value, str) else value


Strings = Annotated[tuple[str, ...], BeforeValidator(_as_tuple, json_schema_input_type=str | list[str])]

Constant = bool | int | float | dt.datetime | dt.date | dt.time | str


def parse_constant(value: object) -> object:
    if isinstance(value, list | dict):
        raise ValueError("a string, a number, a boolean, a date or a time")
    return value


AnyConstant = Annotated[Constant | None, BeforeValidator(parse_constant)]


def parse_constants(value: object) -> object:
    if not isinstance(value, list | tuple) or not value or any(isinstance(item, list | dict) for item in value):
        raise ValueError('a list of strings, numbers, booleans, dates or times, such as ["paid", "sent"]')
    return tuple(value)


Constants = Annotated[tuple[Constant, ...] | None, BeforeValidator(parse_constants)]


def is_number(value: object, least: int) -> TypeGuard[int]:
    """Whether it is an integer, and no boolean, of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
