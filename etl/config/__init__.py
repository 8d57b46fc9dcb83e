"""A config file: TOML, validated by pydantic models, all errors told at once with the place and what is allowed.

``read_job`` is the way in. Everything it gives is frozen; paths are kept as the user wrote them, with the folder of
the config file beside them (``Job.folder``), so that messages speak the user's words. Each TOML table is a module.
"""

from etl.config.children import ELEMENT, Child
from etl.config.columns import Argument, ColumnSource
from etl.config.conditions import Condition
from etl.config.csv import Csv
from etl.config.database import Database
from etl.config.file import ConfigFile
from etl.config.job import Job, read_database, read_job
from etl.config.limits import RECORD_BYTES, RejectLimit, parse_limit
from etl.config.load import Format, Load, Method

__all__ = [
    "ELEMENT",
    "RECORD_BYTES",
    "Argument",
    "Child",
    "ColumnSource",
    "Condition",
    "ConfigFile",
    "Csv",
    "Database",
    "Format",
    "Job",
    "Load",
    "Method",
    "RejectLimit",
    "parse_limit",
    "read_database",
    "read_job",
]
