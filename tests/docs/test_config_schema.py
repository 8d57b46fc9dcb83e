"""`etl schema`: what is valid for an editor, and what it marks, beside what etl itself says."""

from __future__ import annotations

import datetime as dt
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from etl.config import read_job
from etl.errors import ConfigError
from tests.commands import ROOT, call

DATABASE = '[database]\nurl = "sqlite:///shop.db"\n'
LOAD = '[[load]]\nsource = "orders.csv"\ntable = "orders"\n'
CONFIGS = sorted([*ROOT.glob("configs/*.toml"), *ROOT.glob("tests/cases/**/*.toml")])
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
EXAMPLES = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL), 1)
]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(call("schema").output)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def problems(validator: Draft202012Validator, text: str) -> list[str]:
    content = json.loads(json.dumps(tomllib.loads(text), default=_as_editors_see_it))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(content)]


def _as_editors_see_it(value: object) -> str:
    assert isinstance(value, dt.date | dt.time)
    return value.isoformat()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_config_of_the_project_is_valid(validator, path: Path):
    assert problems(validator, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_of_the_docs_is_valid(validator, text):
    assert problems(validator, whole(text)) == []


def whole(example: str) -> str:
    """An example that shows a part of a config, with what is left out in it."""
    if "[[load]]" not in example:
        before = example.partition("[load.")[0]
        tables = before if before.startswith("[") else ""  # else they are keys of the load
        load = LOAD.replace('source = "orders.csv"\n', "") if example.startswith("source = ") else LOAD
        example = f"{tables}\n{load}{example.removeprefix(tables)}"
    return example if "[database]" in example else DATABASE + example


@pytest.mark.parametrize("name", ["quickstart.toml", "postgres.toml", "sources.toml", "nested.toml"])
def test_a_sample_config_names_the_schema_beside_it_in_its_first_line(name):
    first = (ROOT / "configs" / name).read_text(encoding="utf-8").partition("\n")[0]

    assert first == "#:schema etl.schema.json"
    assert (ROOT / "configs" / first.removeprefix("#:schema ")).is_file()


@pytest.mark.parametrize(
    "text",
    [
        DATABASE + LOAD + "max_rejects = 5",
        DATABASE + LOAD + 'max_rejects = "0.5%"',
        DATABASE + LOAD + 'max_rejects = "${MOST:-1%}"',
        DATABASE + LOAD + 'commit_every = "run"',
        DATABASE + LOAD + "commit_every = 10",
        DATABASE + LOAD + 'method = "${METHOD:-row}"',
        DATABASE + LOAD + 'csv = { null = "NULL", delimiter = "\\t", header = false }',
        DATABASE + LOAD + 'ignore_columns = "*"',
        DATABASE + LOAD + '[load.columns]\na = "A"\nb = { from = "B", format = "%d" }\nc = { value = 2026-01-31 }',
        DATABASE + LOAD + "[load.columns]\na = { value = true }\nb = { value = 1.5 }\nc = { value = 07:32:00 }",
        DATABASE + '[defaults]\ncommit_every = "file"\ncsv = { delimiter = ";" }\n' + LOAD,
        DATABASE + '[defaults]\ntable = "orders"\n[[load]]\nsource = ["a.csv", "b.csv"]\n',
        DATABASE + '[defaults]\nsource = "a.csv"\n[[load]]\ntable = "orders"\n',
        DATABASE + '[[load]]\nsource = "a.csv"\nmodel = "shop:Order"\n',
    ],
)
def test_what_etl_takes_is_valid(validator, text, tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    read_job(path)

    assert problems(validator, text) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (DATABASE + LOAD + "comit_every = 5", "$.load[0]"),
        (DATABASE + LOAD + "[load.csv]\nseparator = ';'", "$.load[0].csv"),
        (DATABASE + LOAD + "[load.columns]\na = { form = 'A' }", "$.load[0].columns.a"),
        (DATABASE + "port = 5432\n" + LOAD, "$.database"),
        (DATABASE + LOAD + "[loads]\nx = 1", "$"),
        (DATABASE + "[defaults]\nmetod = 'row'\n" + LOAD, "$.defaults"),
        (DATABASE + LOAD + "method = 'fast'", "$.load[0].method"),
        (DATABASE + LOAD + "max_rejects = 'many'", "$.load[0].max_rejects"),
        (DATABASE + LOAD + "commit_every = 0", "$.load[0].commit_every"),
        (DATABASE + LOAD + "create = 'perhaps'", "$.load[0].create"),
        (DATABASE + LOAD + "model = 'shop:Order'", "$.load[0]"),
        (DATABASE + "[[load]]\ntable = 'orders'", "$.load[0]"),
        (DATABASE + "[[load]]\nsource = 'a.csv'", "$.load[0]"),
        (LOAD, "$"),
        (DATABASE, "$"),
    ],
)
def test_what_etl_refuses_is_marked_at_its_place(validator, text, place, tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        read_job(path)

    assert any(problem.startswith(f"{place}: ") for problem in problems(validator, text)), problems(validator, text)


def nodes(schema: Any) -> list[dict[str, Any]]:
    below = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return ([schema] if isinstance(schema, dict) else []) + [node for part in below for node in nodes(part)]


def test_every_key_is_described_and_no_description_has_a_link_that_leads_nowhere(validator):
    for name, definition in validator.schema["$defs"].items():
        for key, schema in definition.get("properties", {}).items():
            assert schema["description"], (name, key)
            assert schema["examples"], (name, key)
    assert not [node for node in nodes(validator.schema) if "](" in str(node.get("description", ""))]


def test_every_example_is_valid_by_its_own_schema(validator):
    definitions = validator.schema["$defs"]
    for definition in definitions.values():
        for schema in definition.get("properties", {}).values():
            for example in schema["examples"]:
                Draft202012Validator({"$defs": definitions} | schema).validate(example)
