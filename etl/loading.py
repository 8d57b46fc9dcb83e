"""Loading a job: its parts are opened, and a run is attempted until it is done or a fault does not pass."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from etl.config import Job, Load, Method, RejectLimit, parse_limit, read_job
from etl.database import (
    Access,
    CallersSessions,
    MissingFile,
    OwnAccess,
    access_by,
    answers,
    invalidated_when_lost,
    target_errors,
)
from etl.errors import (
    ConfigError,
    EtlError,
    Locked,
    TargetUnavailable,
)
from etl.ledger import (
    PATIENCE,
    Opened,
    job_lock,
)
from etl.plans import chosen_loads, found_sources, made, missing_file, planned
from etl.progress import Silence
from etl.readers import (
    Fingerprints,
    Sources,
)
from etl.records import (
    Reporter,
    RunResult,
)
from etl.retrying import persist
from etl.running import Course, Execution, Options, Preparation, RunInProgress, ending_of, unwritten_end
from etl.stopping import NeverStopped, Stop, stop_comes_first

logger = logging.getLogger(__name__)

NEVER = NeverStopped()
LAST_PATIENCE = 1.0  # seconds that an interrupted run waits for its own lock, to write down that it was stopped


def load(
    path_or_job: str | os.PathLike[str] | Job,
    *,
    only: Sequence[str] = (),
    method: Method | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    rerun: bool = False,
    wait: float = PATIENCE,
    max_rejects: int | str | None = None,
    reporter: Reporter | None = None,
    sessions: CallersSessions | None = None,
) -> RunResult:
    """Load a job, given as the path of its config file or as what ``read_job`` has made of it.

    Everything in the result is committed (``dry_run``: nothing is). An unfinished run of the job is resumed behind
    its last checkpoint. Another run of the job that is at work is waited for, ``wait`` seconds at most.
    ``max_rejects``, such as 100 or ``"1%"``, stands in for that of every load.

    ``sessions``, a sessionmaker or a scoped_session that is bound to an Engine, stands in for the url of the config:
    the load takes a connection of that Engine, and makes a session of that class, whose events see what is written. No
    session and no transaction of the caller's is touched. ``method = "auto"`` is ``row`` then.

    Raises an EtlError when the run could not be started or did not complete; what was committed by then stays, and the
    same call goes on behind it.
    """
    job = path_or_job if isinstance(path_or_job, Job) else read_job(path_or_job)
    access, database = access_by(sessions, job.database)
    job = job.model_copy(update={"database": database})
    options = Options(only, method, limit, dry_run, rerun, wait, _reject_limit(max_rejects))
    execution = execute(_seen(job) if sessions is not None else job, options, reporter or Silence(), access=access)
    if execution.error is not None:
        raise execution.error
    return execution.result


def _seen(job: Job) -> Job:
    """The same job, by objects that the events of sessions and of mapped classes see, where no method is named."""
    loads = (load.model_copy(update={"method": "row"}) if load.method == "auto" else load for load in job.loads)
    return job.model_copy(update={"loads": tuple(loads)})


def _reject_limit(value: int | str | None) -> RejectLimit | None:
    try:
        return parse_limit(value)
    except ValueError as error:
        raise ConfigError(f"max_rejects = {value!r} is not allowed.", f"Give {error}.") from None


def execute(
    job: Job, options: Options, reporter: Reporter, stop: Stop = NEVER, access: Access | None = None
) -> Execution:
    """Run a job, and go on behind the last checkpoint after each fault that passes.

    An error behind the opening of the run is part of what is given back, one before it is raised. ``stop`` is held from
    the end of the run on: a signal that comes too late changes nothing any more.
    """
    loads = _loads(job, options)
    with _found(job, loads) as found, ExitStack() as resources:
        way = access or OwnAccess(job.database)
        return _Attempts(job, loads, found, options, reporter, stop, resources, way).execute()


def _loads(job: Job, options: Options) -> tuple[Load, ...]:
    loads = chosen_loads(job, options.only)
    if options.max_rejects is None:
        return loads
    return tuple(load.model_copy(update={"max_rejects": options.max_rejects}) for load in loads)


@dataclass(frozen=True, slots=True)
class _Found:
    """The sources of each load, by its name, and their fingerprints."""

    sources: Mapping[str, Sources]
    fingerprints: Fingerprints


@contextmanager
def _found(job: Job, loads: Sequence[Load]) -> Iterator[_Found]:
    with (
        found_sources(job, loads) as sources,
        Fingerprints([source for load in loads for source in sources[load.name]]) as fingerprints,
    ):
        yield _Found(sources, fingerprints)


def _missing_file(loads: Sequence[Load], options: Options) -> MissingFile:
    return missing_file(loads, keeps_nothing=options.dry_run)


@contextmanager
def prepared(job: Job, loads: Sequence[Load], options: Options, reporter: Reporter) -> Iterator[Preparation]:
    """Find the sources, connect, take the job's lock and make the plans of ``loads``; nothing is written yet."""
    access = OwnAccess(job.database)
    with (
        _found(job, loads) as found,
        access.connected(_missing_file(loads, options)) as connection,
        _prepared(connection, job, loads, found, options, reporter, access) as preparation,
    ):
        yield preparation


@contextmanager
def _prepared(
    connection: Connection,
    job: Job,
    loads: Sequence[Load],
    found: _Found,
    options: Options,
    reporter: Reporter,
    access: Access,
) -> Iterator[Preparation]:
    """The same on a connection that there is, with sources that were found."""
    with (
        target_errors(connection.engine.url),
        invalidated_when_lost(connection),
        job_lock(connection, job.name, options.wait, reporter.waiting) as lock,
    ):
        plans = planned(connection, job, loads, found.sources, options.method)
        yield Preparation(connection, lock, plans, found.fingerprints, access.sessions)


