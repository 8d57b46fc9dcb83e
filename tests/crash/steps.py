"""The named steps of a load, and what can happen to its process before and after each: hooks of the tests alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

Moment = Literal["before", "after"]

# Where each step is a function that can be wrapped: module, and the name in it.
PLACES = {
    "connect": ("sqlalchemy.engine.base", "Engine.connect"),
    "fingerprint": ("etl.readers.fingerprints", "fingerprint"),
    "plans": ("etl.loading", "planned"),
    "ledger": ("etl.running", "upgrade_ledger"),
    "table": ("sqlalchemy.sql.ddl", "SchemaGenerator.visit_table"),
    "run": ("etl.running", "open_run"),
    "file": ("etl.running", "open_file"),
    "map": ("etl.running", "map_records"),
    "savepoint": ("sqlalchemy.engine.default", "DefaultDialect.do_savepoint"),
    "release": ("sqlalchemy.engine.default", "DefaultDialect.do_release_savepoint"),
    "rollback to": ("sqlalchemy.engine.default", "DefaultDialect.do_rollback_to_savepoint"),
    "rejects": ("etl.running", "add_rejects"),
    "checkpoint": ("etl.running", "advance"),
    "commit": ("sqlalchemy.engine.default", "DefaultDialect.do_commit"),
    "rollback": ("sqlalchemy.engine.default", "DefaultDialect.do_rollback"),
    "end": ("etl.running", "close_run"),
    "standard input": ("etl.readers.files", "_spool"),
    "pause": ("time", "sleep"),  # of a wait for the job's lock
}
WRITERS = ("row.RowWriter", "row.CoreRowWriter", "bulk.HalvingBulkWriter", "bulk.SqliteBulkWriter", "copy.CopyWriter")
# What every run comes to, if it is not done and something of it is refused.
ALWAYS = tuple(name for name in (*PLACES, "rows") if name not in ("rollback to", "standard input", "pause"))


@dataclass(frozen=True)
class Step:
    """The ``number``-th time that a load comes to a step, and the signal that its process then sends to itself.

    The signal 0 is none: there is no memory any more. With ``delay`` it comes so many seconds later, while the load is
    at what the step is.
    """

    name: str
    moment: Moment = "before"
    number: int = 1
    signal: int = signal.SIGKILL
    delay: float = 0.0

    def __str__(self) -> str:
        return f"{self.moment} {self.name} {self.number}"

    def arrange(self) -> None:
        """Have it happen in this process."""
        if self.name == "in commit":
            self._arrange_within_commits()
            return
        places = [PLACES[self.name]] if self.name in PLACES else [_place_of(writer) for writer in WRITERS]
        for module, name in places:
            self._wrap(*_attribute(module, name))

    def _wrap(self, owner: Any, name: str) -> None:
        function = getattr(owner, name)
        count = _Countdown(self)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.moment == "before":
                count.down()
            result = function(*args, **kwargs)
            if self.moment == "after":
                count.down()
            return result

        setattr(owner, name, wrapped)

    def _arrange_within_commits(self) -> None:
        """COMMIT is sent and not answered; SQLite is at it, and has begun to write into its file."""
        owner, name = _attribute(*PLACES["commit"])
        commit = getattr(owner, name)
        count = _Countdown(self)

        def do_commit(dialect: Any, connection: Any) -> None:
            if not count.is_now():
                commit(dialect, connection)
            elif dialect.name == "postgresql":
                pgconn = connection.driver_connection.pgconn
                pgconn.send_query(b"COMMIT")
                assert pgconn.flush() == 0
                count.strike()
            else:
                _strike_at_write(connection.execute("PRAGMA database_list").fetchone()[2], count.strike)
                commit(dialect, connection)

        setattr(owner, name, do_commit)


class _Countdown:
    def __init__(self, step: Step) -> None:
        self._left = step.number
        self._signal = step.signal
        self._delay = step.delay

    def down(self) -> None:
        if self.is_now():
            self.strike()

    def is_now(self) -> bool:
        self._left -= 1
        return self._left == 0

    def strike(self) -> None:
        if not self._signal:
            raise MemoryError
        if self._delay:
            timer = threading.Timer(self._delay, os.kill, (os.getpid(), self._signal))
            timer.daemon = True
            timer.start()
        else:
            os.kill(os.getpid(), self._signal)


def _strike_at_write(path: str, strike: Callable[[], None]) -> None:
    """From a thread, as soon as the file is another one: its journal is complete then, and still there."""
    before = os.stat(path).st_mtime_ns

    def watch() -> NoReturn:
        while True:
            if os.stat(path).st_mtime_ns != before:
                strike()
            time.sleep(0)

    threading.Thread(target=watch, daemon=True).start()


def _place_of(writer: str) -> tuple[str, str]:
    module, name = writer.split(".")
    return f"etl.writers.{module}", f"{name}.write"


def _attribute(module: str, name: str) -> tuple[Any, str]:
    import importlib

    owner: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, last
