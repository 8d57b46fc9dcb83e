"""Doing it again after a passing fault: how often in a row, and how long between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
)

Value = TypeVar("Value")

ATTEMPTS = 7  # in a row: the waits between them add up to half a minute
SECONDS = 60  # from the first fault in a row to the beginning of the last attempt
FIRST_WAIT, LONGEST_WAIT = 0.5, 16.0  # seconds; each wait is twice as long as the one before
JITTER = 0.5  # seconds: two loaders in each other's way do not come again at the same moment


def persist(
    attempt: Callable[[], Value],
    *,
    is_passing: Callable[[BaseException], bool],
    progress: Callable[[], int],
    tell: Callable[[BaseException, float], None],
) -> Value:
    """What ``attempt`` gives; it is called again after each fault that ``is_passing``, and the last one is raised.

    Attempts are bounded in number and time, and the bounds begin anew when ``progress`` has become more than it ever
    was. ``tell`` hears of each fault and of the seconds until the next attempt. An interruption ends the wait.
    """
    furthest = progress()

    def begin_anew(state: RetryCallState) -> None:
        nonlocal furthest
        assert state.outcome_timestamp is not None
        if state.attempt_number == 1 or progress() > furthest:
            state.attempt_number, state.start_time = 1, state.outcome_timestamp
        furthest = max(furthest, progress())

    def tell_of(state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome is not None else None
        assert fault is not None
        tell(fault, state.upcoming_sleep)

    retrying = Retrying(
        retry=retry_if_exception(is_passing),
        after=begin_anew,
        wait=wait_exponential_jitter(multiplier=FIRST_WAIT, max=LONGEST_WAIT, jitter=JITTER),
        stop=stop_after_attempt(ATTEMPTS) | stop_before_delay(SECONDS),
        before_sleep=tell_of,
        reraise=True,
    )
    return retrying(attempt)
