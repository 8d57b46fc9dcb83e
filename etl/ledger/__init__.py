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
    kept_rejects,
    open_file,
    open_run,
    past_runs,
    run_exists,
)
from etl.ledger.locking import job_lock
from etl.ledger.models import File, RejectedRecord, Run
from etl.ledger.schema import ledger_version, upgrade_ledger

__all__ = [
    "File",
    "KeptReject",
    "Opened",
    "PastRun",
    "RejectedRecord",
    "Run",
    "SourceIdentity",
    "add_rejects",
    "advance",
    "close_run",
    "count_rejects",
    "files_of",
    "job_lock",
    "kept_rejects",
    "ledger_version",
    "open_file",
    "open_run",
    "past_runs",
    "run_exists",
    "upgrade_ledger",
]
