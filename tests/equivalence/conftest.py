"""The databases in which the tables of an example are made again and again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.comparison import Postgresql, Sqlite
from tests.databases import CASELESS, connect, fresh_role
from tests.tables import SCHEMA

ROLES = ("plain", "blind", "poor")


@pytest.fixture
def postgresql(postgres_url: str) -> Iterator[Postgresql]:
    """Roles that may only what they were granted: ``blind`` may not read, ``poor`` make no temporary table."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    with contextlib.ExitStack() as cleanup:
        admin = cleanup.enter_context(connect(make_url(postgres_url)))
        admin.prepare_threshold = None  # the tables change under the statements
        admin.execute("CREATE EXTENSION citext; CREATE EXTENSION btree_gist")
        admin.execute(CASELESS)
        admin.execute(f"SET client_min_messages = error; SET search_path = {SCHEMA}, public")
        admin.execute(f"REVOKE TEMP ON DATABASE {admin.info.dbname} FROM PUBLIC")
        urls = {"owner": postgres_url}
        for role in ROLES:
            urls[role] = cleanup.enter_context(fresh_role(postgres_url))
            rights = "CREATE" if role == "poor" else "CREATE, TEMP"
            admin.execute(f"GRANT {rights} ON DATABASE {admin.info.dbname} TO {make_url(urls[role]).username}")
        yield Postgresql(admin, {role: _looking_into_the_schema(url) for role, url in urls.items()})


def _looking_into_the_schema(url: str) -> str:
    asked = make_url(url).update_query_dict({"options": f"-c search_path={SCHEMA},public"})
    return asked.render_as_string(hide_password=False)


@pytest.fixture
def sqlite(sqlite_url: str) -> Sqlite:
    return Sqlite(Path(make_url(sqlite_url).database or ""))
