"""The main path: one attempt at a run of a job, one outer transaction at a time."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from etl.accounting import check_reject_limit, counts_of, reasons_committed, reasons_of, rejects_as_rows, rejects_of
from etl.config import Job, Load, Method, RejectLimit
from etl.database import (
    Sessions,
    commit_unwaited,
    invalidated_when_lost,
    is_lost,
    session_factory,
    target_errors,
)
from etl.errors import (
    DuplicateFound,
    EtlError,
    OutOfMemory,
    SourceChanged,
    SourceError,
    TargetUnavailable,
    TooManyRejects,
    TransformError,
)
from etl.ledger import (
    PATIENCE,
    File,
    JobLock,
    Opened,
    Run,
    SourceIdentity,
    add_rejects,
    advance,
    close_run,
    count_rejects,
    files_of,
    is_loaded,
    is_unheard_of,
    open_file,
    open_run,
    unfinished_files,
    upgrade_ledger,
)
from etl.mapping import Plan, map_records
from etl.orphans import child_counts_of, orphan_rejects, orphans_of
from etl.plans import LoadPlan, SourcePlan
from etl.readers import (
    Fingerprints,
    Watch,
    in_pieces,
    open_reader,
    prefetching,
    up_to,
)
from etl.records import (
    Counts,
    Encoded,
    FileResult,
    LoadResult,
    Outcome,
    Position,
    RecordBatch,
    RejectCount,
    Reporter,
    Rows,
    RunResult,
    Verdict,
    summed,
)
from etl.stopping import Stop, exit_code_of, held, held_on, name_of
from etl.timing import Meter

logger = logging.getLogger(__name__)

# Records that were read, what became of them, and what the writer made of that.
Piece = tuple[RecordBatch, Rows, Encoded | None]

LONG_RECORD = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line, or the caller of ``load``, adds to the config."""

    only: Sequence[str] = ()
    method: Method | None = None
    limit: int | None = None
    dry_run: bool = False
    rerun: bool = False
    wait: float = PATIENCE
    max_rejects: RejectLimit | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """How a run ended, and the error that ended it, if one did."""

    result: RunResult
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a run needs before anything is written: a connection, the job's lock on it, plans, fingerprints."""

    connection: Connection
    lock: JobLock
    plans: Sequence[LoadPlan]
    fingerprints: Fingerprints
    sessions: Callable[[Connection], Sessions] = session_factory


@dataclass
class Course:
    """What outlives an attempt. Of the database it is believed only which run it was: all else is read back."""

    meter: Meter = field(default_factory=Meter)
    started: float = field(default_factory=time.monotonic)
    opened: Opened | None = None  # committed or not: the answer may have been lost
    records: int = 0  # the most that were committed
    goals: dict[tuple[str, str], int] = field(default_factory=dict)  # with a limit: the last record of a load's path


@dataclass(frozen=True, slots=True)
class _Passed:
    """What has been passed of a source and is not in the ledger yet: up to ``end``, since ``started``."""

    started: float
    end: Position
    counts: Counts
    consumed: int = 0  # bytes, of all of the source


@dataclass(frozen=True, slots=True)
class _Stretch:
    """What is to be read of a source: behind ``start``, up to the record ``goal``, while the open transaction has
    ``open_rows`` rows already."""

    start: Position
    goal: int | None
    open_rows: int


