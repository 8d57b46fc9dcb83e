"""A config is data: nothing in it is run, but for the modules that `model =` and `transform =` name, and those for a
load only."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from etl.config import Load
from tests.commands import Ended, Job, execute, items_csv, items_job

SPY = """
import pathlib
(pathlib.Path(__file__).parent / "was_run").touch()
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
class Base(DeclarativeBase): pass
class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
def unchanged(records): return records
"""
ATTEMPTS = [
    "$(touch was_run)",
    "`touch was_run`",
    "${HOME:-$(touch was_run)}",
    "| touch was_run",
    "; touch was_run",
    "__import__('os').mknod('was_run')",
    "{0.__class__.__init__.__globals__}",
    "%(touch was_run)s",
    "!!python/object/apply:os.mknod ['was_run']",
    "spy:Item",
    "spy.py",
    "file://spy.py",
    "encodings.spy",
    "../spy",
    "E'' || pg_read_file('/etc/passwd')",
]
RUNNING_KEYS = {"model", "transform"}


@pytest.fixture
def job(tmp_path: Path, sqlite_url: str) -> Job:
    made = items_job(tmp_path, sqlite_url)
    made.write("spy.py", SPY)
    made.write("items.csv", items_csv([(1, "one")]))
    return made


def was_run(job: Job) -> bool:
    return (job.folder / "was_run").exists() or "spy" in sys.modules


def load_with(key: str, attempt: str) -> str:
    literal = "'" + attempt.replace("'", '"') + "'"
    column = "source = 'items.csv'\ntable = 'items'\n[load.columns]\nname = "
    texts = {
        "source": f"source = {literal}\ntable = 'items'",
        "table": f"source = 'items.csv'\ntable = {literal}",
        "columns": f"source = 'items.csv'\ntable = 'items'\nignore_columns = '*'\n"
        f"[load.columns]\nid = 'id'\nname = {{ value = {literal} }}",
        "column format": f"source = 'items.csv'\ntable = 'items'\n"
        f"[load.columns]\nname = {{ from = 'name', format = {literal} }}",
        "column timezone": f"{column}{{ from = 'name', timezone = {literal} }}",
        "column default": f"{column}{{ from = 'name', default = {literal} }}",
        "column compute": f"{column}{{ compute = {literal}, args = 'name' }}",
        "column args": f"{column}{{ compute = 'coalesce', args = ['name', {{ value = {literal} }}], as = {literal} }}",
        "column options": f"{column}{{ compute = 'starts_with', args = 'name', options = {{ pattern = {literal} }} }}",
        "filter": f"source = 'items.csv'\ntable = 'items'\nfilter = [{{ column = 'name', not_equals = {literal} }}]",
        "filter matches": f"source = 'items.csv'\ntable = 'items'\nfilter = {{ column = 'name', matches = {literal} }}",
        "csv": f"source = 'items.csv'\ntable = 'items'\n[load.csv]\nencoding = {literal}\nnull = [{literal}]",
    }
    return texts.get(key, f"source = 'items.csv'\ntable = 'items'\n{key} = {literal}")


COLUMN_KEYS = {f"column {key}" for key in ("format", "timezone", "default", "compute", "args", "options")}
KEYS = sorted({*COLUMN_KEYS, "columns", "csv", "filter matches", *Load.model_fields} - RUNNING_KEYS)


@pytest.mark.parametrize("key", [key if key == "csv" else pytest.param(key, marks=pytest.mark.long) for key in KEYS])
def test_no_text_of_a_config_is_run(job: Job, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(job.folder)
    for attempt in ATTEMPTS:
        job.configure(load_with(key, attempt))
        ended: Ended = job.call("load")
        assert ended.exit_code in (0, 1, 2, 3)
        assert not was_run(job), attempt


@pytest.mark.parametrize("value", ATTEMPTS[:2])
def test_what_the_environment_gives_is_text(job: Job, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put in as it is: neither expanded once more nor read as TOML."""
    monkeypatch.chdir(job.folder)
    job.environment["VALUE"] = f"{value}\"\ntable = 'other' # ${{HOME}}"
    job.configure("source = 'items.csv'\ntable = 'items'\nname = '${VALUE}'")
    assert job.call("load", "--json").result["loads"][0]["name"] == job.environment["VALUE"]
    assert not was_run(job)


@pytest.fixture(params=["model", "transform"])
def running_job(job: Job, request: pytest.FixtureRequest) -> Any:
    """A job with a key that imports a module, and that module."""
    target = 'model = "spy:Item"' if request.param == "model" else 'table = "items"\ntransform = "spy:unchanged"'
    job.configure(f'source = "items.csv"\n{target}')
    yield job
    sys.modules.pop("spy", None)


def test_a_module_that_a_config_names_is_not_imported_by_commands_that_only_look(running_job: Job) -> None:
    for command, *arguments in (
        ("history",),
        ("rejects",),
        ("purge", "--keep", "3"),
        ("purge", "--keep", "3", "--dry-run"),
        ("load", "--only", "nothing"),
    ):
        running_job.call(command, *arguments)
        assert not was_run(running_job)


@pytest.mark.parametrize("command", ["check", "load"])
def test_the_module_of_a_model_or_a_transform_is_the_code_that_is_run(running_job: Job, command: str) -> None:
    assert running_job.call(command).exit_code == 0
    assert was_run(running_job)
    assert str(running_job.folder) not in sys.path


@pytest.mark.long
def test_files_beside_the_config_shadow_no_module_of_etl(job: Job) -> None:
    """Nothing is imported from the folder of a config that has neither model nor transform."""
    for module in ("csv", "encodings", "sqlalchemy", "numpy", "sqlite3", "filelock"):
        job.write(f"{module}.py", SPY)
    execute(job.url, "DELETE FROM items")
    assert job.etl("load").exit_code == 0
    assert not os.path.exists(job.folder / "was_run")
