"""Which runs may be forgotten, and forgetting them without a difference to what any later load does.

A source is known as loaded by the newest ``etl_file`` row of its content, and one that was loaded in part is gone on
with from there. A run with such a row stays, and what goes are its rejects, which hold data of the source. A run goes
whole when newer rows stand for all of its files: of the same path and content, for the same load and table.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from etl.ledger.models import File, RejectedRecord, Run

REJECTS_AT_ONCE = 20_000  # in one transaction, at most
RUNS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Retention:
    """The runs of a job that may be forgotten, the oldest first, and how many stay as they are, by the reason.

    ``newest``: by their number; ``younger``: by their date; ``unfinished``: the same command goes on with it.
    ``newest_id`` is the run that a next one may go on with, and by its status decides whether it does.
    """

    job: str
    run_ids: tuple[str, ...] = ()
    newest_id: str = ""
    newest: int = 0
    younger: int = 0
    unfinished: int = 0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was deleted: ``rejects`` in all, and ``runs`` with their ``files``. ``proofs`` are runs that stay without
    their rejects."""

    runs: int = 0
    files: int = 0
    rejects: int = 0
    proofs: int = 0

    def __add__(self, other: Forgotten) -> Forgotten:
        return Forgotten(
            self.runs + other.runs,
            self.files + other.files,
            self.rejects + other.rejects,
            self.proofs + other.proofs,
        )


def jobs_of(session: Session) -> list[str]:
    """The names of all jobs that have a run in the ledger."""
    return list(session.scalars(sa.select(Run.job).distinct().order_by(Run.job)))


def runs_to_forget(session: Session, job: str, before: dt.datetime | None, keep: int) -> Retention:
    """The runs of ``job`` that ended before ``before`` (None: whenever) and are not among its newest ``keep``."""
    chosen = sa.select(Run).where(Run.job == job).order_by(Run.started_at.desc(), Run.id.desc())
    runs = list(session.scalars(chosen))
    behind = runs[keep:]
    unfinished = [run for run in behind if run is runs[0] and run.status != "completed"]
    old = [run for run in behind if run not in unfinished and (before is None or _end_of(run) < before)]
    return Retention(
        job,
        tuple(run.id for run in reversed(old)),
        newest_id=runs[0].id if runs else "",
        newest=len(runs) - len(behind),
        younger=len(behind) - len(unfinished) - len(old),
        unfinished=len(unfinished),
    )


def _end_of(run: Run) -> dt.datetime:
    return run.finished_at or run.started_at


def count_forgettable(session: Session, retention: Retention) -> Forgotten:
    """What ``forget_runs`` would delete."""
    counted = Forgotten()
    for runs in _some_at_once(retention.run_ids):
        rejects = session.scalar(sa.select(sa.func.count()).select_from(RejectedRecord).where(_is_of(runs))) or 0
        gone = _dispensable(session, retention, runs)
        counted += Forgotten(len(gone), _count_files(session, gone), rejects, len(runs) - len(gone))
    return counted


def forget_runs(session: Session, retention: Retention) -> Iterator[Forgotten]:
    """Delete the rejects of the runs, and the runs that are not needed to know what was loaded.

    In transactions of bounded size; what each has deleted is told when it is committed.
    """
    for runs in _some_at_once(retention.run_ids):
        yield from _forget_rejects(session, runs)
        gone = _dispensable(session, retention, runs)
        files = _count_files(session, gone)
        session.execute(sa.delete(Run).where(Run.id.in_(gone)), execution_options=_UNSEEN)  # and by cascade its files
        session.commit()
        yield Forgotten(len(gone), files, 0, len(runs) - len(gone))


_UNSEEN = {"synchronize_session": False}  # no object of these rows is used any more


def _some_at_once(run_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (run_ids[start : start + RUNS_AT_ONCE] for start in range(0, len(run_ids), RUNS_AT_ONCE))


def _forget_rejects(session: Session, runs: Sequence[str]) -> Iterator[Forgotten]:
    """By ranges of ids, so that each statement reads as much as it deletes, however many rejects there are."""
    ids = sa.select(sa.func.min(RejectedRecord.id), sa.func.max(RejectedRecord.id)).where(_is_of(runs))
    first, last = session.execute(ids).one()
    for start in range(first or 0, last + 1 if last else 0, REJECTS_AT_ONCE):
        here = RejectedRecord.id.between(start, start + REJECTS_AT_ONCE - 1)
        deleted = session.execute(sa.delete(RejectedRecord).where(_is_of(runs), here), execution_options=_UNSEEN)
        session.commit()
        yield Forgotten(rejects=deleted.rowcount)  # type: ignore[attr-defined]


def _is_of(runs: Sequence[str]) -> sa.ColumnElement[bool]:
    return RejectedRecord.file_id.in_(sa.select(File.id).where(File.run_id.in_(runs)))


def _dispensable(session: Session, retention: Retention, runs: Sequence[str]) -> list[str]:
    """Those of ``runs`` that no load will ask for: a newer row stands for each file, and a newer run for the run."""
    newer = aliased(File)
    same = (getattr(newer, name) == getattr(File, name) for name in ("job", "load", "table", "size", "sha256"))
    as_good = sa.or_(newer.status == "loaded", File.status != "loaded")
    stood_for = sa.exists().where(newer.id > File.id, as_good, *same)
    proof = sa.exists().where(File.run_id == Run.id, ~stood_for)
    chosen = sa.select(Run.id).where(Run.id.in_(runs), Run.id != retention.newest_id, ~proof)
    return list(session.scalars(chosen))


def _count_files(session: Session, runs: Sequence[str]) -> int:
    return session.scalar(sa.select(sa.func.count()).select_from(File).where(File.run_id.in_(runs))) or 0
