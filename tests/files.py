"""Builders of input files and configs: what a test hands to etl, written without etl."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written, as a reader takes it; by default as the config has it."""

    delimiter: str = ","
    quote: str = '"'
    header: bool | int | tuple[int, ...] = True
    encoding: str = "utf-8"
    null: tuple[str, ...] = ("",)
    escape: str = ""
    doubled_quotes: bool = True
    strict_quotes: bool = True
    comment: str = ""
    skip_lines: int = 0


def write_csv(path: Path, header: Sequence[str | None], rows: Iterable[Sequence[object]]) -> Path:
    """A CSV file: None is an empty field, the empty string is ``""``, a comma, quote or newline is quoted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *rows]
    path.write_text("".join(",".join(map(_field, line)) + "\n" for line in lines), encoding="utf-8", newline="")
    return path


def _field(value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    if text == "" or any(character in text for character in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def write_job(
    folder: Path,
    url: str,
    *loads: Mapping[str, Any],
    name: str = "job.toml",
    defaults: Mapping[str, Any] | None = None,
    **database: Any,
) -> Path:
    """A config file with one ``[[load]]`` for each of ``loads``; the path of it."""
    parts = [_table("[database]", {"url": url} | database)]
    if defaults:
        parts.append(_table("[defaults]", defaults))
    parts += [_table("[[load]]", load) for load in loads]
    path = folder / name
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _table(title: str, values: Mapping[str, Any]) -> str:
    return "\n".join([title, *(f"{_key(key)} = {_value(value)}" for key, value in values.items()), ""])


def _value(value: Any) -> str:
    """As TOML: what JSON has it writes alike, but for a table."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value)


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else json.dumps(key)
