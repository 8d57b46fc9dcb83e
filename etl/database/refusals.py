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
from etl.showing import shown_url, without_passwords

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
# Not: a limit that is configured, such as temp_file_limit, since the same would meet it again; a database that is gone.
_LASTING = ("53400", "57P04")

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
    is_passing = state.startswith(_PASSING) and state not in _LASTING
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
        raise _target_error(error, url) from error
    except SQLAlchemyError as error:
        raise TargetError(f"{shown_url(url)}: {_one_line(str(error), url)}.") from error


def _target_error(error: BaseException, url: URL) -> TargetError:
    error = _first_cause(error)
    fault = fault_of(error)
    said = _one_line(fault.message, url)
    if remedy := _sqlite_remedy(error):
        kind = TargetUnavailable if fault.fate is Fate.RETRY else TargetError
        return kind(f"{shown_url(url)}: {said}.", remedy)
    state = f" (SQLSTATE {fault.sqlstate})" if fault.sqlstate else ""
    if fault.fate is Fate.RETRY and fault.sqlstate is None and url.get_backend_name() == "postgresql":
        return TargetUnavailable(f"{shown_url(url)} cannot be reached, or was lost: {said}.", _connect(url))
    if fault.fate is Fate.RETRY:
        return TargetUnavailable(f"{shown_url(url)} cannot go on: {said}{state}.", _AGAIN)
    if fault.sqlstate == "42501":
        return TargetError(f"{shown_url(url)}: no permission: {said}{state}.", _PERMISSION)
    return TargetError(f"{shown_url(url)}: {said}{state}.", _AGAIN)


def _connect(url: URL) -> str:
    verified = str(url.query.get("sslmode", "")).startswith("verify-")
    named = "that its certificate is for this host and by the authority of sslrootcert"
    also = f", and {named}" if verified else ""
    return f"Check that the server is up, and the url and password{also}; then run the same command again."


def _first_cause(error: BaseException) -> BaseException:
    """The error that the others came from, which were raised while it was handled.

    A rollback on a lost connection says only that it is lost. A full disk has SQLite roll the whole transaction back
    (sqlite.org/lang_transaction.html, "Response To Errors Within A Transaction"): then the savepoint to roll back to is
    gone, which is an error of its own and says nothing.
    """
    first, earlier = error, error.__context__
    while earlier is not None:
        if isinstance(earlier, DBAPIError | sqlite3.Error | _psycopg_error()):
            first = first if fault_of(earlier).fate is Fate.REFUSE else earlier
        earlier = earlier.__context__
    return first


def _sqlite_remedy(error: BaseException) -> str | None:
    """What to do about a fault of a whole SQLite database; an extended result code says the same as its first part."""
    driver_error = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(driver_error, "sqlite_errorname", "")
    return next((remedy for start, remedy in _SQLITE_REMEDIES.items() if name.startswith(start)), None)


_PERMISSION = (
    "Grant it to the role, or use another one; where a row level security policy has refused a row, mend the source or "
    "the policy."
)
_AGAIN = "Once that is mended, run the same command again: it goes on after the last commit."
_SQLITE_REMEDIES = {
    "SQLITE_BUSY": "Another process is at work on it: run the same command again when it has ended, or wait longer by "
    "`?timeout=SECONDS` in the url.",
    "SQLITE_READONLY": "Grant the user that runs etl the right to write to the file and to its folder, "
    "then run the same command again.",
    "SQLITE_CANTOPEN": "Grant the user that runs etl the right to read and write the file and its folder, "
    "then run the same command again.",
    "SQLITE_FULL": "Free space on its disk, then run the same command again: it goes on after the last commit.",
    "SQLITE_NOTADB": "Correct the url.",
    "SQLITE_CORRUPT": "Restore it from a backup, or save what can be read by `.recover` of the sqlite3 shell, "
    "then run the same command again.",
    "SQLITE_IOERR": "See to its disk, then run the same command again: it goes on after the last commit.",
}


def _one_line(message: str, url: URL) -> str:
    """The first line of the driver's words; a password in them, whoever put it there, is not shown."""
    return without_passwords(message.strip().partition("\n")[0].rstrip(" ."), url)
