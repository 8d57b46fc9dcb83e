"""Threads beside the main one, on systems that are at the end of their memory or of their threads."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from etl.errors import EtlError

Made = TypeVar("Made")

_ROOM = 16 << 20  # bytes


class OneThread(ThreadPoolExecutor):
    """Does one thing after the other, on a thread that is started with the first of them."""

    def __init__(self, name: str) -> None:
        super().__init__(max_workers=1, thread_name_prefix=name)

    def begin(self, make: Callable[..., Made], *arguments: object) -> Future[Made]:
        """What ``make`` will have made. Raises EtlError where the system starts no thread, and MemoryError."""
        _require_room()
        try:
            return self.submit(make, *arguments)
        except RuntimeError as error:
            if "new thread" not in str(error):  # CPython has no class for it
                raise
            raise EtlError(
                "The system starts no thread for this process; the open transaction was rolled back.",
                "Raise what limits them (ulimit -u, TasksMax= of a systemd unit, pids of a container), then run the "
                "same command again to go on.",
            ) from error


def start_daemon(target: Callable[[], None], name: str) -> None:
    """Start a thread that nobody waits for. Raises RuntimeError where the system starts none, and MemoryError."""
    _require_room()
    threading.Thread(target=target, name=name, daemon=True).start()


def _require_room() -> None:
    """Raise MemoryError where there is hardly any left.

    A thread that gets no memory as it begins ends without a word, and ``Thread.start`` waits for ever for its first.
    It takes new pages, which are asked for here: what is free among those that there are is of no use to it.
    """
    try:
        mmap.mmap(-1, _ROOM).close()
    except OSError as error:
        raise MemoryError from error
