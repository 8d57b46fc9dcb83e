"""How many random tables a test tries: a few each time, thousands in the long tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings

Test = TypeVar("Test", bound=Callable[..., Any])

MANY = 2_000
IN_ONE_DATABASE = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def few(number: int) -> Callable[[Test], Test]:
    """So many examples. One that fails is made smaller for up to five minutes."""

    def decorated(test: Test) -> Test:
        marked: Test = pytest.mark.timeout(900)(settings(IN_ONE_DATABASE, max_examples=number)(test))
        return marked

    return decorated


def many(test: Test) -> Test:
    """As many as a campaign takes."""
    timed = pytest.mark.timeout(7200)(settings(IN_ONE_DATABASE, max_examples=MANY)(test))
    marked: Test = pytest.mark.long(timed)
    return marked
