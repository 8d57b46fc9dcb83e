"""A job: its config file read, merged with ``[defaults]`` and validated."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from etl.config.database import Database
from etl.config.environment import expanded, expanded_value
from etl.config.file import ConfigFile
from etl.config.load import Load
from etl.config.messages import allowed_by, hint_of, listed, sentence_of
from etl.config.places import keys_of
from etl.config.values import Model
from etl.errors import ConfigError
from etl.showing import shown_argument


class Job(Model):
    """A whole config file. ``name`` is the file's name: it identifies the job in the ledger."""

    name: str
    folder: Path
    database: Database
    loads: tuple[Load, ...]


def read_job(path: str | os.PathLike[str]) -> Job:
    """Read and validate the config file at ``path``.

    Raises ConfigError with one line for each thing that is wrong: file, table, key, the value seen, what is allowed.
    """
    file = Path(path)
    job = _validated(file, expanded(_parse(file), file))
    return job.model_copy(update={"database": _anchored(job.database, job.folder)})


def read_database(path_or_url: str) -> tuple[Database, str | None]:
    """The database that a command such as ``etl history`` is pointed at, and the job's name if it was by a config.

    ``${NAME}`` in it is taken from the environment, as in a config: an argument can be seen by every user of the
    machine. Raises ConfigError when it is neither a config file that can be read nor a database URL.
    """
    missing: list[str] = []
    text = str(expanded_value(path_or_url, ("database", "url"), missing))
    if missing:
        raise ConfigError(f"{missing[0].partition(': ')[2]}.", "Set it, or give a default as in ${NAME:-default}.")
    if "://" not in text:
        job = read_job(text)
        return job.database, job.name
    try:
        return Database(url=text), None
    except ValidationError as error:
        allowed = allowed_by(error.errors()[0]).removeprefix("a database URL")
        raise ConfigError("The database URL cannot be used.", f"Give one{allowed}.") from None


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"There is no config file {shown_argument(str(file))}.", "Give the path of a job's TOML file."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"The config file {shown_argument(str(file))} cannot be read: {error.strerror}.",
            "Give the path of a job's TOML file.",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start} is not UTF-8.", "Save the config as UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.", "Correct it there.") from None


def _validated(file: Path, content: dict[str, Any]) -> Job:
    errors = list(_default_errors(content.get("defaults", {})))
    try:
        parsed = ConfigFile.model_validate(_with_defaults(content))
    except ValidationError as error:
        errors += [sentence_of(item, content) for item in error.errors(include_url=False)]
    else:
        errors += _double_names(parsed.load)
    if errors:
        errors = list(dict.fromkeys(errors))
        raise ConfigError(listed(file, errors), "Nothing was started." if len(errors) == 1 else "")
    loads = tuple(load.model_copy(update={"name": _name(load)}) for load in parsed.load)
    name = os.fsencode(file.name).decode("utf-8", "backslashreplace")  # the ledger takes text only
    return Job(name=name, folder=file.resolve().parent, database=parsed.database, loads=loads)


def _with_defaults(content: dict[str, Any]) -> dict[str, Any]:
    defaults, loads = content.get("defaults", {}), content.get("load", [])
    if not isinstance(defaults, dict) or not isinstance(loads, list):
        return content
    return content | {"load": [_merged(defaults, load) if isinstance(load, dict) else load for load in loads]}


def _merged(defaults: dict[str, Any], load: dict[str, Any]) -> dict[str, Any]:
    """A load's own key wins; ``csv`` and ``columns`` are merged key by key; a model stands in for a default table."""
    tables = {
        key: defaults[key] | load.get(key, {})
        for key in ("csv", "columns")
        if isinstance(defaults.get(key), dict) and isinstance(load.get(key, {}), dict)
    }
    others = {"table": "model", "model": "table"}
    known = keys_of(Load)
    inherited = {key: value for key, value in defaults.items() if key in known and others.get(key) not in load}
    return inherited | load | tables


def _default_errors(defaults: object) -> Iterator[str]:
    """Keys that no load knows are told once, at [defaults], and not again for each load."""
    if isinstance(defaults, dict):
        allowed = keys_of(Load)
        yield from (f"[defaults] {key}: unknown key{hint_of(key, allowed)}" for key in defaults if key not in allowed)


def _double_names(loads: tuple[Load, ...]) -> list[str]:
    names = [_name(load) for load in loads]
    doubled = sorted({name for name in names if names.count(name) > 1})
    return [f'[[load]] name: "{name}" is used by {names.count(name)} loads; give each its own name' for name in doubled]


def _name(load: Load) -> str:
    return load.name or load.table or (load.model or "").rpartition(":")[2]


def _anchored(database: Database, folder: Path) -> Database:
    """A relative SQLite path is relative to the config file, like every other path in it."""
    url = database.sqlalchemy_url
    name = url.database or ""
    if url.get_backend_name() != "sqlite" or name in ("", ":memory:") or name.startswith("file:"):
        return database
    anchored = url.set(database=os.path.normpath(folder / name))
    return database.model_copy(update={"url": anchored.render_as_string(hide_password=False)})
