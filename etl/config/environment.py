"""``${NAME}`` in a config: values from the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from etl.config.messages import listed
from etl.config.places import place_of
from etl.errors import ConfigError

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def expanded(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """``content`` with the environment's values in place of ``${NAME}`` and ``${NAME:-default}``, in every string.

    Raises ConfigError, which names each variable that is not set.
    """
    missing: list[str] = []
    whole: dict[str, Any] = expanded_value(content, (), missing)
    if missing:
        remedy = "Set it, or give a default as in ${NAME:-default}; nothing was started."
        raise ConfigError(listed(file, missing), remedy if len(missing) == 1 else "")
    return whole


def expanded_value(value: Any, location: tuple[str | int, ...], missing: list[str]) -> Any:
    """The same for the value at ``location``; what is not set is added to ``missing``, with its place."""
    if isinstance(value, dict):
        return {key: expanded_value(item, (*location, key), missing) for key, item in value.items()}
    if isinstance(value, list):
        return [expanded_value(item, (*location, index), missing) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        default: str | None = match["default"]
        found = os.environ.get(match["name"], default)
        if found is None:
            missing.append(f"{place_of(location).where}: ${{{match['name']}}} is not set in the environment")
            return ""
        return found

    return _VARIABLE.sub(replace, value)
