"""What can go wrong, named by what happens next.

    EtlError                    exit 1
    ├─ ConfigError              exit 2, nothing was started
    ├─ SourceError              exit 1
    │  └─ SourceChanged         the content is not what it was at the checkpoint, or when it was begun to be read
    ├─ TargetError              exit 1
    │  ├─ TargetMismatch        the table is not what the load needs
    │  ├─ TargetUnavailable     no connection, or it was lost
    │  └─ DuplicateFound        on_duplicate = "error" met a duplicate
    ├─ TooManyRejects           exit 4, the open transaction was rolled back
    ├─ TransformError           exit 1, a function of the user's failed
    ├─ Locked                   exit 5
    ├─ OutOfMemory              exit 1
    └─ AccountingError          exit 1, the counts do not add up

``str(error)`` is one sentence that says what and where, and one that says what to do. Values of the data and
passwords are never part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class EtlError(Exception):
    """Base of every error that is meant for the user; anything else that escapes is a bug."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".rstrip()


class ConfigError(EtlError):
    """The config or the command line cannot be used; nothing was started."""

    exit_code = 2


class SourceError(EtlError):
    """A source cannot be read as the config says."""


class SourceChanged(SourceError):
    """A source has other content than the checkpoint was made from, or changed while it was read."""

    RESTORE: ClassVar[str] = (
        "Put the former file back and run the same command again, "
        "or begin a new run with --rerun, which loads all files from their start."
    )


class TargetError(EtlError):
    """The database refused something that is not the fault of one row."""


class TargetMismatch(TargetError):
    """The target table is not there, or is not what the load needs."""


class TargetUnavailable(TargetError):
    """There is no connection to the database, or it was lost."""


class DuplicateFound(TargetError):
    """``on_duplicate = "error"`` met a row whose key is already there."""


class TooManyRejects(EtlError):
    """``max_rejects`` was passed; the open transaction was rolled back."""

    exit_code = 4


class TransformError(EtlError):
    """``transform`` of a load failed, or returned what it should not; the open transaction was rolled back."""


class RecordErrors(Exception):
    """What a function that ``transform`` names raises to refuse records: each becomes a reject with its message.

    ``messages`` has the numbers of the records, as the column ``etl_record`` has them, and why each is refused. The
    function is then called again with the others.
    """

    def __init__(self, messages: Mapping[int, str]) -> None:
        super().__init__(f"{len(messages):,} records refused")
        self.messages = {int(number): str(message) for number, message in messages.items()}


class Locked(EtlError):
    """Another run of the same job is at work on the same target."""

    exit_code = 5


class OutOfMemory(EtlError):
    """The process gets no more memory; the open transaction was rolled back."""

    def __init__(self) -> None:
        super().__init__(
            "There is not enough memory; the open transaction was rolled back.",
            "Give the process more, then run the same command again to go on.",
        )


class AccountingError(EtlError):
    """The counts do not add up; nothing of the open transaction is committed."""


class Interrupted(KeyboardInterrupt):
    """SIGINT, by a class of our own.

    A KeyboardInterrupt itself that passes through the code of an ``exec`` or ``eval``, as dataclasses have it, has
    CPython end the process by a SIGINT in place of its exit code (``run_eval_code_obj`` in pythonrun.c).
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM, told as Python tells SIGINT: whoever rolls back for the one does so for the other."""
