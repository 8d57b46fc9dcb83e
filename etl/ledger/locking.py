"""One run of a job at a time: a lock that goes with the process that holds it, and needs no cleaning up."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import Connection

from etl.errors import Locked, TargetError

PATIENCE = 5.0  # seconds: the connection of a killed run ends when the server notices
_PAUSE = 0.2


@contextmanager
def job_lock(connection: Connection, job: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of ``job`` on the connection's database; Locked is raised when another run holds it.

    On PostgreSQL it is an advisory lock of the session, so it ends with the connection. On SQLite it is the lock of
    a file beside the database, which the operating system takes back from a killed process.
    """
    name = connection.engine.url.database or ""
    if connection.dialect.name == "postgresql":
        holding = _advisory_lock(connection, job, patience)
    elif name in ("", ":memory:"):
        holding = _no_lock()
    else:
        holding = _file_lock(name, job, patience)
    with holding:
        yield


@contextmanager
def _no_lock() -> Iterator[None]:
    """A database in memory has no other process to fear."""
    yield


@contextmanager
def _advisory_lock(connection: Connection, job: str, patience: float) -> Iterator[None]:
    key = int.from_bytes(hashlib.sha256(f"etl job {job}".encode()).digest()[:8], signed=True)
    deadline = time.monotonic() + patience
    while not connection.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
        if time.monotonic() > deadline:
            raise _locked(job, _holder(connection, key))
        connection.rollback()
        time.sleep(_PAUSE)
    connection.commit()
    # Not given back by hand: it ends with the connection, also with one that is broken.
    yield


def _holder(connection: Connection, key: int) -> str:
    """Who holds the lock: for one 64-bit key, pg_locks has its halves in classid and objid, and objsubid 1."""
    found = connection.execute(
        sa.text(
            "SELECT a.pid, a.usename, a.backend_start FROM pg_catalog.pg_locks l"
            " JOIN pg_catalog.pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
            " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
            " AND (l.classid::bigint << 32) | l.objid::bigint = :key"
        ),
        {"key": key},
    ).first()
    if found is None:
        return ""
    return f", by the connection {found.pid} of {found.usename} since {found.backend_start:%Y-%m-%d %H:%M:%S} UTC"


@contextmanager
def _file_lock(database: str, job: str, patience: float) -> Iterator[None]:
    import filelock  # here: PostgreSQL has locks of its own

    digest = hashlib.sha256(job.encode()).hexdigest()[:8]
    lock = filelock.FileLock(f"{database}.{digest}.lock", timeout=patience, poll_interval=_PAUSE)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise _locked(job, f", by the process that has {lock.lock_file} open") from None
    except OSError as error:
        raise TargetError(
            f"The file of the job's lock, {lock.lock_file}, cannot be made: {error.strerror}.",
            "SQLite writes into the folder of its database, too: grant that to the user that runs etl, or free space.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _locked(job: str, holder: str) -> Locked:
    return Locked(f"Another run of {job} is at work on this database{holder}.", "Wait until it has ended.")
