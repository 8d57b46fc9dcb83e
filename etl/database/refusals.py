"""The one map from the drivers' errors to ours: which refuse a row, which pass, which are the end.

Decided by type and SQLSTATE (PostgreSQL documentation, appendix A) or SQLite's extended result code, never by text.
"""

from __future__ import annotations

import enum
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from etl.errors import TargetError, TargetUnavailable
from etl.records import Reason

if TYPE_CHECKING:
    import psycopg


class Fate(enum.Enum):
    """What an error means for the work at hand."""

    REFUSE = "refuse the row"
    RETRY = "passing fault"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Fault:
    """What a driver's error says, in words that are the same for both databases."""

    fate: Fate
    reason: Reason
    message: str
    sqlstate: str | None = None
    constraint: str | None = None
    column: str | None = None
    columns: tuple[str, ...] = ()  # of a unique constraint that SQLite names by its columns only


_REASONS = {
    "23505": Reason.UNIQUE,
    "23503": Reason.FOREIGN_KEY,
    "23502": Reason.NOT_NULL,
    "23514": Reason.CHECK,
    "23P01": Reason.EXCLUSION,
    "22001": Reason.TOO_LONG,
    "22003": Reason.RANGE,
    "22008": Reason.RANGE,
    "22007": Reason.TYPE,
    "22P02": Reason.TYPE,
    "22P03": Reason.TYPE,
    "22021": Reason.ENCODING,
    "22P05": Reason.ENCODING,
}
_REFUSING_CLASSES = {"22": Reason.DATA, "23": Reason.CONSTRAINT}
# Classes and codes that pass: the connection, the transaction (serialization failures, deadlocks), resources, the
# server's coming and going; and what a limit on time has ended, be it for a lock, a statement or a transaction.
_PASSING = ("08", "40", "53", "57P", "57014", "55P03", "25P03", "25P04")
_NOT_PASSING = ("57P04",)  # the database was dropped

# SQLite has no SQLSTATE: the one PostgreSQL would give, so that reports and `etl rejects` read the same.
_SQLITE_STATES = {
    "SQLITE_CONSTRAINT_PRIMARYKEY": "23505",
    "SQLITE_CONSTRAINT_UNIQUE": "23505",
    "SQLITE_CONSTRAINT_ROWID": "23505",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "23503",
    "SQLITE_CONSTRAINT_NOTNULL": "23502",
    "SQLITE_CONSTRAINT_CHECK": "23514",
    "SQLITE_CONSTRAINT_DATATYPE": "22P02",
    "SQLITE_MISMATCH": "22P02",
    "SQLITE_TOOBIG": "22001",
}
_SQLITE_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED")
_SQLITE_NAMES = {3091: "SQLITE_CONSTRAINT_DATATYPE"}  # of STRICT tables; Python 3.11 calls the code "unknown"
_AFTER_COLON = re.compile(r"failed: (?P<what>.+)", re.DOTALL)


def fault_of(error: BaseException) -> Fault:
    """What ``error`` says, be it a driver's own or wrapped by SQLAlchemy; the unknown has the fate FAIL."""
    driver_error = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(driver_error, sqlite3.Error):
        return _sqlite_fault(driver_error)
    if isinstance(driver_error, _psycopg_error()):
        return _postgresql_fault(driver_error)
    return Fault(Fate.FAIL, Reason.DATA, str(driver_error))


def _psycopg_error() -> type[psycopg.Error]:
    """Imported when an error asks for it: psycopg takes 0.1 s, which a load into SQLite has no use for."""
    import psycopg

    return psycopg.Error


def reason_of(sqlstate: str) -> Reason:
    """The reason that a SQLSTATE of class 22 or 23 stands for."""
    return _REASONS.get(sqlstate) or _REFUSING_CLASSES[sqlstate[:2]]


