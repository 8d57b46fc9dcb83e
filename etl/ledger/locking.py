"""One run of a job at a time: a lock that goes with the process that holds it, and needs no cleaning up.

Who holds it since when is kept where it goes with the lock, too: not in the ledger, which still says "running" of a run
that was killed, and is no place for what a dry run does.
"""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from etl.errors import Locked, TargetError
from etl.ledger.models import Run

PATIENCE = 5.0  # seconds: the connection of a killed run ends when the server notices
_PAUSE = 0.2
_HALF = 2**31  # seconds since 1970 less this are a signed integer of four bytes until 2106


@dataclass(frozen=True, slots=True)
class Holder:
    """What is known of the run that holds a lock: nothing, at worst."""

    since: dt.datetime | None = None
    run_id: str | None = None
    whereabouts: str = ""

    def __str__(self) -> str:
        run = f"run {self.run_id}" if self.run_id else ""
        since = f"since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return ", ".join(filter(None, (run, since, self.whereabouts)))


class JobLock(Protocol):
    """The lock of a job on a database, held or not."""

    def take(self) -> bool:
        """Take it, or say at once that another has it."""

    def name_run(self, run_id: str) -> None:
        """Held: from now on, whom it is refused to is told that this run has it."""

    def holder(self) -> Holder:
        """Who has it."""

    def release(self) -> None:
        """Give it back."""


def _nobody(_sentence: str) -> None:
    pass


@contextmanager
def job_lock(
    connection: Connection, job: str, patience: float = PATIENCE, tell: Callable[[str], None] = _nobody
) -> Iterator[JobLock]:
    """Hold the lock of ``job`` on the ledger that the connection leads to.

    Where another run holds it, ``tell`` is told so in a sentence, and the lock is waited for, ``patience`` seconds at
    most; then Locked is raised. No transaction is open on the connection meanwhile.
    """
    lock = _lock_of(connection, job)
    _take(lock, job, patience, tell)
    try:
        yield lock
    finally:
        lock.release()


def _take(lock: JobLock, job: str, patience: float, tell: Callable[[str], None]) -> None:
    deadline = time.monotonic() + patience
    is_told = False
    while not lock.take():
        if not is_told and patience > 0:
            tell(f"{_at_work(job, lock.holder())} Waiting for it to end, for {patience:,.0f} s at most.")
            is_told = True
        left = deadline - time.monotonic()
        if not left > 0:
            raise Locked(_at_work(job, lock.holder()), "Wait until it has ended, or give --wait SECONDS to wait here.")
        time.sleep(min(_PAUSE, left))


def _at_work(job: str, holder: Holder) -> str:
    known = str(holder)
    return f"Another run of {job} is at work on this database{f': {known}' if known else ''}."


def _lock_of(connection: Connection, job: str) -> JobLock:
    if connection.dialect.name == "postgresql":
        return _AdvisoryLock(connection, job)
    file = _database_file(connection)
    return _FileLock(file, job) if file else _NoLock()


def _database_file(connection: Connection) -> str:
    """The file as SQLite has it, symbolic links followed; empty for a database in memory.

    Asked by the driver's connection: SQLAlchemy would begin a transaction, which has to wait for another writer.
    """
    cursor = connection.connection.cursor()
    try:
        cursor.execute("PRAGMA database_list")
        files = {name: file for _, name, file in cursor.fetchall()}
    finally:
        cursor.close()
    return str(files["main"] or "")


class _NoLock:
    """A database in memory has no other process to fear."""

    def take(self) -> bool:
        return True

    def name_run(self, run_id: str) -> None:
        pass

    def holder(self) -> Holder:
        return Holder()

    def release(self) -> None:
        pass


class _AdvisoryLock:
    """An advisory lock of PostgreSQL's session: it ends with the connection, also with one that is broken.

    Other roles do not see since when a session is at work, but pg_locks shows every lock to everybody. So the moment,
    and then the run, are the keys of further locks that the session holds, shared ones that nobody waits for.
    """

    def __init__(self, connection: Connection, job: str) -> None:
        self._connection = connection
        self._job = job
        self._ledger = connection.get_execution_options()["schema_translate_map"]["ledger"]
        self._key = self._key_of("job", job)

    def _key_of(self, kind: str, name: str) -> int:
        told = f"etl {kind} {json.dumps([self._ledger, name])}"
        return int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], signed=True)

    def take(self) -> bool:
        is_taken = bool(self._ask("SELECT pg_try_advisory_lock(:key)", key=self._key))
        if is_taken:
            self._ask(
                "SELECT pg_try_advisory_lock_shared("
                ":key, CAST(floor(extract(epoch FROM clock_timestamp())) - :half AS integer))",
                key=self._key >> 32,
                half=_HALF,
            )
        return is_taken

    def name_run(self, run_id: str) -> None:
        self._ask("SELECT pg_try_advisory_lock_shared(:key)", key=self._key_of("run", run_id))

    def _ask(self, statement: str, **values: Any) -> Any:
        answer = self._connection.scalar(sa.text(statement), values)
        self._connection.commit()
        return answer

    def holder(self) -> Holder:
        found = self._connection.execute(_HOLDER, {"key": self._key}).first()
        self._connection.rollback()
        if found is None:  # gone in this moment
            return Holder()
        since = None if found.moment is None else dt.datetime.fromtimestamp((found.moment + _HALF) % 2**32, dt.UTC)
        keys = set(found.keys)
        run_id = next((run_id for run_id in self._running() if self._key_of("run", run_id) in keys), None)
        return Holder(since, run_id, _session_words(found))

    def _running(self) -> list[str]:
        """Runs that the ledger has as running, killed ones among them; none where it cannot be read."""
        runs = sa.select(Run.id).where(Run.job == self._job, Run.status == "running").order_by(Run.started_at.desc())
        try:
            return list(self._connection.scalars(runs.limit(100)))
        except ProgrammingError:  # the ledger is not there, or not for this role
            return []
        finally:
            self._connection.rollback()

    def release(self) -> None:
        """Not by hand: the connection may be broken, and ends now in any case."""