class _Attempts:
    """The attempts of one execution, on one connection that holds the job's lock for as long as it lasts, and then on
    a new one. Retry and resume are one thing: what an attempt finds is what was committed.
    """

    def __init__(
        self,
        job: Job,
        loads: Sequence[Load],
        found: _Found,
        options: Options,
        reporter: Reporter,
        stop: Stop,
        resources: ExitStack,
        access: Access,
    ) -> None:
        self._job = job
        self._loads = loads
        self._found = found
        self._options = options
        self._reporter = reporter
        self._stop = stop
        self._access = access
        self._resources = resources  # the connection and the lock
        self._preparation: Preparation | None = None
        self._was_connected = False
        self._is_at_work = False  # and not waiting for the next attempt
        self._course = Course()

    def execute(self) -> Execution:
        try:
            return persist(
                self._attempt, is_passing=self._is_passing, progress=lambda: self._course.records, tell=self._tell
            )
        except (EtlError, MemoryError, KeyboardInterrupt) as error:
            if self._course.opened is None:
                raise
            return self._given_up(self._course.opened, error)

    def _attempt(self) -> Execution:
        with stop_comes_first(self._stop):
            preparation = self._prepare()
            self._is_at_work = True
            with executed(preparation, self._job, self._options, self._reporter, self._stop, self._course) as execution:
                return execution

    def _prepare(self) -> Preparation:
        """What the attempt before has left, or all of it anew where its connection was lost, and with it the lock."""
        if self._preparation is None or not answers(self._preparation.connection):
            self._resources.close()
            connection = self._resources.enter_context(
                self._access.connected(_missing_file(self._loads, self._options))
            )
            self._was_connected = True
            preparing = _prepared(
                connection, self._job, self._loads, self._found, self._options, self._reporter, self._access
            )
            self._preparation = self._resources.enter_context(preparing)
        return self._preparation

    def _is_passing(self, error: BaseException) -> bool:
        """That there is no first connection is a mistake in the url more often than a fault that passes.

        Once the lock was ours, the connection that was lost may hold it until the server has noticed.
        """
        if isinstance(error, Locked):
            return self._preparation is not None
        return self._was_connected and isinstance(error, TargetUnavailable)

    def _tell(self, fault: BaseException, seconds: float) -> None:
        self._course.meter.retries += 1
        self._is_at_work = False
        problem = fault.problem if isinstance(fault, EtlError) else ""
        logger.warning("%s It is tried again in %.1f s, from the last commit on.", problem, seconds)

    def _given_up(self, opened: Opened, error: EtlError | MemoryError | KeyboardInterrupt) -> Execution:
        """A run that ended between its attempts, or with the last one: written down where that can still be done."""
        self._stop.hold()
        course, preparation = self._course, None if self._options.dry_run else self._answering(error)
        if preparation is not None:
            connection = preparation.connection
            with (
                suppress(EtlError),
                target_errors(connection.engine.url),
                preparation.sessions(connection)() as session,
            ):
                run = RunInProgress(self._job, preparation, self._options, self._reporter, self._stop, session, course)
                return run.broken_off(error)
        return unwritten_end(opened.run_id, self._job, self._options, course, ending_of(error))

    def _answering(self, error: BaseException) -> Preparation | None:
        """A connection that holds the lock: the one there is, or, where an interruption has cost it, another one.

        SQLAlchemy closes a connection on which a call was interrupted, as it cannot know in what state it is.
        """
        preparation = self._preparation
        if preparation is None or answers(preparation.connection):
            return preparation
        if not (isinstance(error, KeyboardInterrupt) and self._is_at_work):
            return None
        self._resources.close()
        with suppress(EtlError):
            connection = self._resources.enter_context(self._access.connected())
            lock = self._resources.enter_context(job_lock(connection, self._job.name, LAST_PATIENCE))
            return replace(preparation, connection=connection, lock=lock)
        return None


@contextmanager
def executed(
    preparation: Preparation,
    job: Job,
    options: Options,
    reporter: Reporter,
    stop: Stop = NEVER,
    course: Course | None = None,
) -> Iterator[Execution]:
    """How a run ended. A dry run is rolled back on leaving: until then the connection sees what it did.

    A fault that passes is raised as TargetUnavailable, behind a rollback; ``course`` is what is then kept for the next
    attempt.
    """
    connection, course = preparation.connection, course or Course()
    with target_errors(connection.engine.url), _rolled_back(connection) if options.dry_run else nullcontext():
        with preparation.sessions(connection)() as session, invalidated_when_lost(connection):
            begin = course.meter.timed("start", _begun)
            execution = begin(job, preparation, options, reporter, stop, session, course).execute()
        yield execution


def _begun(
    job: Job,
    preparation: Preparation,
    options: Options,
    reporter: Reporter,
    stop: Stop,
    session: Session,
    course: Course,
) -> RunInProgress:
    """The run, open in the ledger; the tables and columns that its loads make are committed together with that."""
    plans = made(session.connection(), job, preparation.plans)
    return RunInProgress(job, replace(preparation, plans=plans), options, reporter, stop, session, course)


@contextmanager
def _rolled_back(connection: Connection) -> Iterator[None]:
    """A dry run: one transaction around all others, which become savepoints of it, and none of it stays."""
    transaction = connection.begin()
    try:
        yield
    finally:
        transaction.rollback()
