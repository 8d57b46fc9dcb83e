"""docs/mapping.md: its examples are run, its lists are those of the code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etl.config import Load, read_job
from etl.errors import RecordErrors
from etl.mapping.computations import FUNCTIONS
from tests.commands import ROOT, items_job

PAGE = (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def read_load(tmp_path: Any, text: str) -> Load:
    config = tmp_path / "job.toml"
    config.write_text(f'[database]\nurl = "sqlite:///shop.db"\n{text}', encoding="utf-8")
    return read_job(config).loads[0]


def test_the_examples_of_configs_are_valid(tmp_path):
    whole, columns, record_filter = blocks("toml")
    plain = '[[load]]\nsource = "a.csv"\ntable = "a"\n'
    assert len(read_load(tmp_path, whole).columns) == 7
    assert len(read_load(tmp_path, plain + columns).columns) == 5
    assert len(read_load(tmp_path, plain + record_filter).filter) == 3


def test_every_function_that_is_allowed_is_listed_and_no_other():
    section = PAGE.partition("Allowed are functions")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"`(\w+)`", section)) == sorted(FUNCTIONS)


def test_every_key_of_a_column_and_every_comparison_is_explained():
    from etl.config import ColumnSource, Condition

    for key in (*(field.alias or name for name, field in ColumnSource.model_fields.items()), *Condition.COMPARISONS):
        assert re.search(rf"`{key}\b", PAGE), key


def test_the_example_of_a_transform_does_what_is_said():
    (code,) = blocks("python")
    module: dict[str, Any] = {}
    exec(code, module)
    phones = ["000", "351999", "44123"]
    given = pa.RecordBatch.from_pydict(
        {"Phone": phones, "Customer": ["A", "ACME Test", "B"], "etl_record": np.arange(1, 4)}
    )
    with pytest.raises(RecordErrors) as refused:
        module["clean_orders"](given)
    assert refused.value.messages == {1: "a phone that cannot be"}
    left = module["clean_orders"](given.slice(1))
    assert left.select(["etl_record", "Country code"]).to_pylist() == [{"etl_record": 3, "Country code": "441"}]


def test_the_sentences_about_clocks_are_those_of_the_program(tmp_path, sqlite_url):
    table = "CREATE TABLE items (id INTEGER PRIMARY KEY, at TIMESTAMP WITH TIME ZONE)"
    job = items_job(tmp_path, sqlite_url, table)
    job.configure(
        'source = "items.csv"\ntable = "items"\n[load.columns]\nat = { from = "at", timezone = "Europe/Lisbon" }'
    )
    job.write("items.csv", "id,at\n1,2023-03-26 01:30\n2,2023-10-29 01:30\n")
    assert job.call("load").exit_code == 3
    told = [line.split(",")[10] for line in job.call("rejects", "--format", "csv").output.splitlines()[1:]]
    assert len(told) == 2
    for message in told:
        assert f"`{message}`" in PAGE
