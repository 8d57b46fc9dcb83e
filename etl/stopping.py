"""SIGINT and SIGTERM: where they break the work off, and an end within seconds whatever the command waits for.

Python tells a signal to the main thread, between two of its instructions. In a commit that would leave open whether it
was made, in an import or a callback of C the exception may be lost, and a statement of SQLite or a thread that is to
be joined may keep the main thread for minutes. So a signal is raised only where the work is interruptible and not
held, and another thread, which the signal wakes by itself, ends the process when that has taken too long. The database
rolls back what is open then, as after a SIGKILL.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn, Protocol, Self

from etl.errors import Interrupted, Terminated
from etl.threads import start_daemon

PATIENCE = 3.0  # seconds that a command has, from the first signal on, to end in order


def exit_code_of(error: KeyboardInterrupt) -> int:
    """143 for SIGTERM, 130 for SIGINT, as a shell has it."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def name_of(exit_code: int) -> str:
    """The signal's name."""
    return signal.Signals(exit_code - 128).name


class Stop(Protocol):
    """What may ask for an end of the work, as ``Interrupted`` or ``Terminated``, raised where it is not held."""

    def hold(self) -> None:
        """From here on nothing is raised."""

    def release(self) -> None:
        """Undo a ``hold``; what came meanwhile is raised."""

    def raised(self) -> KeyboardInterrupt | None:
        """What was raised, if anything was."""


class NeverStopped:
    """For who calls ``etl.load``: what signals mean is the caller's to say."""

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass

    def raised(self) -> None:
        return None


@contextmanager
def stop_comes_first(stop: Stop) -> Iterator[None]:
    """An error behind what ``stop`` has raised is its doing, and gives way to it.

    It may have broken off what others were about to undo or to finish, and that, or their own clean-up, has failed
    then: SQLAlchemy finds a transaction not to be the active one, an assertion does not hold.
    """
    try:
        yield
    except Exception as error:
        raised = stop.raised()
        if raised is None:
            raise
        raise raised from error


@contextmanager
def held(stop: Stop) -> Iterator[None]:
    """A commit, say: done, and only then is a signal raised that came meanwhile."""
    stop.hold()
    try:
        yield
    finally:
        stop.release()


@contextmanager
def held_on(stop: Stop) -> Iterator[None]:
    """The same, but held from here on: what is raised inside is all that lets go."""
    stop.hold()
    try:
        yield
    except BaseException:
        stop.release()
        raise


class Signals:
    """SIGINT and SIGTERM, while its ``with`` lasts or to the end of the process; raised where it is ``interruptible``.

    Only the first signal is raised, so that what it has begun is not broken off in turn. After ``PATIENCE`` seconds,
    or by another SIGINT, the process ends at once, with the exit code of the first signal; ``last_words`` is given
    that code before. A signal that the process was started to ignore, as a shell has it for `etl load … &`, stays so.
    """

    def __init__(self, *, is_whole_process: bool = False) -> None:
        self._is_whole_process = is_whole_process
        self.last_words: Callable[[int], None] = _silence
        self._first: int | None = None
        self._is_raised = False
        self._raised: KeyboardInterrupt | None = None
        self._holds = 1
        self._handlers: dict[int, Any] = {}

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A signal, also one that came before, is raised in here."""
        try:
            self.release()
            yield
        finally:
            self.hold()

    def hold(self) -> None:
        self._holds += 1

    def release(self) -> None:
        self._holds -= 1
        self._is_raised = False  # what was raised and got lost, in a callback of C say, is raised once more
        self._raise()

    def __enter__(self) -> Self:
        self._awakened, self._awaken = os.pipe()
        os.set_blocking(self._awaken, False)
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._handle)
        self._other = signal.set_wakeup_fd(self._awaken, warn_on_full_buffer=False)
        with suppress(RuntimeError, MemoryError):  # who cannot do without a thread will tell that there is none
            start_daemon(self._watch, "etl-signals")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_whole_process and self._first is not None:
            return  # until Python itself has ended, which waits for other threads
        if self._is_whole_process:
            # All is said and done, and Python gives handlers back to the system before it has ended.
            for number in self._handlers:
                signal.signal(number, signal.SIG_IGN)
            return
        signal.set_wakeup_fd(self._other)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._awaken)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._first is None:
            self._first = number
        self._raise()

    def _raise(self) -> None:
        if self._first is None or self._holds or self._is_raised:
            return
        self._is_raised = True
        self._raised = Terminated() if self._first == signal.SIGTERM else Interrupted()
        raise self._raised

    def raised(self) -> KeyboardInterrupt | None:
        return self._raised

    def _watch(self) -> None:
        """Read the numbers that Python's own handler, in C, writes at once, whatever the main thread does."""
        first, deadline = 0, 0.0
        while True:
            left = max(0.0, deadline - time.monotonic()) if first else None
            if not select.select([self._awakened], [], [], left)[0]:
                self._end_at_once(first)
            told = os.read(self._awakened, 1)
            if not told:
                os.close(self._awakened)
                return
            if first and told[0] == signal.SIGINT:
                self._end_at_once(first)
            if not first and told[0] in self._handlers:
                first, deadline = told[0], time.monotonic() + PATIENCE

    def _end_at_once(self, number: int) -> NoReturn:
        try:
            self.last_words(128 + number)
        finally:
            os._exit(128 + number)


def _silence(_code: int) -> None:
    pass
