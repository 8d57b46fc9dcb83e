"""The JSON Schema of a config file: what may be written in it, for editors and for the reference in docs/config.md."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from etl.config import ConfigFile

_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_RESTRICTIONS = frozenset({"type", "enum", "const", "pattern", "format"})
_VARIABLE = {
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
    "description": "from the environment: `${NAME}`, or `${NAME:-default}`",
}


def keys_schema() -> dict[str, Any]:
    """The JSON Schema of the models, in the forms that a user may write.

    ``x-unset`` of a key says in words what holds where the key is left out, if that is no value of it.
    """
    return ConfigFile.model_json_schema(schema_generator=_Keys)


def file_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a whole config file: with ``[defaults]``, and ``${NAME}`` in place of a word.

    It refuses unknown keys and values of another type; what keys mean together is for ``etl check`` to say.
    """
    schema: dict[str, Any] = _with_variables(_for_editors(keys_schema()))
    definitions = schema["$defs"]
    load = {key: value for key, value in definitions["Load"].items() if key != "required"}  # [defaults] may have it
    definitions["Load"] = load | {"not": {"required": ["table", "model"]}}
    definitions["Defaults"] = load | {"title": "Defaults", "description": "any key of `[[load]]`, for all loads"}
    definitions["Variable"] = _VARIABLE
    schema["properties"]["defaults"] = {"$ref": "#/$defs/Defaults"}
    head = {"$schema": GenerateJsonSchema.schema_dialect} | schema
    return head | {
        "title": "A job of etl",
        "description": "one database, one or more loads",
        "allOf": [_given("source"), _given("table", "model")],
    }


def schema_text() -> str:
    """``file_schema`` as it is printed."""
    return json.dumps(file_schema(), indent=2, ensure_ascii=False)


def _given(*keys: str) -> dict[str, Any]:
    """One of ``keys`` is in ``[defaults]``, or else in each load."""
    one_of = {"anyOf": [{"required": [key]} for key in keys]}
    in_defaults = {"properties": {"defaults": one_of}, "required": ["defaults"]}
    return {"if": in_defaults, "else": {"properties": {"load": {"items": one_of}}}}


class _Keys(GenerateJsonSchema):
    """TOML has no null: a key that is not given is left out."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default") in (None, "", [], {}):
            found.pop("default", None)
        return found

    def literal_schema(self, schema: Any) -> JsonSchemaValue:
        are_texts = all(isinstance(value, str) for value in schema["expected"])
        return super().literal_schema(schema) | {"type": "string" if are_texts else "boolean"}


def _for_editors(schema: Any) -> Any:
    """Descriptions that say the default too, and have no links: they are shown where the docs are not."""
    if isinstance(schema, list):
        return [_for_editors(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _for_editors(value) for key, value in schema.items() if key != "x-unset"}
    if isinstance(description := schema.get("description"), str):
        unset = f" (default: {schema['x-unset']})" if "x-unset" in schema else ""
        told["description"] = _LINK.sub(r"\1", description) + unset
    return told


def _with_variables(schema: Any) -> Any:
    """Where not every text is allowed, ``${NAME}`` is, which stands for one that may be."""
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _with_variables(value) for key, value in schema.items()}
    is_word = schema.get("type") == "string" and not _RESTRICTIONS.isdisjoint(schema.keys() - {"type"})
    if not is_word and schema.get("type") != "boolean":
        return schema
    restricted = {key: value for key, value in schema.items() if key in _RESTRICTIONS}
    others = {key: value for key, value in schema.items() if key not in _RESTRICTIONS}
    return others | {"anyOf": [restricted, {"$ref": "#/$defs/Variable"}]}
