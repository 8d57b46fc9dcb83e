"""One thread beside the one that waits for the database."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from etl.errors import EtlError

Made = TypeVar("Made")


class OneThread(ThreadPoolExecutor):
    """Does one thing after the other, on a thread that is started with the first of them."""

    def __init__(self, name: str) -> None:
        super().__init__(max_workers=1, thread_name_prefix=name)

    def begin(self, make: Callable[..., Made], *arguments: object) -> Future[Made]:
        """What ``make`` will have made. Raises EtlError where the system starts no thread."""
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