# pg_locks has the halves of a 64-bit key in classid and objid, and objsubid 1; of two keys of 32 bits each, objsubid 2.
_HOLDER = sa.text("""
    SELECT l.pid, a.usename, a.application_name, host(a.client_addr) AS address,
        (SELECT objid::bigint FROM pg_catalog.pg_locks
          WHERE pid = l.pid AND locktype = 'advisory' AND objsubid = 2 AND classid = l.classid LIMIT 1) AS moment,
        ARRAY(SELECT (classid::bigint << 32) | objid::bigint FROM pg_catalog.pg_locks
               WHERE pid = l.pid AND locktype = 'advisory' AND objsubid = 1) AS keys
      FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
       AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       AND (l.classid::bigint << 32) | l.objid::bigint = :key
""")


def _session_words(session: Any) -> str:
    role = session.usename and f"by {session.usename}"
    address = session.address and f"from {session.address}"  # NULL for a socket, and for other roles
    application = session.application_name and f"{session.application_name}, "
    return " ".join(filter(None, (role, address, f"({application or ''}server process {session.pid})")))


@dataclass(frozen=True, slots=True)
class _Owner:
    """What the process that holds the lock writes into its file."""

    since: str
    user: str
    host: str
    process: int
    run_id: str | None = None

    @classmethod
    def this(cls) -> _Owner:
        return cls(dt.datetime.now(dt.UTC).isoformat(), _user(), os.uname().nodename, os.getpid())

    @property
    def may_be_alive(self) -> bool:
        """What a killed process has left in the file is not the word of the one that has just taken the lock."""
        if self.host != os.uname().nodename:
            return True
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's
            return True
        return True


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in a container
        return str(os.getuid())


class _FileLock:
    """The lock of a file beside SQLite's own, which the operating system takes back from a killed process."""

    def __init__(self, database: str, job: str) -> None:
        import filelock  # here: PostgreSQL has locks of its own

        self._timeout = filelock.Timeout
        self._path = f"{database}.{hashlib.sha256(job.encode()).hexdigest()[:8]}.lock"
        self._lock = filelock.FileLock(self._path, blocking=False, preserve_lock_file=True, on_acquired=self._sign)
        self._owner = _Owner.this()

    def take(self) -> bool:
        try:
            self._lock.acquire()
        except self._timeout:
            return False
        except OSError as error:
            raise TargetError(
                f"The file of the job's lock, {self._path}, cannot be made: {error.strerror}.",
                "SQLite writes into the folder of its database, too: grant that to the user that runs etl, or free "
                "space.",
            ) from None
        return True

    def _sign(self, descriptor: int) -> None:
        self._owner = _Owner.this()
        _write(descriptor, self._owner)

    def name_run(self, run_id: str) -> None:
        self._owner = replace(self._owner, run_id=run_id)
        with suppress(OSError), open(self._path, "rb+", buffering=0) as file:
            _write(file.fileno(), self._owner)

    def holder(self) -> Holder:
        owner = _read(self._path)
        if owner is None or not owner.may_be_alive:
            return Holder()
        since = dt.datetime.fromisoformat(owner.since)
        return Holder(since, owner.run_id, f"by {owner.user} on {owner.host} (process {owner.process})")

    def release(self) -> None:
        with suppress(OSError):
            os.truncate(self._path, 0)
        self._lock.release()


def _write(descriptor: int, owner: _Owner) -> None:
    """One write, then the rest is cut off: who reads meanwhile finds one or the other, or what cannot be read."""
    content = json.dumps(asdict(owner)).encode()
    with suppress(OSError):  # on a full disk the lock is held all the same, by nobody knows whom
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))


def _read(path: str) -> _Owner | None:
    try:
        with open(path, encoding="utf-8") as file:
            return _Owner(**json.load(file))
    except (OSError, ValueError, TypeError):  # empty, half written, or by another version
        return None
