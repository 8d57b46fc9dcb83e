"""docs/config.md against the models that read the config: every key, with its default, and examples that are valid."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from etl.config import ColumnSource, Csv, Database, Load, read_job
from tests.commands import ROOT

REFERENCE = ROOT / "docs" / "config.md"
MODELS: dict[str, type[BaseModel]] = {
    "[database]": Database,
    "[[load]]": Load,
    "[load.csv]": Csv,
    "[load.columns]": ColumnSource,
}
NOT_VALUES = {"required", "none", "no limit", "see below", "same names", "ISO 8601", "this or `table`"}


def documented(section: str) -> dict[str, dict[str, str]]:
    """The rows of a section's table by key."""
    text = REFERENCE.read_text(encoding="utf-8")
    _, _, body = text.partition(f"\n## `{section}`\n")
    rows = [
        re.split(r"\s*(?<!\\)\|\s*", line.strip("| "))
        for line in body.partition("\n## ")[0].splitlines()
        if line.startswith("|")
    ]
    head, _, *entries = rows
    assert head == ["key", "type", "default", "meaning", "example"]
    return {entry[0].strip("`"): dict(zip(head, entry, strict=True)) for entry in entries}


def keys(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


@pytest.mark.parametrize("section", MODELS)
def test_every_key_is_documented_and_no_other(section):
    assert list(documented(section)) == list(keys(MODELS[section])), section


@pytest.mark.parametrize("section", MODELS)
def test_every_entry_says_type_default_meaning_and_example(section):
    for key, entry in documented(section).items():
        assert all(entry.values()), key


@pytest.mark.parametrize("section", MODELS)
def test_required_keys_are_told(section):
    for key, field in keys(MODELS[section]).items():
        assert (documented(section)[key]["default"] == "required") == field.is_required(), key


@pytest.mark.parametrize("section", MODELS)
def test_defaults_that_are_values_are_the_models_own(section):
    for key, field in keys(MODELS[section]).items():
        default = documented(section)[key]["default"]
        if match := re.fullmatch(r"`(.+)`", default):
            told = tomllib.loads(f"x = {match[1]}")["x"]
            assert field.default is not PydanticUndefined
            assert told == (list(field.default) if isinstance(field.default, tuple) else field.default), key
        elif field.default not in (None, "", (), PydanticUndefined) and key != "csv":
            pytest.fail(f"{key} has the default {field.default!r}, but the reference says {default}")


@pytest.mark.parametrize("section", ["[database]", "[[load]]", "[load.csv]", "[load.columns]"])
def test_every_example_is_a_value_that_the_key_takes(section, tmp_path):
    for key, entry in documented(section).items():
        match = re.fullmatch(r"`(.+)`", entry["example"])
        if match is None:
            assert entry["example"] == "see below", key
            continue
        config = tmp_path / "job.toml"
        config.write_text(_config_with(section, key, match[1]), encoding="utf-8")
        read_job(config)


def _config_with(section: str, key: str, value: str) -> str:
    keys = {
        "[database]": {"url": '"sqlite:///shop.db"'},
        "[[load]]": {"source": '"x.csv"', "table": '"x"'},
        "[load.csv]": {},
    }
    column = ""
    if section == "[load.columns]":
        source = 'from = "x", ' if key == "format" else ""
        column = f"[load.columns]\nx = {{ {source}{key} = {value} }}\n"
    else:
        if key == "model":
            del keys["[[load]]"]["table"]
        keys[section][key] = value
    tables = [f"{name}\n" + "".join(f"{k} = {v}\n" for k, v in table.items()) for name, table in keys.items()]
    if key == "csv":
        tables.pop()
    return "".join(tables) + column


def test_the_example_config_is_valid_and_shows_what_it_says(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", REFERENCE.read_text(encoding="utf-8"), re.DOTALL)
    config = tmp_path / "job.toml"
    config.write_text(example, encoding="utf-8")

    job = read_job(config)

    assert [load.name for load in job.loads] == ["orders", "customers"]
    assert {load.commit_every for load in job.loads} == {10_000}
