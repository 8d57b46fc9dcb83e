"""On any table, loading any file by any method ends with the rows, verdicts and counts of the row loop."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.comparison import Postgresql, Sqlite, require_equal_methods
from tests.equivalence.campaigns import few, many
from tests.tables import Example, postgresql_examples, sqlite_examples

FEW = 50


def _on_postgresql(postgresql: Postgresql, data: st.DataObject, folder: Path) -> None:
    version = postgresql.admin.info.server_version // 10_000
    require_equal_methods(postgresql, data.draw(postgresql_examples(version), "the example"), folder)


@few(FEW)
@given(data=st.data())
def test_methods_agree_on_any_table_of_postgresql(postgresql: Postgresql, tmp_path: Path, data: st.DataObject) -> None:
    _on_postgresql(postgresql, data, tmp_path)


@many
@given(data=st.data())
def test_methods_agree_on_any_table_of_postgresql_many_times(
    postgresql: Postgresql, tmp_path: Path, data: st.DataObject
) -> None:
    _on_postgresql(postgresql, data, tmp_path)


@few(FEW)
@given(example=sqlite_examples())
def test_methods_agree_on_any_table_of_sqlite(sqlite: Sqlite, tmp_path: Path, example: Example) -> None:
    require_equal_methods(sqlite, example, tmp_path)


@many
@given(example=sqlite_examples())
def test_methods_agree_on_any_table_of_sqlite_many_times(sqlite: Sqlite, tmp_path: Path, example: Example) -> None:
    require_equal_methods(sqlite, example, tmp_path)