def _postgresql_fault(error: psycopg.Error) -> Fault:
    import psycopg

    state, diagnosis = error.sqlstate, error.diag
    message = diagnosis.message_primary or str(error).strip()
    if state is None:
        lost = isinstance(error, psycopg.OperationalError)
        return Fault(Fate.RETRY if lost else Fate.FAIL, Reason.DATA, message)
    reason = _REASONS.get(state) or _REFUSING_CLASSES.get(state[:2])
    if reason is not None:
        return Fault(Fate.REFUSE, reason, message, state, diagnosis.constraint_name, diagnosis.column_name)
    is_passing = state.startswith(_PASSING) and state not in _NOT_PASSING
    return Fault(Fate.RETRY if is_passing else Fate.FAIL, Reason.DATA, message, state)


def _sqlite_fault(error: sqlite3.Error) -> Fault:
    code, message = getattr(error, "sqlite_errorcode", 0), str(error)
    name: str = _SQLITE_NAMES.get(code, getattr(error, "sqlite_errorname", ""))
    state = _SQLITE_STATES.get(name)
    if state is None and name.startswith("SQLITE_CONSTRAINT"):
        return Fault(Fate.REFUSE, Reason.CONSTRAINT, message, "23000")
    if state is None:
        passing = name.startswith(_SQLITE_PASSING)
        return Fault(Fate.RETRY if passing else Fate.FAIL, Reason.DATA, message)
    reason, match = _REASONS[state], _AFTER_COLON.search(message)
    named = match["what"] if match else ""
    if reason is Reason.CHECK:
        return Fault(Fate.REFUSE, reason, message, state, constraint=named or None)
    if reason is Reason.NOT_NULL:
        return Fault(Fate.REFUSE, reason, message, state, column=named.rpartition(".")[2] or None)
    if reason is Reason.UNIQUE and named.startswith("index '"):
        return Fault(Fate.REFUSE, reason, message, state, constraint=named[7:-1])
    if reason is Reason.UNIQUE:
        columns = tuple(part.rpartition(".")[2] for part in named.split(", "))
        return Fault(Fate.REFUSE, reason, message, state, columns=columns)
    return Fault(Fate.REFUSE, reason, message, state)


@contextmanager
def target_errors(url: URL) -> Iterator[None]:
    """Turn what a driver or SQLAlchemy raises inside into a TargetError that names the database, not the password."""
    try:
        yield
    except (DBAPIError, sqlite3.Error, _psycopg_error()) as error:
        raise _target_error(_first_fault(error), url) from error
    except SQLAlchemyError as error:
        raise TargetError(f"{_shown(url)}: {_one_line(str(error), url)}.") from error


def _first_fault(error: BaseException) -> BaseException:
    """The passing fault behind which ``error`` came: a rollback on a lost connection says only that it is lost."""
    before = error.orig.__context__ if isinstance(error, DBAPIError) and error.orig else error.__context__
    is_of_a_driver = isinstance(before, (DBAPIError, sqlite3.Error, _psycopg_error()))
    return _first_fault(before) if before and is_of_a_driver and fault_of(before).fate is Fate.RETRY else error


def _target_error(error: BaseException, url: URL) -> TargetError:
    fault = fault_of(error)
    said = _one_line(fault.message, url)
    state = f" (SQLSTATE {fault.sqlstate})" if fault.sqlstate else ""
    if fault.fate is Fate.RETRY and fault.sqlstate is None and url.get_backend_name() == "postgresql":
        return TargetUnavailable(f"{_shown(url)} cannot be reached, or was lost: {said}.", _CONNECT)
    if fault.fate is Fate.RETRY:
        return TargetUnavailable(f"{_shown(url)} cannot go on: {said}{state}.", _AGAIN)
    if fault.sqlstate == "42501":
        return TargetError(f"{_shown(url)}: no permission: {said}{state}.", "Grant it to the role, or use another one.")
    return TargetError(f"{_shown(url)}: {said}{state}.", _AGAIN)


_CONNECT = "Check that the server is up, and the url and password; then run the same command again."
_AGAIN = "Once that is mended, run the same command again: it goes on after the last commit."


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def _one_line(message: str, url: URL) -> str:
    """The first line of the driver's words; a password in them, whoever put it there, is not shown."""
    line = message.strip().partition("\n")[0].rstrip(" .")
    return line.replace(str(url.password), "***") if url.password else line
