"""docs/config.md and configs/etl.schema.json: what the models of the config give, with examples that are valid."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.reference import INLINE, as_toml, page, tables
from etl.config import read_job
from etl.errors import ConfigError
from tests.commands import ROOT, call

REFERENCE = ROOT / "docs" / "config.md"
SCHEMA = ROOT / "configs" / "etl.schema.json"
# What a key needs beside it, where that is more than one other key.
COMPUTED = {"compute": "utf8_reverse", "args": ["price"]}
COMPANIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("ColumnSource", "options"): COMPUTED,
    ("ColumnSource", "as"): COMPUTED,
    ("Condition", "format"): {"column": "day", "equals": dt.date(2024, 2, 29)},
}
CHILD = ("load", "children", "x")
BASE: dict[str, Any] = {"database": {"url": "sqlite:///shop.db"}, "load": [{"source": "x.csv", "table": "x"}]}


def places() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each model of the config with the way that leads to it: ``("load", "csv")``."""
    yield "Database", ("database",)
    yield "Load", ("load",)
    yield from below("Load", ("load",))


def below(model: str, way: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for key, schema in tables()[model]["properties"].items():
        for name, is_named_by_user in sorted(models_in(schema)):
            if name in INLINE or name == model:
                continue
            deeper = (*way, key, "x") if is_named_by_user else (*way, key)
            yield name, deeper
            yield from below(name, deeper)


def models_in(schema: dict[str, Any], is_named_by_user: bool = False) -> set[tuple[str, bool]]:
    if "$ref" in schema:
        return {(schema["$ref"].rpartition("/")[2], is_named_by_user)}
    found = {one for part in schema.get("anyOf", ()) for one in models_in(part, is_named_by_user)}
    if isinstance(schema.get("items"), dict):
        found |= models_in(schema["items"], is_named_by_user)
    if isinstance(schema.get("additionalProperties"), dict):
        found |= models_in(schema["additionalProperties"], True)
    return found


def keys() -> list[Any]:
    return [
        pytest.param(model, way, key, id=f"{'.'.join(way)}.{key}")
        for model, way in places()
        for key in tables()[model]["properties"]
    ]


def test_the_tables_are_what_the_models_give():
    text = REFERENCE.read_text(encoding="utf-8")

    assert page(text) == text, "run `make docs`"


def test_a_table_that_lost_a_key_is_made_anew():
    text = REFERENCE.read_text(encoding="utf-8")
    broken = re.sub(r"^\| `delimiter` .*\n", "", text, flags=re.MULTILINE)

    assert broken != text
    assert page(broken) == text


def test_a_model_without_a_table_is_told():
    text = REFERENCE.read_text(encoding="utf-8").replace("<!-- keys of Csv,", "<!-- keys of Other,")

    with pytest.raises(SystemExit, match="no place for the keys of Csv"):
        page(text)


def test_every_model_can_be_reached_from_the_top():
    assert {model for model, _ in places()} == set(tables())


@pytest.mark.parametrize("model", tables())
def test_every_key_has_a_meaning_and_an_example(model):
    for key, schema in tables()[model]["properties"].items():
        assert schema.get("description"), key
        assert schema.get("examples"), key


@pytest.mark.parametrize(("model", "way", "key"), keys())
def test_every_example_is_a_value_that_the_key_takes(model, way, key, tmp_path):
    """Alone, or beside what it goes with."""
    properties = tables()[model]["properties"]
    others = [{other: properties[other]["examples"][0]} for other in properties if other != key]
    beside = [COMPANIONS[model, key]] if (model, key) in COMPANIONS else [{}, *others]
    for example in properties[key]["examples"]:
        assert any(is_valid(tmp_path, config_with(model, way, {**other, key: example})) for other in beside), example


def config_with(model: str, way: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    """A config that is valid but for ``values`` in the table that ``way`` leads to."""
    required = tables()[model].get("required", ())
    table = {key: tables()[model]["properties"][key]["examples"][0] for key in required} | values
    if way == ("database",):
        return BASE | {"database": table}
    load = dict(BASE["load"][0])
    if way == ("load",):
        others = {"source": load["source"]} if "model" in table else load
        return BASE | {"load": [others | table]}
    for place, key in reversed(list(enumerate(way))[1:]):
        if way[: place + 1] == CHILD:
            table = {"table": "order_lines"} | table
        table = {key: table}
    return BASE | {"load": [load | table]}


def is_valid(folder: Path, config: dict[str, Any]) -> bool:
    path = folder / "job.toml"
    path.write_text(
        f"database = {as_toml(config['database'])}\nload = [{as_toml(config['load'][0])}]\n", encoding="utf-8"
    )
    try:
        read_job(path)
    except ConfigError:
        return False
    return True


def test_an_example_that_is_refused_would_be_seen(tmp_path):
    assert not is_valid(tmp_path, config_with("Csv", ("load", "csv"), {"delimiter": "||"}))
    assert is_valid(tmp_path, config_with("Csv", ("load", "csv"), {"delimiter": "|"}))


@pytest.mark.parametrize("model", tables())
def test_defaults_that_are_shown_are_toml(model):
    for key, schema in tables()[model]["properties"].items():
        if "default" in schema:
            assert tomllib.loads(f"x = {as_toml(schema['default'])}")["x"] == schema["default"], key


def test_the_example_config_is_valid_and_shows_what_it_says(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", REFERENCE.read_text(encoding="utf-8"), re.DOTALL)
    config = tmp_path / "job.toml"
    config.write_text(example, encoding="utf-8")

    job = read_job(config)

    assert [load.name for load in job.loads] == ["orders", "customers"]
    assert {load.commit_every for load in job.loads} == {10_000}


def test_the_schema_beside_the_sample_configs_is_the_one_that_is_printed():
    assert call("schema").output == SCHEMA.read_text(encoding="utf-8"), "run `make docs`"
