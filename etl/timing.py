"""What a run costs: savepoints and rollbacks by the session's events, and the seconds of each phase."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from etl.records import Timing

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class Meter:
    """Counts what the sessions do that it watches, and adds up the seconds of what is timed.

    Phases on different threads go on side by side: their sum may be more than the time that has passed.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._savepoints = 0
        self._rollbacks = 0
        self._commit_began = 0.0
        self.settled = 0  # pieces
        self.retries = 0

    def watch(self, session: Session) -> None:
        event.listen(session, "after_transaction_create", self._transaction_created)
        event.listen(session, "after_soft_rollback", self._rolled_back)
        event.listen(session, "before_commit", self._before_commit)
        event.listen(session, "after_commit", self._after_commit)

    def timed(self, phase: str, function: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
        """``function``, the seconds of whose calls belong to ``phase``."""

        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._seconds[phase] += time.perf_counter() - began

        return call

    def each(self, phase: str, items: Iterable[Value]) -> Iterator[Value]:
        """The same items; the seconds in which they are made belong to ``phase``."""
        following = self.timed(phase, lambda iterator: next(iterator, self))
        source = iter(items)
        while not isinstance(item := following(source), Meter):
            yield item

    def timing(self) -> Timing:
        """What was counted so far."""
        seconds = {phase: round(spent, 3) for phase, spent in self._seconds.items()}
        return Timing(self._savepoints, self._rollbacks, self.settled, seconds, self.retries)

    def _transaction_created(self, _session: Session, transaction: SessionTransaction) -> None:
        self._savepoints += transaction.nested

    def _rolled_back(self, _session: Session, transaction: SessionTransaction) -> None:
        self._rollbacks += transaction.nested

    def _before_commit(self, session: Session) -> None:
        if not session.in_nested_transaction():  # releasing a savepoint is told as a commit, too
            self._commit_began = time.perf_counter()

    def _after_commit(self, session: Session) -> None:
        if not session.in_nested_transaction():
            self._seconds["commit"] += time.perf_counter() - self._commit_began
