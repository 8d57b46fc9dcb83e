"""What `etl load` imports: half a second of each run is imports, and none of it may be for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import is_postgresql, items_csv, items_job

pytestmark = pytest.mark.newest_is_enough


def imported_by_second_load(folder: Path, url: str) -> set[str]:
    """The modules that a load of a CSV file imports where the ledger is there already, by Python's own account."""
    job = items_job(folder, url)
    job.write("items.csv", items_csv([(1, "one")]))
    assert job.etl("load").exit_code == 0
    job.write("items.csv", items_csv([(2, "two")]))
    job.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    done = job.etl("load", "--json")
    assert done.result["written"] == 1
    lines = [line.rpartition("|") for line in done.errors.splitlines() if line.startswith("import time:")]
    return {module.strip() for _, _, module in lines}


def test_a_load_imports_nothing_of_the_other_database_or_format(database_url: str, tmp_path: Path) -> None:
    imported = imported_by_second_load(tmp_path, database_url)
    assert {"etl.loading", "pyarrow.csv", "sqlalchemy.orm"} <= imported
    unneeded = {
        "alembic",
        "pyarrow.parquet",
        "pyarrow.fs",
        "msgspec",
        "etl.readers.arrow",
        "urllib.request",
        "etl.makings",
    }
    unneeded |= {"etl.mapping.computations", "etl.mapping.filtering", "etl.mapping.transforms", "etl.writers.graph"}
    if is_postgresql(database_url):
        unneeded |= {"filelock", "sqlalchemy.dialects.sqlite"}
    else:
        unneeded |= {"psycopg", "pgpq", "sqlalchemy.dialects.postgresql", "etl.writers.copy"}
    assert unneeded & imported == set()
