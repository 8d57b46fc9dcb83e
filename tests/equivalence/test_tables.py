"""On any table, loading any file by any method ends with the rows, verdicts and counts of the row loop."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.comparison import Postgresql, Sqlite, require_equal_methods
from tests.tables import Example, postgresql_examples, sqlite_examples

FEW, MANY = 50, 2_000
IN_ONE_DATABASE = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _on_postgresql(postgresql: Postgresql, data: st.DataObject, folder: Path) -> None:
    version = postgresql.admin.info.server_version // 10_000
    require_equal_methods(postgresql, data.draw(postgresql_examples(version), "the example"), folder)


@pytest.mark.timeout(900)  # one that fails is made smaller for up to five minutes
@settings(IN_ONE_DATABASE, max_examples=FEW)
@given(data=st.data())
def test_methods_agree_on_any_table_of_postgresql(postgresql: Postgresql, tmp_path: Path, data: st.DataObject) -> None:
    _on_postgresql(postgresql, data, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(7200)
@settings(IN_ONE_DATABASE, max_examples=MANY)
@given(data=st.data())
def test_methods_agree_on_any_table_of_postgresql_many_times(
    postgresql: Postgresql, tmp_path: Path, data: st.DataObject
) -> None:
    _on_postgresql(postgresql, data, tmp_path)


@pytest.mark.timeout(900)  # one that fails is made smaller for up to five minutes
@settings(IN_ONE_DATABASE, max_examples=FEW)
@given(example=sqlite_examples())
def test_methods_agree_on_any_table_of_sqlite(sqlite: Sqlite, tmp_path: Path, example: Example) -> None:
    require_equal_methods(sqlite, example, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(7200)
@settings(IN_ONE_DATABASE, max_examples=MANY)
@given(example=sqlite_examples())
def test_methods_agree_on_any_table_of_sqlite_many_times(sqlite: Sqlite, tmp_path: Path, example: Example) -> None:
    require_equal_methods(sqlite, example, tmp_path)
