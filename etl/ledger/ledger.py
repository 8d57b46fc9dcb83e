"""What a run has done so far, kept in the database that it loads: opened, advanced, and asked back after a crash."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from etl.errors import AccountingError, SourceChanged
from etl.ledger.models import File, RejectedRecord, Run
from etl.records import Counts, Phase, Position, Reason, Reject, RejectCount

PART_BYTES = 1 << 20  # of rejects that are written at once


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Which source, for which load, into which table: what decides whether it was loaded already.

    ``sha256`` is empty as long as it is not known, of a source that ``is_unheard_of``; it has to be before the commit.
    """

    load: str
    table: str
    path: str
    size: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A run as an execution has opened it: its id, and which of its executions this is."""

    run_id: str
    executions: int


def open_run(session: Session, job: str, *, rerun: bool = False, opened: Opened | None = None) -> Run:
    """The unfinished run of ``job``, to be resumed, or a new one; nothing is committed.

    With ``rerun`` an unfinished run is resumed only if it is a rerun itself. ``opened`` is what the same execution has
    got here before: whether that was committed or not, the run is the same, and no execution is counted twice.
    """
    run = _run_to_go_on_with(session, job, rerun=rerun, opened=opened)
    if run is None:
        run_id = _run_id() if opened is None else opened.run_id
        run = Run(id=run_id, job=job, status="running", is_rerun=rerun, executions=0, started_at=_now())
        session.add(run)
    run.status, run.finished_at, run.error = "running", None, None
    run.executions = run.executions + 1 if opened is None else max(run.executions, opened.executions)
    session.flush()
    return run


def _run_to_go_on_with(session: Session, job: str, *, rerun: bool, opened: Opened | None) -> Run | None:
    if opened is not None:
        return session.get(Run, opened.run_id)
    newest = session.scalars(
        sa.select(Run).where(Run.job == job).order_by(Run.started_at.desc(), Run.id.desc()).limit(1)
    ).first()
    is_resumed = newest is not None and newest.status != "completed" and (newest.is_rerun or not rerun)
    return newest if is_resumed else None


def close_run(session: Session, run: Run, status: str, error: str | None = None) -> None:
    """Write down how the run ended; committed."""
    run.status, run.error, run.finished_at = status, error, _now()
    session.commit()


def open_file(session: Session, run: Run, source: SourceIdentity, method: str, *, rerun: bool) -> File | None:
    """The ledger's row of a source, with the position to read on from; None when it was loaded completely before.

    A file that this very run has loaded is given back with the status ``loaded``. Nothing is committed: a new row
    goes with the first rows of the source. Raises SourceChanged when a checkpoint was made from other content.
    """
    earlier = _file_of_content(session, run, source)
    if earlier is None:
        if source.sha256 and not rerun:
            _refuse_changed(session, run, source)
        return _new_file(session, run, source, method, Position())
    if earlier.run_id == run.id and earlier.path == source.path:
        earlier.method = method
        return earlier
    if earlier.status == "loaded":
        return None
    return _new_file(session, run, source, method, earlier.position)


def is_unheard_of(session: Session, run: Run, source: SourceIdentity) -> bool:
    """Whether the ledger has no file of this path or of this size: whatever the source holds, it was never begun."""
    return _newest_file(session, run, source, sa.or_(File.path == source.path, File.size == source.size)) is None


def is_loaded(session: Session, run: Run, source: SourceIdentity) -> bool:
    """Whether ``open_file`` would find that there is nothing to be loaded of a source."""
    earlier = _file_of_content(session, run, source)
    return earlier is not None and earlier.status == "loaded"


def add_rejects(session: Session, file: File, rejects: pa.RecordBatch) -> None:
    """Write rejects, whose columns are named by the attributes of ``RejectedRecord``; committed with their rows."""
    if not rejects.num_rows:
        return
    attributes = sa.inspect(RejectedRecord).columns
    names = [attributes[name].name for name in rejects.schema.names]
    rows = rejects.rename_columns(names).append_column("file_id", pa.repeat(pa.scalar(file.id), rejects.num_rows))
    if session.get_bind().dialect.name == "postgresql":
        _copy_rejects(session, rows)
        return
    # Columns without types: the values are JSON already, which the type of the model would make once more.
    columns = map(sa.Column, rows.schema.names)
    table = sa.Table(RejectedRecord.__tablename__, sa.MetaData(), *columns, schema="ledger")
    for part in _parts_of(rows):
        session.execute(sa.insert(table), part.to_pylist())


def _parts_of(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Of some ``PART_BYTES`` each: what a reject says of its record may be as long as the record."""
    step = max(1, rows.num_rows * PART_BYTES // max(PART_BYTES, rows.nbytes))
    return (rows.slice(first, step) for first in range(0, rows.num_rows, step))


def _copy_rejects(session: Session, rows: pa.RecordBatch) -> None:
    # Imported here: who loads into SQLite does not need it.
    from etl.database.copying import copy_in, cursor_of, quoted

    schema = session.connection().get_execution_options()["schema_translate_map"]["ledger"]
    types = ["bigint" if pa.types.is_integer(type_) else "text" for type_ in rows.schema.types]
    copy_in(cursor_of(session), quoted(RejectedRecord.metadata.tables["ledger.etl_reject"], schema), rows, types)


def advance(session: Session, file: File, position: Position, counts: Counts) -> None:
    """Set the checkpoint forward; committed with the rows. Raises AccountingError when the counts do not add up."""
    counts.check(file.path)
    if position.record - file.record != counts.read:
        raise AccountingError(
            f"{file.path}: {position.record - file.record} records were passed and {counts.read} counted; "
            "nothing of the open transaction was committed.",
            "This is a bug of etl: please report it with the output of `etl check`.",
        )
    file.position = position
    file.counts = file.counts + counts
    file.updated_at = _now()
    session.flush()


def count_rejects(session: Session, run: Run) -> dict[str, tuple[RejectCount, ...]]:
    """The rejects of a run by load, counted by what refused them, the most frequent first."""
    facts = (
        RejectedRecord.phase,
        RejectedRecord.reason,
        RejectedRecord.sqlstate,
        RejectedRecord.constraint,
        RejectedRecord.column,
    )
    found = session.execute(
        sa.select(File.load, *facts, sa.func.count())
        .join(RejectedRecord.file)
        .where(File.run_id == run.id, RejectedRecord.phase != Phase.DUPLICATE.value)
        .group_by(File.load, *facts)
        .order_by(sa.func.count().desc(), *facts)
    )
    counted: dict[str, list[RejectCount]] = {}
    for load, phase, reason, sqlstate, constraint, column, count in found:
        counted.setdefault(load, []).append(RejectCount(phase, reason, count, sqlstate, constraint, column))
    return {load: tuple(counts) for load, counts in counted.items()}


def files_of(session: Session, run: Run) -> list[File]:
    """The sources that a run has touched, in the order in which it came to them."""
    return list(session.scalars(sa.select(File).where(File.run_id == run.id).order_by(File.id)))


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run as ``etl history`` shows it."""

    run_id: str
    job: str
    status: str
    executions: int
    started_at: dt.datetime
    finished_at: dt.datetime | None
    counts: Counts
    files: int
    error: str | None


def past_runs(session: Session, job: str | None, last: int) -> list[PastRun]:
    """The newest ``last`` runs, of one job or of all, the newest first."""
    chosen = sa.select(Run).order_by(Run.started_at.desc(), Run.id.desc()).limit(last)
    if job is not None:
        chosen = chosen.where(Run.job == job)
    return [_past_run(run) for run in session.scalars(chosen)]


def _past_run(run: Run) -> PastRun:
    counts = sum((file.counts for file in run.files), Counts())
    return PastRun(
        run.id,
        run.job,
        run.status,
        run.executions,
        run.started_at,
        run.finished_at,
        counts,
        len(run.files),
        run.error,
    )


@dataclass(frozen=True, slots=True)
class KeptReject:
    """A reject as ``etl rejects`` gives it."""

    run_id: str
    load: str
    file: str
    reject: Reject


def kept_rejects(
    session: Session,
    *,
    job: str | None = None,
    run_id: str | None = None,
    load: str | None = None,
    phase: str | None = None,
) -> Iterator[KeptReject]:
    """The rejects of one run (of the newest, if none is named), in file order; streamed, whatever their number."""
    run_id = run_id or _newest_run_id(session, job)
    chosen = (
        sa.select(RejectedRecord, File.run_id, File.load, File.path)
        .join(RejectedRecord.file)
        .where(File.run_id == run_id)
        .order_by(File.id, RejectedRecord.record, RejectedRecord.id)
    )
    if load is not None:
        chosen = chosen.where(File.load == load)
    chosen = chosen.where(RejectedRecord.phase == phase) if phase else chosen
    for kept, run, name, path in session.execute(chosen.execution_options(yield_per=1000)):
        yield KeptReject(run, name, path, _reject(kept))
        session.expunge(kept)


def run_exists(session: Session, run_id: str) -> bool:
    return session.get(Run, run_id) is not None


def rejects_are_purged(session: Session, *, job: str | None = None, run_id: str | None = None) -> bool:
    """Whether a run (the newest, if none is named) has counted rejects of which none is kept."""
    run_id = run_id or _newest_run_id(session, job)
    counted = session.scalar(sa.select(sa.func.sum(File.rejected)).where(File.run_id == run_id))
    kept = sa.select(RejectedRecord.id).join(RejectedRecord.file).where(File.run_id == run_id).limit(1)
    return bool(counted) and session.scalar(kept) is None


def _reject(kept: RejectedRecord) -> Reject:
    return Reject(
        record=kept.record,
        line=kept.line,
        phase=Phase(kept.phase),
        reason=Reason(kept.reason),
        message=kept.message,
        sqlstate=kept.sqlstate,
        constraint=kept.constraint,
        column=kept.column,
        values=kept.values,
        raw=kept.raw,
    )


def _newest_run_id(session: Session, job: str | None) -> str | None:
    newest = sa.select(Run.id).order_by(Run.started_at.desc(), Run.id.desc()).limit(1)
    return session.scalar(newest if job is None else newest.where(Run.job == job))


def _newest_file(session: Session, run: Run, source: SourceIdentity, *where: sa.ColumnElement[bool]) -> File | None:
    """The newest row for the load and table, one that is loaded before all others: what is loaded stays so, whatever a
    rerun with a limit has done since. For a rerun, what other runs have done does not count.
    """
    chosen = sa.select(File).where(File.job == run.job, File.load == source.load, File.table == source.table, *where)
    if run.is_rerun:
        chosen = chosen.where(File.run_id == run.id)
    is_loaded_first = sa.case((File.status == "loaded", 0), else_=1)
    return session.scalars(chosen.order_by(is_loaded_first, File.id.desc()).limit(1)).first()


def _file_of_content(session: Session, run: Run, source: SourceIdentity) -> File | None:
    """None without asking where the content is not known yet: then the ledger has never heard of the source."""
    if not source.sha256:
        return None
    return _newest_file(session, run, source, File.sha256 == source.sha256, File.size == source.size)


def _refuse_changed(session: Session, run: Run, source: SourceIdentity) -> None:
    earlier = _newest_file(session, run, source, File.path == source.path)
    if earlier is None or earlier.status != "partial" or not earlier.record:
        return
    if _is_gone_on_with(session, earlier):
        return
    name = "Standard input" if source.path == "-" else source.path
    sizes = f", from {earlier.size:,} to {source.size:,} bytes" if source.size != earlier.size else ""
    raise SourceChanged(
        f"{name} has changed since {earlier.record:,} of its records were committed (run {earlier.run_id}){sizes}.",
        SourceChanged.RESTORE,
    )


def unfinished_files(session: Session, run: Run) -> list[File]:
    """The sources of which ``run`` has committed some records and not all, and that nothing has gone on with since."""
    return [
        file
        for file in files_of(session, run)
        if file.status == "partial" and file.record and not _is_gone_on_with(session, file)
    ]


def _is_gone_on_with(session: Session, file: File) -> bool:
    """Whether the same content was found under another name and read on: a file that was renamed."""
    same = (getattr(File, name) == getattr(file, name) for name in ("job", "load", "table", "size", "sha256"))
    newer = sa.select(File.id).where(File.id > file.id, *same).limit(1)
    return session.scalar(newer) is not None


def _new_file(session: Session, run: Run, source: SourceIdentity, method: str, start: Position) -> File:
    file = File(**asdict(source), job=run.job, method=method, status="partial", seconds=0.0, updated_at=_now())
    file.position, file.counts, file.run = start, Counts(), run
    session.add(file)
    session.flush()
    return file


def _run_id() -> str:
    """Sortable by time, short enough to type."""
    return f"{_now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
