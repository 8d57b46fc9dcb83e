"""Load CSV and Parquet into a database table: a savepoint for each insert, every record accounted for.

>>> import etl
>>> result = etl.load("job.toml")  # doctest: +SKIP
>>> result.counts.written  # doctest: +SKIP
1966
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

from etl.errors import (
    AccountingError,
    ConfigError,
    DuplicateFound,
    EtlError,
    Locked,
    OutOfMemory,
    RecordErrors,
    SourceChanged,
    SourceError,
    TargetError,
    TargetMismatch,
    TargetUnavailable,
    TooManyRejects,
    TransformError,
)

if TYPE_CHECKING:
    from etl.config import Job, read_job
    from etl.loading import load
    from etl.records import Counts, FileResult, LoadResult, RejectCount, RunResult

__all__ = [
    "AccountingError",
    "ConfigError",
    "Counts",
    "DuplicateFound",
    "EtlError",
    "FileResult",
    "Job",
    "LoadResult",
    "Locked",
    "OutOfMemory",
    "RecordErrors",
    "RejectCount",
    "RunResult",
    "SourceChanged",
    "SourceError",
    "TargetError",
    "TargetMismatch",
    "TargetUnavailable",
    "TooManyRejects",
    "TransformError",
    "load",
    "read_job",
]

_FROM = {
    "load": "etl.loading",
    "Job": "etl.config",
    "read_job": "etl.config",
    "Counts": "etl.records",
    "FileResult": "etl.records",
    "LoadResult": "etl.records",
    "RejectCount": "etl.records",
    "RunResult": "etl.records",
}


def __getattr__(name: str) -> object:
    """Import what is asked for only then: `etl --help` need not wait for SQLAlchemy and Arrow."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_FROM[name]), name)
