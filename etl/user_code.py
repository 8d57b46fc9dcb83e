"""Code of the user's: what ``model`` and ``transform`` name, and nothing else of a config is ever imported."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from etl.errors import ConfigError


def import_by_name(load: str, key: str, name: str, folder: Path, remedy: str) -> Any:
    """What ``module:name`` stands for; its module is looked for in the folder of the config file too.

    Raises ConfigError, whatever is wrong with the module.
    """
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, str(folder))
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        said = str(error) or type(error).__name__
        raise ConfigError(f'Load {load}: {key} = "{name}" cannot be imported: {said}.', remedy) from error
    finally:
        sys.path.remove(str(folder))