class RunInProgress:
    """One execution of a run, on one session whose open transaction is the outer one.

    What the ledger's objects say in this session is what the open transaction will commit, but for what ``_Passed``
    holds of the source at hand; after a rollback they say what was committed last.
    """

    def __init__(
        self,
        job: Job,
        preparation: Preparation,
        options: Options,
        reporter: Reporter,
        stop: Stop,
        session: Session,
        course: Course,
    ) -> None:
        course.meter.watch(session)
        upgrade_ledger(session.connection(), job.database.ledger_place)
        self._job = job
        self._plans = preparation.plans
        self._fingerprints = preparation.fingerprints
        self._options = options
        self._reporter = reporter
        self._stop = stop
        self._session = session
        self._connection = preparation.connection
        self._course = course
        self._run = self._opened_run(preparation.lock)
        self._run_id = self._run.id  # to be known also when the database does not answer any more
        self._seconds: dict[str, float] = {}
        self._counts: dict[str, Counts] = {}  # of each load, the open transaction's among them
        self._reasons: Counter[str] = Counter()  # of the load at hand
        self._already_loaded: dict[str, list[FileResult]] = {}
        self._meter = course.meter
        self._open_rows = 0  # rows in the open transaction
        self._has_open_file = False  # the open transaction has all of a file of the load at hand

    def _opened_run(self, lock: JobLock) -> Run:
        """Held from here on, until there is an ``execute`` to write down that the run was stopped."""
        with held_on(self._stop):
            is_rerun, opened = self._options.rerun, self._course.opened
            run = open_run(self._session, self._job.name, rerun=is_rerun, opened=opened)
            self._course.opened = Opened(run.id, run.executions)
            self._session.commit()
            if not self._options.dry_run:
                lock.name_run(run.id)
        return run

    def execute(self) -> Execution:
        """How the run ended, written down.

        Raises TargetUnavailable after a fault that passes, and any error on a connection that is lost by it: a new one
        would not hold the lock.
        """
        try:
            self._stop.release()
            with target_errors(self._connection.engine.url), invalidated_when_lost(self._connection):
                for plan in self._plans:
                    self._require_unfinished(plan)
                for plan in self._plans:
                    self._load_sources(plan)
                self._commit()
                return self._completed()
        except TargetUnavailable:
            raise
        except (EtlError, MemoryError, KeyboardInterrupt) as error:
            told = self._stop.raised() or error
            if self._is_usable_after(told):
                return self.broken_off(told)
            if told is error:
                raise
            raise told from error

    def _is_usable_after(self, error: BaseException) -> bool:
        """Whether the connection is: a signal may have come between a command of the driver and its answer.

        Then the rollback fails, by which it is asked.
        """
        if is_lost(self._connection):
            return False
        if isinstance(error, KeyboardInterrupt) and not self._options.dry_run:
            try:
                self._session.rollback()
            except SQLAlchemyError:
                return False
        return True

    def _require_unfinished(self, plan: LoadPlan) -> None:
        """A source that is committed in part and is not found any more would stay so, and nobody would know."""
        for file in unfinished_files(self._session, self._run):
            if (file.load, file.table) == (plan.load.name, plan.target.name) and not self._is_found(plan, file):
                raise SourceError(
                    f"{file.path} is not found any more, and {file.record:,} of its records were committed "
                    f"(run {self._run_id}); nothing more was loaded.",
                    SourceChanged.RESTORE,
                )

    def _is_found(self, plan: LoadPlan, file: File) -> bool:
        """Under its name, whatever is in it now, or its content under another name."""
        sources = [planned_source.source for planned_source in plan.sources]
        return any(source.path == file.path for source in sources) or any(
            self._fingerprints.of(source).sha256 == file.sha256 for source in sources if source.size == file.size
        )

    def _load_sources(self, plan: LoadPlan) -> None:
        started = time.monotonic()
        choice, load = plan.choice, plan.load
        self._reporter.load_started(load.name, plan.target.name, choice.writer.method, choice.reason, plan.size)
        files = self._files(load.name)
        self._counts[load.name] = sum((file.counts for file in files), Counts())
        spent = sum(file.seconds for file in files)  # by the executions that this one resumes
        self._reasons = self._committed_reasons(load.name) if files else Counter()
        self._has_open_file = False
        self._open_rows = 0  # what a load with commit_every = "run" has left open is not this one's to count
        try:
            for source in plan.sources:
                self._load_source(plan, source)
            check_reject_limit(load, self._counts[load.name], self._reasons, is_complete=True)
            if load.commit_every != "run":
                self._commit()
        finally:
            self._seconds[load.name] = spent + time.monotonic() - started
            self._reporter.load_finished()

    def _load_source(self, plan: LoadPlan, planned_source: SourcePlan) -> None:
        source = planned_source.source
        try:
            watch = Watch(source)
            identity = self._identity(plan, planned_source, watch.size)
        except SourceError:
            self._commit_file(plan.load)
            raise
        if not is_loaded(self._session, self._run, identity):
            self._commit_file(plan.load)
        file = open_file(self._session, self._run, identity, plan.choice.writer.method, rerun=self._options.rerun)
        if file is None:
            result = FileResult(source.path, "already_loaded")
            self._already_loaded.setdefault(plan.load.name, []).append(result)
        if file is None or file.status == "loaded":
            self._reporter.records_done(source.size, Counts())
            return
        try:
            self._load_file(plan, planned_source, file, watch)
        except (SourceError, TransformError, TooManyRejects):  # of what was read while it was written to, at worst
            self._require_unchanged(watch, file)
            raise
        self._has_open_file = True

    def _commit_file(self, load: Load) -> None:
        """Commit the file before with ``commit_every = "file"``; the last of a load is judged with all of it first."""
        if load.commit_every != "file" or not self._has_open_file:
            return
        check_reject_limit(load, self._counts[load.name], self._reasons, is_complete=False)
        self._commit()

    def _identity(self, plan: LoadPlan, planned_source: SourcePlan, size: int) -> SourceIdentity:
        """Without the fingerprint, if nothing depends on it before the first commit: it takes a while to make."""
        source = planned_source.source
        identity = SourceIdentity(plan.load.name, plan.target.name, source.path, size)
        if is_unheard_of(self._session, self._run, identity):
            return identity
        content = self._fingerprints.of(source)
        return replace(identity, size=content.size, sha256=content.sha256)

    def _load_file(self, plan: LoadPlan, planned_source: SourcePlan, file: File, watch: Watch) -> None:
        goal = self._goal(plan, file)
        passed = _Passed(time.monotonic(), file.position, Counts())
        stretch = _Stretch(file.position, goal, self._open_rows)
        with prefetching(self._ready_pieces(plan, planned_source, stretch), is_large=_is_large) as pieces:
            for records, rows, encoded in self._meter.each("wait", pieces):
                counts = self._write(plan, planned_source, file, records, rows, encoded)
                self._reporter.records_done(records.consumed - passed.consumed, counts)
                passed = replace(passed, end=records.end, counts=passed.counts + counts, consumed=records.consumed)
                if self._open_rows == plan.load.commit_every:
                    self._require_unchanged(watch, file)
                    passed = self._advance(file, passed)
                    self._commit()
        self._require_unchanged(watch, file)
        self._advance(file, passed)
        if goal is None or file.record < goal:
            file.status = "loaded"

    def _require_unchanged(self, watch: Watch, file: File) -> None:
        """Before each commit, and at the end: what is committed was read from the content of the fingerprint."""
        committed = 0 if self._options.dry_run else file.record
        watch.require_unchanged(committed)
        if not file.sha256:
            content = self._fingerprints.of(watch.source)
            watch.require_unchanged(committed)
            file.size, file.sha256 = content.size, content.sha256

    def _goal(self, plan: LoadPlan, file: File) -> int | None:
        """The last record that is to be read: the same in each attempt."""
        if self._options.limit is None:
            return None
        return self._course.goals.setdefault((plan.load.name, file.path), file.record + self._options.limit)

    def _advance(self, file: File, passed: _Passed) -> _Passed:
        """Set the checkpoint forward, once for all pieces of a transaction; what is passed begins anew behind it."""
        now = time.monotonic()
        file.seconds += now - passed.started
        advance(self._session, file, passed.end, passed.counts)
        return replace(passed, started=now, counts=Counts())

    def _ready_pieces(self, plan: LoadPlan, planned_source: SourcePlan, stretch: _Stretch) -> Iterator[Piece]:
        """Record batches and all that is to be done with them before the database is needed: for another thread.

        So it is given no object of the ledger: to look at one may ask the database, whose connection is not shared.
        """
        map_timed = self._meter.timed("map", map_records)
        encode = self._meter.timed("encode", plan.choice.writer.encode)
        for records in self._meter.each("read", _record_batches(plan, planned_source, stretch)):
            rows = map_timed(records, planned_source.mapping)
            yield records, rows, encode(rows.columns)

    def _write(
        self,
        plan: LoadPlan,
        planned_source: SourcePlan,
        file: File,
        records: RecordBatch,
        rows: Rows,
        encoded: Encoded | None,
    ) -> Counts:
        """Write one record batch and its rejects, in the same transaction."""
        load = plan.load
        write = self._meter.timed("write", plan.choice.writer.write)
        outcome = write(self._session, rows.columns, encoded) if rows.columns.num_rows else Outcome(0)
        counts = counts_of(records, rows, outcome)
        if load.on_duplicate == "error" and counts.duplicates:
            raise _duplicate_found(load.name, file.path, records, outcome, rows.indices)
        add_rejects(self._session, file, rejects_of(records, rows, outcome, with_duplicates=load.record_duplicates))
        if planned_source.mapping.children:
            self._add_children(planned_source.mapping, file, records, rows, outcome)
        self._open_rows += len(records.numbers)
        self._meter.settled += outcome.settled
        self._counts[load.name] += counts
        self._reasons.update(reasons_of(records, rows, outcome))
        check_reject_limit(load, self._counts[load.name], self._reasons, is_complete=False)
        return counts

    def _add_children(self, mapping: Plan, file: File, records: RecordBatch, rows: Rows, outcome: Outcome) -> None:
        """Count the children of a record batch, and write the rejects of those that were left out."""
        orphans = orphans_of(rows, outcome)
        file.add_children(child_counts_of(records, rows, outcome, orphans, mapping))
        if orphans:
            add_rejects(self._session, file, rejects_as_rows(orphan_rejects(records, rows, orphans, mapping)))

    def _commit(self) -> None:
        """Commit rows, rejects, counts and checkpoints together, if every record of the run has its verdict.

        Not waited for: the commit that ends the run is, and with it all before it are on disk.
        """
        for name, counts in self._counts.items():
            counts.check(f"the load {name}")
        with held(self._stop):
            commit_unwaited(self._session)
        self._open_rows = 0
        self._has_open_file = False
        if not self._options.dry_run:
            committed = sum(self._counts.values(), Counts())
            self._course.records = max(self._course.records, committed.read)
        self._reporter.committed()

    def _completed(self) -> Execution:
        """No signal is raised from here on: it would come too late to change anything."""
        with held_on(self._stop):
            close_run(self._session, self._run, "completed")
            result = self._result("completed", 0)
        return Execution(replace(result, exit_code=3 if result.has_rejects else 0))

    def broken_off(self, error: EtlError | MemoryError | KeyboardInterrupt) -> Execution:
        """Roll back, and write down how the run ended where the database still lets us; the first error stays it.

        No signal is raised from here on.
        """
        self._stop.hold()
        ending = ending_of(error)
        try:
            self._session.rollback()
            close_run(self._session, self._run, ending.status, ending.sentence)
            result = self._result(ending.status, ending.exit_code)
        except SQLAlchemyError as second:
            logger.debug("the end of the run could not be written down: %s", type(second).__name__)
            return unwritten_end(self._run_id, self._job, self._options, self._course, ending)
        return Execution(replace(result, error=ending.sentence), ending.error)

    def _result(self, status: Literal["completed", "failed", "stopped"], exit_code: int) -> RunResult:
        rejects = count_rejects(self._session, self._run)
        loads = tuple(self._load_result(plan, rejects.get(plan.load.name, ())) for plan in self._plans)
        counts = sum((result.counts for result in loads), Counts())
        counts.check("the run")
        return RunResult(
            self._run.id,
            self._job.name,
            status,
            exit_code,
            self._options.dry_run,
            time.monotonic() - self._course.started,
            counts,
            loads,
            timing=self._meter.timing(),
        )

    def _load_result(self, plan: LoadPlan, rejects: tuple[RejectCount, ...]) -> LoadResult:
        name = plan.load.name
        files = self._files(name)
        return LoadResult(
            name=name,
            table=plan.target.name,
            method=plan.choice.writer.method,
            counts=sum((file.counts for file in files), Counts()),
            seconds=self._seconds.get(name, 0.0),
            rejects=rejects,
            files=(*map(_file_result, files), *self._already_loaded.get(name, ())),
            children=summed(file.children for file in files) if plan.target.children else {},
        )

    def _committed_reasons(self, load: str) -> Counter[str]:
        return reasons_committed(count_rejects(self._session, self._run).get(load, ()))

    def _files(self, load: str) -> list[File]:
        return [file for file in files_of(self._session, self._run) if file.load == load]


