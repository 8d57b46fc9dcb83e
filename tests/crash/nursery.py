"""Commands as processes of their own that begin behind the imports: forked from one process that has them done.

A campaign of kills starts hundreds of commands. `python -m etl` takes most of a second of a processor before its first
look at the job; a fork takes some milliseconds, and is killed and signalled as any process is.

What is asked for comes as a line of JSON on standard input; the answers are the process's id and, once it has ended,
its exit code, negative for the signal that killed it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from etl import retrying, stopping
from tests.crash.steps import Step

ROOT = Path(__file__).parents[2]
SECONDS = 120.0  # most that a command may take, also on a busy machine
BOTH = (signal.SIGINT, signal.SIGTERM)
IMPORTED = [
    *("etl.cli", "etl.loading", "etl.checking", "etl.verifying", "etl.report", "etl.database.copying"),
    *("filelock", "psycopg", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite"),
]


@dataclass(frozen=True)
class Done:
    """A command that has ended; ``exit_code`` is negative where a signal killed it."""

    exit_code: int
    output: str
    errors: str

    @property
    def result(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        assert self.output.count("\n") == 1, self.output
        parsed: dict[str, Any] = json.loads(self.output)
        return parsed


class Child:
    """A command at work."""

    def __init__(self, pid: int, answers: IO[str], output: Path, errors: Path) -> None:
        self.pid = pid
        self._answers = answers
        self._output = output
        self._errors = errors
        self._done: Done | None = None

    @property
    def errors_so_far(self) -> str:
        return self._errors.read_text()

    def has_ended(self, seconds: float = 0) -> bool:
        """Whether it ends within so many seconds."""
        if self._done is None and select.select([self._answers], [], [], seconds)[0]:
            self._done = Done(int(self._answers.readline()), self._output.read_text(), self._errors.read_text())
        return self._done is not None

    def wait(self) -> Done:
        if not self.has_ended(SECONDS):
            os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"it does not end; it has said: {self._errors.read_text()}")
        assert self._done is not None
        assert "Traceback" not in self._done.errors, self._done.errors
        return self._done

    def send(self, number: signal.Signals) -> None:
        if not self.has_ended():
            os.kill(self.pid, number)

    def end(self, number: signal.Signals) -> Done:
        """Send it a signal, and wait."""
        self.send(number)
        return self.wait()


class Nursery:
    """One command at a time."""

    def __init__(self) -> None:
        pipe: Any = subprocess.PIPE
        command = [sys.executable, "-m", __name__]
        # No threads of OpenBLAS: a process with threads is not to be forked.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, bufsize=0, env=environment)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._answers = self._process.stdin, self._process.stdout
        self._child: Child | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="etl-nursery-")

    def start(
        self, *arguments: str | Path, step: Step | None = None, stdin: str | Path = os.devnull, first: str = ""
    ) -> Child:
        """Start `etl` with ``arguments``; at ``step`` something happens to it, and ``first`` is Python that it runs."""
        if self._child is not None:  # whose test has failed before it looked at the end
            self._child.send(signal.SIGKILL)
            self._child.has_ended(SECONDS)
        output, errors = (Path(self._folder.name) / name for name in ("output", "errors"))
        request = {
            "arguments": list(map(str, arguments)),
            "step": None if step is None else asdict(step),
            "streams": [str(stdin), str(output), str(errors)],
            "first": first,
        }
        self._asked.write(json.dumps(request).encode() + b"\n")
        answers: Any = self._answers
        self._child = Child(int(answers.readline()), answers, output, errors)
        return self._child

    def run(self, *arguments: str | Path, step: Step | None = None, first: str = "") -> Done:
        return self.start(*arguments, step=step, first=first).wait()

    def close(self) -> None:
        self._asked.close()
        self._process.wait(SECONDS)
        self._answers.close()
        self._folder.cleanup()


def serve() -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    retrying.FIRST_WAIT = retrying.JITTER = 0.02  # seconds: how long it takes is shown elsewhere
    gc.freeze()  # a collection in a child would copy all pages that it shares
    while line := sys.stdin.readline():
        request = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, BOTH)  # what comes before it can be told is told then
        pid = os.fork()
        if not pid:
            _be_etl(**request)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BOTH)
        _answer(pid)
        _, status = os.waitpid(pid, 0)
        _answer(os.waitstatus_to_exitcode(status))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _be_etl(arguments: Sequence[str], step: dict[str, Any] | None, streams: Sequence[str], first: str) -> None:
    """The command; what it opens and says is its own from here on."""
    from etl.__main__ import run

    for number, path in enumerate(streams):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["etl", *arguments]
    if step is not None:
        Step(**step).arrange()
    exec(first)
    enter = stopping.Signals.__enter__

    def entered(signals: stopping.Signals) -> stopping.Signals:
        """Only now is there somebody who tells of a signal."""
        enter(signals)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BOTH)
        return signals

    stopping.Signals.__enter__ = entered  # type: ignore[assignment, method-assign]
    run()


if __name__ == "__main__":
    serve()
