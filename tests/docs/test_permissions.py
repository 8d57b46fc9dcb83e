"""The rights that docs/permissions.md and the README list are enough: their SQL is run, and then a job by that role."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.commands import ROOT, Ended, Job
from tests.databases import fresh_role
from tests.jobs import fetch, run_sql

pytestmark = pytest.mark.newest_is_enough

PAGE = ROOT / "docs" / "permissions.md"
TABLES = (
    "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    "CREATE TABLE orders (id SERIAL PRIMARY KEY, customer INTEGER REFERENCES customers (id), n INTEGER CHECK (n > 0))",
    "REVOKE ALL ON SCHEMA public FROM PUBLIC",
)
METHODS = pytest.mark.parametrize(
    "method", ["auto", *(pytest.param(method, marks=pytest.mark.long) for method in ("bulk", "row"))]
)


def lists_of(page: Path) -> list[str]:
    return re.findall(r"^```sql\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


OWN_LEDGER, OTHERS_LEDGER, JANITOR, AUDITOR = lists_of(PAGE)


def shop_job(folder: Path, url: str, method: str = "auto") -> Job:
    job = Job(folder, url)
    job.configure(
        'source = "orders.csv"\ntable = "orders"',
        'source = "customers.csv"\ntable = "customers"',
        more=f'[defaults]\nmethod = "{method}"\n',
    )
    job.write("customers.csv", "id,name\n1,One\n2,Two\n1,Again\n3,\n")
    job.write("orders.csv", "customer,n\n1,1\n9,1\n2,0\n2,5\n")
    return job


@contextlib.contextmanager
def granted(url: str, statements: str, name: str) -> Iterator[str]:
    """The URL of a new role that stands for ``name`` of the page, by whose list it has its rights."""
    with fresh_role(url) as role:
        run_sql(url, re.sub(rf"\b{name}\b", make_url(role).username or "", statements))
        yield role


def verdicts(ended: Ended) -> dict[str, tuple[int, int, int]]:
    return {load["name"]: (load["written"], load["duplicates"], load["rejected"]) for load in ended.result["loads"]}


EXPECTED = {"customers": (2, 1, 1), "orders": (2, 0, 2)}


@METHODS
@pytest.mark.parametrize("temporary", [pytest.param("with TEMP", marks=pytest.mark.long), "without TEMP"])
def test_rights_of_the_page_are_enough_for_a_role_with_a_ledger_of_its_own(
    postgres_url: str, tmp_path: Path, method: str, temporary: str
) -> None:
    run_sql(postgres_url, *TABLES)
    if temporary == "without TEMP":
        run_sql(postgres_url, f"REVOKE TEMPORARY ON DATABASE {make_url(postgres_url).database} FROM PUBLIC")
    with granted(postgres_url, OWN_LEDGER, "loader") as role:
        job = shop_job(tmp_path, role, method)
        assert job.call("check").exit_code == 0
        loaded = job.call("load", "--json")
        assert (loaded.exit_code, verdicts(loaded)) == (3, EXPECTED)
        assert [job.call(*command).exit_code for command in (("history",), ("rejects",), ("purge", "--keep", "0"))] == [
            0,
            0,
            0,
        ]
    assert fetch(postgres_url, "SELECT customer, n FROM orders ORDER BY n") == [(1, 1), (2, 5)]


@pytest.mark.long
def test_rights_of_the_readme_are_enough(postgres_url: str, tmp_path: Path) -> None:
    (statements,) = lists_of(ROOT / "README.md")
    run_sql(postgres_url, *TABLES[:-1])
    with granted(postgres_url, statements, "loader") as role:
        loaded = shop_job(tmp_path, role).call("load", "--json")
        assert (loaded.exit_code, verdicts(loaded)) == (3, EXPECTED)


@pytest.mark.long
@METHODS
@pytest.mark.parametrize(
    "change",
    [
        "REVOKE SELECT ON orders, customers FROM loader",
        "REVOKE SELECT ON orders, customers FROM loader; GRANT SELECT (id) ON orders, customers TO loader",
        "REVOKE INSERT ON orders, customers FROM loader;"
        " GRANT INSERT (customer, n) ON orders TO loader; GRANT INSERT (id, name) ON customers TO loader",
        "REVOKE SELECT, INSERT ON orders, customers FROM loader;"
        " GRANT INSERT (customer, n) ON orders TO loader; GRANT INSERT (id, name) ON customers TO loader",
    ],
    ids=["no SELECT", "SELECT on a column", "INSERT on columns", "INSERT on columns alone"],
)
def test_fewer_rights_on_the_target_give_the_same_verdicts(
    postgres_url: str, tmp_path: Path, method: str, change: str
) -> None:
    run_sql(postgres_url, *TABLES)
    with granted(postgres_url, OWN_LEDGER + change, "loader") as role:
        loaded = shop_job(tmp_path, role, method).call("load", "--json")
        assert (loaded.exit_code, verdicts(loaded)) == (3, EXPECTED)


@pytest.mark.long
def test_verification_without_the_right_to_read_says_so(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, *TABLES)
    with granted(postgres_url, OWN_LEDGER + "REVOKE SELECT ON orders FROM loader", "loader") as role:
        ended = shop_job(tmp_path, role).call("check", "--verify", "5")
        assert ended.exit_code == 1
        assert "no permission: permission denied for table orders (SQLSTATE 42501)" in ended.errors


@pytest.mark.long
def test_missing_right_to_insert_is_a_problem_of_check_and_an_error_of_load(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, *TABLES)
    with granted(postgres_url, OWN_LEDGER + "REVOKE INSERT ON orders FROM loader", "loader") as role:
        job = shop_job(tmp_path, role)
        checked, loaded = job.call("check"), job.call("load", "--json")
        assert (checked.exit_code, loaded.exit_code) == (1, 1)
        assert "may not INSERT into" in checked.output
        assert "no permission: permission denied for table orders" in loaded.errors


@pytest.mark.long
def test_rights_of_the_page_are_enough_for_a_ledger_of_somebody_else(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, *TABLES)
    owner = shop_job(tmp_path, postgres_url)
    assert owner.call("load", "--limit", "1").exit_code == 0
    with granted(postgres_url, OTHERS_LEDGER, "loader") as role:
        loaded = shop_job(tmp_path, role).call("load", "--json")
        assert (loaded.exit_code, verdicts(loaded)) == (3, {"customers": (1, 1, 1), "orders": (1, 0, 2)})
        assert shop_job(tmp_path, role).call("purge", "--keep", "0").exit_code == 1, "it may not delete"
        with granted(postgres_url, AUDITOR, "auditor") as auditor:
            job = shop_job(tmp_path, auditor)
            assert (job.call("history").exit_code, job.call("rejects").exit_code) == (0, 1)
        with granted(postgres_url, JANITOR, "janitor") as janitor:
            purged = shop_job(tmp_path, janitor).call("purge", "--keep", "0", "--json")
            assert purged.result["jobs"][0]["deleted"] == {"runs": 1, "files": 2, "rejects": 3}
        again = shop_job(tmp_path, role).call("load", "--json")
        assert {file["status"] for load in again.result["loads"] for file in load["files"]} == {"already_loaded"}


# Row level security

POLICY = """
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON t FOR SELECT USING (tenant = 'mine');
CREATE POLICY writes ON t FOR INSERT WITH CHECK (tenant = 'mine' AND n < 100);
"""


@pytest.fixture
def tenant_job(postgres_url: str, unprivileged_url: str, tmp_path: Path) -> Job:
    """A table that shows a role its own rows only, with one of somebody else's in it."""
    role = make_url(unprivileged_url).username
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, tenant TEXT, n INTEGER CHECK (n <> 7))",
        "INSERT INTO t VALUES (1, 'others', 1)",
        POLICY,
        f"GRANT SELECT, INSERT ON t TO {role}; CREATE SCHEMA etl AUTHORIZATION {role}",
    )
    return Job(tmp_path, unprivileged_url)


