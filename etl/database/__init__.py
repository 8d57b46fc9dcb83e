"""The target database: engine and hooks, tables and their constraints, and the one map from driver errors to ours."""

from etl.database.children import find_aggregates
from etl.database.creation import (
    Making,
    NewColumn,
    check_names,
    declared_type,
    make,
    why_not_make,
)
from etl.database.digest import RowsDigest, digest_rows
from etl.database.engine import (
    MissingFile,
    answers,
    commit_unwaited,
    connected,
    database_engine,
    invalidated_when_lost,
    is_lost,
    overwrite_what_is_deleted,
    session_factory,
)
from etl.database.keys import SKIPPED, Duplicates, Key, duplicates_of
from etl.database.postgresql import CatalogEntry, Check, ParentKey, UniqueKey
from etl.database.refusals import Fate, Fault, fault_of, reason_of, target_errors
from etl.database.sessions import Access, CallersSessions, OwnAccess, Sessions, access_by
from etl.database.tables import ChildTarget, ForeignKey, Target, find_targets, in_foreign_key_order, missing_tables

__all__ = [
    "SKIPPED",
    "Access",
    "CallersSessions",
    "CatalogEntry",
    "Check",
    "ChildTarget",
    "Duplicates",
    "Fate",
    "Fault",
    "ForeignKey",
    "Key",
    "Making",
    "MissingFile",
    "NewColumn",
    "OwnAccess",
    "ParentKey",
    "RowsDigest",
    "Sessions",
    "Target",
    "UniqueKey",
    "access_by",
    "answers",
    "check_names",
    "commit_unwaited",
    "connected",
    "database_engine",
    "declared_type",
    "digest_rows",
    "duplicates_of",
    "fault_of",
    "find_aggregates",
    "find_targets",
    "in_foreign_key_order",
    "invalidated_when_lost",
    "is_lost",
    "make",
    "missing_tables",
    "overwrite_what_is_deleted",
    "reason_of",
    "session_factory",
    "target_errors",
    "why_not_make",
]
