"""The ledger: ``etl_run``, ``etl_file`` and ``etl_reject`` in the target database, and the lock of a job."""

from etl.ledger.ledger import (
    KeptReject,
    Opened,
    PastRun,
    SourceIdentity,
    add_rejects,
    advance,
    close_run,
    count_rejects,
    files_of,
    is_loaded,
    kept_rejects,
    open_file,
    open_run,
    past_runs,
    rejects_are_purged,
    run_exists,
    unfinished_files,
)
from etl.ledger.locking import PATIENCE, JobLock, job_lock
from etl.ledger.models import File, RejectedRecord, Run
from etl.ledger.retention import Forgotten, Retention, count_forgettable, forget_runs, jobs_of, runs_to_forget
from etl.ledger.schema import ledger_version, upgrade_ledger

__all__ = [
    "PATIENCE",
    "File",
    "Forgotten",
    "JobLock",
    "KeptReject",
    "Opened",
    "PastRun",
    "RejectedRecord",
    "Retention",
    "Run",
    "SourceIdentity",
    "add_rejects",
    "advance",
    "close_run",
    "count_forgettable",
    "count_rejects",
    "files_of",
    "forget_runs",
    "is_loaded",
    "job_lock",
    "jobs_of",
    "kept_rejects",
    "ledger_version",
    "open_file",
    "open_run",
    "past_runs",
    "rejects_are_purged",
    "run_exists",
    "runs_to_forget",
    "unfinished_files",
    "upgrade_ledger",
]