@pytest.mark.long
@METHODS
def test_policies_hold_and_a_hidden_row_holds_its_key(tenant_job: Job, postgres_url: str, method: str) -> None:
    tenant_job.configure(f'source = "a.csv"\ntable = "t"\nmethod = "{method}"\nrecord_duplicates = true')
    tenant_job.write("a.csv", "id,tenant,n\n1,mine,1\n2,mine,2\n2,mine,3\n3,mine,7\n4,mine,99\n")
    loaded = tenant_job.call("load", "--json")
    assert (loaded.exit_code, verdicts(loaded)) == (3, {"t": (2, 2, 1)})
    assert fetch(postgres_url, "SELECT * FROM t ORDER BY id") == [(1, "others", 1), (2, "mine", 2), (4, "mine", 99)]


@pytest.mark.long
@METHODS
@pytest.mark.parametrize("refused", ["3,others,1", pytest.param("3,mine,100", marks=pytest.mark.long)])
def test_row_that_a_policy_refuses_ends_the_run_and_nothing_of_it_stays(
    tenant_job: Job, postgres_url: str, method: str, refused: str
) -> None:
    tenant_job.configure(f'source = "a.csv"\ntable = "t"\nmethod = "{method}"')
    tenant_job.write("a.csv", f"id,tenant,n\n2,mine,2\n{refused}\n4,mine,4\n")
    ended = tenant_job.call("load")
    assert ended.exit_code == 1
    assert 'new row violates row-level security policy for table "t" (SQLSTATE 42501)' in ended.told
    assert "where a row level security policy has refused a row, mend the source or the policy" in ended.told
    assert fetch(postgres_url, "SELECT id FROM t") == [(1,)]
    tenant_job.write("a.csv", "id,tenant,n\n2,mine,2\n4,mine,4\n")
    assert tenant_job.call("load").exit_code == 0
    assert fetch(postgres_url, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (4,)]
