"""How often an attempt is made again, and how long between."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

import etl.retrying
from etl.retrying import ATTEMPTS, persist


class Passing(Exception):
    """A fault that passes."""


class Lasting(Exception):
    """One that does not."""


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits, which nobody waits for."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    return waited


class Endeavour:
    """Attempts that each commit so many records, and then fail unless they are the last one."""

    def __init__(self, committed: Iterable[int], fault: Callable[[], Exception] = Passing) -> None:
        self.committed, self.fault = list(committed), fault
        self.records = self.made = 0
        self.told: list[float] = []

    def attempt(self) -> str:
        self.made += 1
        self.records = max(self.records, self.committed.pop(0))
        if self.committed:
            raise self.fault()
        return "done"

    def persist(self) -> str:
        return persist(
            self.attempt,
            is_passing=lambda error: isinstance(error, Passing),
            progress=lambda: self.records,
            tell=lambda _, seconds: self.told.append(seconds),
        )


def test_attempts_in_a_row_are_bounded_and_the_last_fault_is_raised(waits: list[float]) -> None:
    endeavour = Endeavour([5] * 100)
    with pytest.raises(Passing):
        endeavour.persist()
    assert endeavour.made == ATTEMPTS == 7
    assert endeavour.told == waits


def test_waits_are_doubled_and_last_half_a_minute(waits: list[float]) -> None:
    with pytest.raises(Passing):
        Endeavour([0] * 100).persist()
    for wait, least in zip(waits, (0.5, 1, 2, 4, 8, 16), strict=True):
        assert least <= wait <= least + 0.5
    assert 31 <= sum(waits) <= 35


def test_attempt_that_has_committed_more_begins_the_row_anew(waits: list[float]) -> None:
    assert Endeavour(range(30)).persist() == "done"
    assert max(waits) <= 1.0


def test_records_that_are_committed_once_more_are_no_progress() -> None:
    endeavour = Endeavour([9, 9, 3, 9, 8, 9, 9, 9, 9])
    with pytest.raises(Passing):
        endeavour.persist()
    assert endeavour.made == ATTEMPTS


def test_time_of_the_first_attempt_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load may take hours before its first fault; from then on a minute is given."""
    now = [0.0]
    monkeypatch.setattr("tenacity.time.monotonic", lambda: now[0])
    endeavour = Endeavour([0] * 100)
    first = endeavour.attempt

    def attempt() -> str:
        now[0] += 25.0 if endeavour.made else 7_200.0
        return first()

    monkeypatch.setattr(endeavour, "attempt", attempt)
    with pytest.raises(Passing):
        endeavour.persist()
    assert endeavour.made == 4  # 25 s, 50 s and 75 s after the first fault
    assert etl.retrying.SECONDS == 60


def test_other_faults_are_raised_at_once(waits: list[float]) -> None:
    endeavour = Endeavour([0, 0], Lasting)
    with pytest.raises(Lasting):
        endeavour.persist()
    assert (endeavour.made, waits) == (1, [])