@dataclass(frozen=True, slots=True)
class Ending:
    """How an error ends a run, and what the user is told."""

    status: Literal["failed", "stopped"]
    exit_code: int
    sentence: str
    error: EtlError | KeyboardInterrupt


def ending_of(error: EtlError | MemoryError | KeyboardInterrupt) -> Ending:
    if isinstance(error, MemoryError):
        return ending_of(OutOfMemory())
    if isinstance(error, EtlError):
        return Ending("failed", error.exit_code, str(error), error)
    code = exit_code_of(error)
    told = f"Stopped by {name_of(code)}; the open transaction was rolled back."
    return Ending("stopped", code, f"{told} Run the same command again to go on.", error)


def unwritten_end(run_id: str, job: Job, options: Options, course: Course, ending: Ending) -> Execution:
    """What can be told of a run whose ledger cannot be reached."""
    result = RunResult(
        run_id,
        job.name,
        ending.status,
        ending.exit_code,
        options.dry_run,
        time.monotonic() - course.started,
        error=ending.sentence,
        timing=course.meter.timing(),
    )
    return Execution(result, ending.error)


def _file_result(file: File) -> FileResult:
    return FileResult(file.path, "loaded" if file.status == "loaded" else "partial", file.counts)


def _record_batches(plan: LoadPlan, planned_source: SourcePlan, stretch: _Stretch) -> Iterator[RecordBatch]:
    """As large as the writer wants them, cut where a transaction will be full or the goal is reached."""
    source = planned_source.source
    reader = open_reader(source, plan.load, planned_source.format, planned_source.schema)
    if not reader.schema.equals(planned_source.schema):
        raise SourceChanged(
            f"{source.path} has other columns than when the run began; the open transaction was rolled back.",
            "Run the same command again.",
        )
    batches = reader.batches(stretch.start, planned_source.mapping.source_columns)
    if stretch.goal is not None:
        batches = up_to(stretch.goal, batches)
    every = plan.load.commit_every if isinstance(plan.load.commit_every, int) else None
    return in_pieces(batches, plan.choice.writer.piece_rows, commit_every=every, open_rows=stretch.open_rows)


def _is_large(piece: Piece) -> bool:
    """Whether its records are so long that three pieces of them, mapped and encoded, take too much memory."""
    columns = piece[0].columns
    return bool(columns.nbytes > LONG_RECORD * columns.num_rows)


def _duplicate_found(
    load: str, path: str, records: RecordBatch, outcome: Outcome, indices: NDArray[np.int64]
) -> DuplicateFound:
    first = next(refusal for refusal in outcome.refusals if refusal.verdict is Verdict.DUPLICATE)
    place = int(indices[first.index])
    line = records.line_of(place)
    where = f"record {records.numbers[place]:,}" + (f" (line {line:,})" if line is not None else "")
    return DuplicateFound(
        f"Load {load}: {where} of {path} is a duplicate by {first.constraint or 'a unique constraint'}, "
        'and on_duplicate is "error"; the open transaction was rolled back.',
        "Mend the source, or skip duplicates.",
    )
