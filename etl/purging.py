"""``etl purge``: forgetting old runs, as far as no source is loaded again for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from etl.checking import read_ledger
from etl.config import Database
from etl.database import connected, overwrite_what_is_deleted, session_factory
from etl.errors import Locked
from etl.ledger import (
    Forgotten,
    Retention,
    count_forgettable,
    forget_runs,
    job_lock,
    jobs_of,
    runs_to_forget,
    upgrade_ledger,
)
from etl.report import aligned


@dataclass(frozen=True, slots=True)
class Limits:
    """A run goes if it ended before ``before`` (None: whenever) and is not among the newest ``keep`` of its job."""

    before: dt.datetime | None
    keep: int


@dataclass(frozen=True, slots=True)
class JobPurge:
    """What was forgotten of a job and what was kept; ``is_locked``: nothing was, as a run of it is at work."""

    retention: Retention
    forgotten: Forgotten
    is_locked: bool = False


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What ``etl purge`` has done, job by job; in a dry run, what it would do."""

    limits: Limits
    is_dry_run: bool
    jobs: tuple[JobPurge, ...]

    @property
    def exit_code(self) -> int:
        return Locked.exit_code if any(job.is_locked for job in self.jobs) else 0

    @property
    def forgotten(self) -> Forgotten:
        return sum((job.forgotten for job in self.jobs), Forgotten())


def purge_ledger(database: Database, job: str | None, limits: Limits, *, dry_run: bool = False) -> PurgeReport:
    """Forget old runs of ``job``, or of every job in the ledger of ``database``.

    What is deleted is committed part by part. Raises Locked when a run of ``job`` is at work; where all jobs are meant,
    such a job is left alone.
    """
    if dry_run:
        return PurgeReport(limits, dry_run, tuple(_foreseen(database, job, limits)))
    if job is not None:
        return PurgeReport(limits, dry_run, (_purged(database, job, limits),))
    return PurgeReport(limits, dry_run, tuple(_purged_if_free(database, name, limits) for name in _jobs(database)))


def _jobs(database: Database) -> list[str]:
    with read_ledger(database) as session:
        return jobs_of(session) if session is not None else []


def _foreseen(database: Database, job: str | None, limits: Limits) -> Iterator[JobPurge]:
    with read_ledger(database) as session:
        if session is None:
            return
        for name in jobs_of(session) if job is None else [job]:
            retention = runs_to_forget(session, name, limits.before, limits.keep)
            yield JobPurge(retention, count_forgettable(session, retention))


def _purged_if_free(database: Database, job: str, limits: Limits) -> JobPurge:
    try:
        return _purged(database, job, limits)
    except Locked:
        return JobPurge(Retention(job), Forgotten(), is_locked=True)


def _purged(database: Database, job: str, limits: Limits) -> JobPurge:
    """By a connection of its own, since the job's lock ends with it."""
    if not _has_ledger(database):
        return JobPurge(Retention(job), Forgotten())
    with connected(database) as connection, job_lock(connection, job):
        overwrite_what_is_deleted(connection)
        with session_factory(connection)() as session:
            upgrade_ledger(session.connection(), database.ledger_place)
            session.commit()
            retention = runs_to_forget(session, job, limits.before, limits.keep)
            return JobPurge(retention, sum(forget_runs(session, retention), Forgotten()))


def _has_ledger(database: Database) -> bool:
    with read_ledger(database) as session:
        return session is not None


# How it is told


def purge_as_text(report: PurgeReport) -> str:
    """What a person reads."""
    runs = f"runs {_which(report.limits)}"
    opening = f"Dry run: nothing was deleted. To go: {runs}." if report.is_dry_run else f"Purged: {runs}."
    if not report.jobs:
        return f"{opening}\n\nNo runs yet."
    head = ["job", "runs deleted", "files", "rejects deleted"]
    rows = [head, *(_job_row(job.retention.job, job.forgotten) for job in report.jobs)]
    if len(report.jobs) > 1:
        rows.append(_job_row("total", report.forgotten))
    kept = [f"  {count:,} {why}" for count, why in _kept(report) if count]
    parts = [opening, "\n".join(aligned(rows, right={1, 2, 3})), "\n".join(["Runs kept:", *kept]) if kept else ""]
    return "\n\n".join(filter(None, [*parts, *_locked(report)]))


def _which(limits: Limits) -> str:
    ended = "" if limits.before is None else f"that ended before {limits.before:%Y-%m-%d %H:%M} UTC"
    newest = f"not among the newest {limits.keep:,} of their job" if limits.keep else ""
    return " and ".join(filter(None, [ended, newest])) or "whenever they ended"


def _job_row(name: str, forgotten: Forgotten) -> Sequence[str]:
    return [name, *(f"{count:,}" for count in (forgotten.runs, forgotten.files, forgotten.rejects))]


def _kept(report: PurgeReport) -> Iterator[tuple[int, str]]:
    kept = [job.retention for job in report.jobs]
    rejects = "whose rejects would go" if report.is_dry_run else "without their rejects"
    yield (
        report.forgotten.proofs,
        f"{rejects}: they say which files were loaded, and without them these would be loaded again",
    )
    yield sum(retention.newest for retention in kept), f"among the newest {report.limits.keep:,} of their job"
    yield sum(retention.younger for retention in kept), "that ended later"
    yield sum(retention.unfinished for retention in kept), "unfinished: the same `etl load` goes on with it"


def _locked(report: PurgeReport) -> list[str]:
    names = [job.retention.job for job in report.jobs if job.is_locked]
    return [f"Left alone, since a run of it is at work: {', '.join(names)}"] if names else []


def purge_as_dict(report: PurgeReport) -> dict[str, object]:
    """The same for programs: what ``etl purge --json`` prints."""
    before = report.limits.before
    return {
        "dry_run": report.is_dry_run,
        "before": None if before is None else before.isoformat(),
        "keep": report.limits.keep,
        "exit_code": report.exit_code,
        "jobs": [_job_as_dict(job) for job in report.jobs],
    }


def _job_as_dict(job: JobPurge) -> dict[str, object]:
    retention, forgotten = job.retention, job.forgotten
    return {
        "job": retention.job,
        "locked": job.is_locked,
        "deleted": {"runs": forgotten.runs, "files": forgotten.files, "rejects": forgotten.rejects},
        "kept": {
            "proofs": forgotten.proofs,
            "newest": retention.newest,
            "younger": retention.younger,
            "unfinished": retention.unfinished,
        },
    }
