"""Write the tables of keys in docs/config.md from the models that read the config: `make docs`.

A table stands between `<!-- keys of MODEL, made by make docs -->` and `<!-- end of keys -->`; what is around it is
written by hand. The JSON Schema of configs/ is written too.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # as a script, Python looks for modules in docs/ alone
    sys.path.insert(0, str(ROOT))

from etl.config_schema import keys_schema, schema_text  # noqa: E402

PAGE = ROOT / "docs" / "config.md"
SCHEMA = ROOT / "configs" / "etl.schema.json"
HEAD = "| key | type | default | meaning | example |\n| --- | --- | --- | --- | --- |\n"
_MARKED = re.compile(r"(?<=<!-- keys of )(\w+)(, made by make docs -->\n).*?(?=<!-- end of keys -->)", re.DOTALL)
INLINE = ("Argument",)  # with one key alone, which the meaning of another one tells
_TYPES = {"string": "string", "integer": "integer", "number": "float", "boolean": "boolean", "object": "table"}
_FORMATS = {"date-time": "datetime", "date": "date", "time": "time"}


def main() -> int:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA.write_text(schema_text() + "\n", encoding="utf-8")
    return 0


def page(text: str) -> str:
    """``text`` of docs/config.md with its tables made anew. Raises SystemExit where a model has none."""
    models = tables()
    if missing := models.keys() - {name for name, _ in _MARKED.findall(text)}:
        sys.exit(f"docs/config.md has no place for the keys of {', '.join(sorted(missing))}: see the others there.")
    return _MARKED.sub(lambda match: f"{match[1]}{match[2]}\n{keys_table(models[match[1]])}\n", text)


def tables() -> dict[str, dict[str, Any]]:
    """The JSON Schema of each table of the config that has keys, by the name of its model."""
    definitions: dict[str, dict[str, Any]] = keys_schema()["$defs"]
    return {name: model for name, model in definitions.items() if name not in INLINE}


def keys_table(model: dict[str, Any]) -> str:
    required = model.get("required", [])
    return HEAD + "".join(_row(key, schema, key in required) for key, schema in model["properties"].items())


def _row(key: str, schema: dict[str, Any], is_required: bool) -> str:
    cells = [
        f"`{key}`",
        type_words(schema),
        "required" if is_required else _default(schema),
        schema["description"],
        f"`{as_toml(schema['examples'][0])}`",
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def type_words(schema: dict[str, Any]) -> str:
    """Such as ``string, or list of strings``."""
    names = list(dict.fromkeys(_type_names(schema)))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, or {names[-1]}"


def _type_names(schema: dict[str, Any]) -> list[str]:
    if "anyOf" in schema:
        return [name for part in schema["anyOf"] for name in _type_names(part)]
    if "$ref" in schema:
        return ["table"]
    if schema["type"] == "array":
        return [f"list of {type_words(schema['items'])}s"]
    return [_FORMATS.get(schema.get("format", ""), _TYPES[schema["type"]])]


def _default(schema: dict[str, Any]) -> str:
    if "x-unset" in schema:
        return str(schema["x-unset"])
    if "$ref" in schema:
        return "see below"
    return f"`{as_toml(schema['default'])}`" if "default" in schema else "none"


def as_toml(value: Any) -> str:
    """``value`` as it may be written in the config."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, str):
        return f"'{value}'" if '"' in value and "'" not in value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + " }"
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


if __name__ == "__main__":
    sys.exit(main())
