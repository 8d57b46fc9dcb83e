"""What is wrong with a config, as sentences: the place, what was seen, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from etl.config.places import keys_of, place_of
from etl.showing import without_passwords

# What pydantic calls an error of a wrong type, in the words of TOML.
_ALLOWED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a string, or a list of strings",
    "dict_type": "a table",
    "mapping_type": "a table",
    "is_instance_of": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}

_QUERY_VALUE = re.compile(r"(?<==)[^=&\s\"']+")


def sentence_of(error: Mapping[str, Any], content: dict[str, Any]) -> str:
    """What pydantic says of ``content``, in the words of TOML."""
    place = place_of(error["loc"], content)
    if error["type"] == "extra_forbidden":
        return f"{place.where}: unknown key{hint_of(str(error['loc'][-1]), keys_of(place.model))}"
    if error["type"] == "missing":
        return f"{place.where} is missing"
    allowed = _ALLOWED.get(error["type"]) or allowed_by(error)
    seen = error["input"]
    if error["loc"] == ("database", "url"):
        return f"{place.where}: its value (not shown: it may hold a password) is not allowed; allowed: {allowed}"
    if isinstance(seen, BaseModel) or (isinstance(seen, dict) and error["type"] == "value_error"):
        return f"{place.where}: {allowed}"
    return f"{place.where}: {_shown(seen)} is not allowed; allowed: {allowed}"


def allowed_by(error: Mapping[str, Any]) -> str:
    """What is allowed in the place of the value that was refused."""
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"]).replace("'", '"').replace("True", "true")
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    text = without_passwords(text)
    if "://" in text:
        text = _QUERY_VALUE.sub("***", text)  # of a URL that is signed
    return text if len(text) <= 60 else f"{text[:57]}…"


def hint_of(key: str, allowed: tuple[str, ...]) -> str:
    """What may have been meant by ``key``."""
    close = difflib.get_close_matches(key.rpartition(".")[2], allowed, n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; allowed: {', '.join(allowed)}"


def listed(file: Path, errors: list[str]) -> str:
    """The errors of ``file`` as one message: a line for each, if there are several."""
    if len(errors) == 1:
        return f"{file}: {errors[0]}" + ("" if errors[0].endswith("?") else ".")
    lines = [f"{file} has {len(errors)} errors, nothing was started:", *(f"  {error}" for error in errors)]
    return "\n".join(lines)
