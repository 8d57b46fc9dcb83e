"""Passwords appear nowhere: not in output, log, ledger or process list, whatever fails and however it was given."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from sqlalchemy import URL, make_url

import etl as package
from etl import running
from etl.cli import main
from etl.config import Database, read_job
from etl.database import connected
from etl.records import Counts
from etl.showing import shown_url, without_passwords
from tests.commands import ITEMS, Ended, Job, call, etl, items_csv, items_job, query, wait_until
from tests.databases import connect, fresh_role

pytestmark = pytest.mark.newest_is_enough

# In a URL most of its characters are written otherwise. Neither end of it may be seen, in whatever form.
SECRET = "Zx9Head'/@%: k+ü?&#=Tail7Qz"
ENDS = ("Zx9Head", "Tail7Qz")


def hides(*texts: str) -> bool:
    return not any(end in text for text in texts for end in ENDS)


def assert_hidden(ended: Ended, *exit_codes: int) -> None:
    assert ended.exit_code in exit_codes, ended.errors
    assert hides(ended.output, ended.errors), ended.output + ended.errors


@pytest.fixture
def url(postgres_url: str) -> Iterator[URL]:
    """A role with the password SECRET, which may load into the table ``items``."""
    with fresh_role(postgres_url) as role:
        made = make_url(role)
        with connect(make_url(postgres_url)) as connection:
            name = sql.Identifier(made.username or "")
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, SECRET))
            connection.execute(sql.SQL("CREATE SCHEMA etl AUTHORIZATION {}").format(name))
            connection.execute(ITEMS)
            connection.execute(sql.SQL("GRANT SELECT, INSERT ON items TO {}").format(name))
        yield made.set(password=SECRET)


@pytest.fixture
def job(tmp_path: Path, url: URL) -> Job:
    made = Job(tmp_path, url.render_as_string(hide_password=False))
    made.configure('source = "items.csv"\ntable = "items"')
    made.write("items.csv", items_csv([(1, "one"), (1, "one"), ("x", "two"), (2, "x" * 30)]))
    return made


def test_what_succeeds_shows_and_keeps_no_password(job: Job, postgres_url: str) -> None:
    commands: list[tuple[int, Sequence[str]]] = [
        (0, ("check",)),
        (0, ("check", "--json", "--verify", "3")),
        (3, ("load", "-v", "--dry-run", "--progress")),
        (3, ("load", "--json")),
        (0, ("history", "--json")),
        (0, ("rejects",)),
        (0, ("rejects", "--format", "jsonl")),
        (2, ("load", "--only", "nothing")),
        (0, ("purge", "--keep", "0")),
    ]
    for code, (command, *arguments) in commands:
        assert_hidden(job.call(command, *arguments), code)
    for name, *more in (["history"], ["rejects", "--format", "csv"], ["purge", "--keep", "3"]):
        assert_hidden(call(name, job.url, *more), 0)
    kept = [query(postgres_url, f"SELECT * FROM etl.{table}") for table in ("etl_run", "etl_file", "etl_reject")]
    assert hides(repr(kept))


def changes(url: URL) -> dict[str, URL]:
    """What may be wrong with a URL; where the password is not the URL's, it is in its query."""
    bare = url._replace(password=None)
    return {
        "wrong password": url.set(password=f"{SECRET}x"),
        "no such database": url.set(database="no_such_database"),
        "no server": url.set(port=1),
        "no such host": url.set(host="no-such-host.invalid"),
        "no TLS there, or another certificate": url.set(
            host="localhost", query={"sslmode": "verify-full", "sslrootcert": "/no/such/file"}
        ),
        "unknown parameter": url.set(query={"pass_word": SECRET}),
        "no such mode": url.set(query={"sslmode": "sometimes", "sslpassword": SECRET}),
        "password behind the question mark": bare.set(port=1, query={"password": SECRET}),
        "both": url.set(password=f"{SECRET}x", query={"password": f"{SECRET}y"}),
        "bad option of the session": url.set(query={"options": f"-c search_path={SECRET.split()[0]} -c nosuch=1"}),
        "secret of another kind": url.set(port=1, query={"oauth_client_secret": SECRET}),
        "service that is not there": bare.set(query={"service": "nosuch", "password": SECRET}),
    }


@pytest.mark.long
def test_no_failure_to_connect_shows_the_password(
    job: Job, url: URL, subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, changed in changes(url).items():
        with subtests.test(name):
            job.url = changed.render_as_string(hide_password=False)
            for command in (("load", "--json"), ("load", "-v"), ("check",)):
                ended = job.call(*command)
                assert_hidden(ended, 1)
            assert_hidden(call("history", job.url), 1)
            monkeypatch.setenv("TEST_DATABASE_URL", job.url)
            with pytest.raises(package.EtlError) as failed:
                package.load(job.config)
            assert hides("".join(traceback.format_exception(failed.value)), repr(failed.value))


@pytest.mark.long
@pytest.mark.parametrize("breaking", ["table", "right", "ledger", "connection"])
def test_no_failure_of_the_database_shows_or_keeps_the_password(
    job: Job, url: URL, postgres_url: str, breaking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = {
        "table": "DROP TABLE items",
        "right": f"REVOKE INSERT ON items FROM {url.username}",
        "ledger": "DROP SCHEMA etl; CREATE SCHEMA etl",
        "connection": "",
    }[breaking]
    with connect(make_url(postgres_url)) as connection:
        if statement:
            connection.execute(statement.encode())
        else:
            monkeypatch.setattr(running, "counts_of", lambda *_: end_sessions(connection, url))
        assert_hidden(job.call("load", "-v"), 1)
        monkeypatch.undo()
        assert_hidden(job.call("check", "--json"), 0, 1)
        if breaking == "connection":
            assert hides(repr(query(postgres_url, "SELECT * FROM etl.etl_run")))


def end_sessions(connection: psycopg.Connection[Any], url: URL) -> Counts:
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [url.username])
    return Counts()


BAD_URLS = [
    f"postgresql://clerk:{ENDS[0]}@{ENDS[1]}@127.0.0.1:1/shop",
    f"postgresql://clerk:{ENDS[0]}@x/{ENDS[1]}@127.0.0.1:1/shop",
    f"postgresql://clerk:{ENDS[0]}@x?{ENDS[1]}@127.0.0.1:1/shop",
    f"postgresql://clerk:{ENDS[0]}@x:{ENDS[1]}@127.0.0.1:1/shop",
    f"postgresql://clerk:{ENDS[0]}/{ENDS[1]}@127.0.0.1:port/shop",
    f"mysql://clerk:{quote(SECRET)}@127.0.0.1/shop",
    f"postgresql:/clerk:{quote_plus(SECRET)}@127.0.0.1/shop",
    f"clerk:{ENDS[0]}@127.0.0.1/shop",
    f"clerk:{ENDS[0]}/{ENDS[1]}@127.0.0.1/shop",
    f"host=127.0.0.1 port=1 password={ENDS[0]}",
    f"host=127.0.0.1 port=1 password='{ENDS[0]} \\' {ENDS[1]}' user=me",
]


@pytest.mark.parametrize("bad", [*BAD_URLS[:2], *(pytest.param(bad, marks=pytest.mark.long) for bad in BAD_URLS[2:])])
def test_url_that_cannot_be_used_is_not_shown(bad: str, tmp_path: Path) -> None:
    job = Job(tmp_path, bad)
    job.configure('source = "items.csv"\ntable = "items"')
    job.write("items.csv", items_csv([]))
    assert_hidden(job.call("load", "--json"), 2)
    assert_hidden(job.call("check"), 2)
    for command in (
        ("history", bad),
        ("history", bad, "--json"),
        ("rejects", bad),
        ("purge", bad, "--keep", "1", "--json"),
        ("load", bad),
        ("load", bad, "--json"),
        ("check", bad, "--json"),
        ("load", "job.toml", bad, "--json"),
        ("load", "job.toml", "--limit", bad, "--json"),
        ("load", "job.toml", "--method", bad),
        ("purge", "job.toml", "--before", bad),
        ("history", f"--{bad}"),
        (bad,),
    ):
        assert_hidden(call(*command), 2)


@pytest.mark.parametrize(
    "config",
    [
        'database = "URL"\n[[load]]\nsource = "a.csv"\ntable = "t"',
        '[database]\nurl = ["URL"]\n[[load]]\nsource = "a.csv"\ntable = "t"',
        '[database]\nurl = { url = "URL" }\n[[load]]\nsource = "a.csv"\ntable = "t"',
        '[database]\nuri = "URL"\npassword = "URL"\n[[load]]\nsource = "a.csv"\ntable = "t"',
        '[database]\nurl = "sqlite://"\nisolation_level = "URL"\n[[load]]\nsource = "a.csv"\ntable = "t"',
        '[database]\nurl = "sqlite://"\n[[load]]\nsource = "URL"\ntable = "t"',
        '[database]\nurl = "sqlite://"\n[[load]]\nsource = ["a.csv", "URL"]\ntable = "t"\nmax_rejects = "URL"',
        '[database]\nurl = "sqlite://"\n[defaults]\nmethod = "URL"\n[[load]]\nsource = "a.csv"\ntable = "t"',
        '[database]\nurl = "URL\n[[load]]\nsource = "a.csv"\ntable = "t"',
        '[database]\nurl = "URL"\nurl = "URL"\n[[load]]\nsource = "a.csv"\ntable = "t"',
        'load = "URL"\n[database]\nurl = "sqlite://"',
    ],
)
def test_no_error_of_a_config_shows_the_value_of_a_url(tmp_path: Path, config: str) -> None:
    value = f"postgresql://clerk:{quote_plus(SECRET)}@127.0.0.1:1/shop"
    path = tmp_path / "job.toml"
    path.write_text(config.replace("URL", value), encoding="utf-8")
    assert_hidden(call("load", path, "--json"), 2)
    assert_hidden(call("check", path), 2)


@pytest.mark.parametrize("key", ["table", "model"])
def test_url_in_place_of_another_name_is_not_shown(tmp_path: Path, sqlite_url: str, key: str) -> None:
    job = items_job(tmp_path, sqlite_url)
    value = f"postgresql://clerk:{quote_plus(SECRET)}@127.0.0.1:1/shop"
    job.configure(f'source = "items.csv"\n{key} = "{value}"\nname = "items"')
    job.write("items.csv", items_csv([]))
    assert_hidden(job.call("load", "--json"), 1, 2)
    assert_hidden(job.call("check", "--json"), 1, 2)


def test_an_at_sign_in_a_password_is_told_to_be_written_otherwise(tmp_path: Path) -> None:
    ended = call("history", "postgresql://clerk:a@b@127.0.0.1:1/shop")
    assert ended.errors == (
        "etl: The database URL cannot be used. Give one that has an @ in the user name or password as %40.\n"
    )
    fine = call("history", "postgresql://me@here:pw@127.0.0.1:1/shop")  # a user name may have one for SQLAlchemy
    assert fine.exit_code == 1


@pytest.mark.long
def test_password_may_come_from_a_file_of_libpq(job: Job, url: URL, tmp_path: Path) -> None:
    passwords = tmp_path / "pgpass"
    escaped = SECRET.replace("\\", "\\\\").replace(":", "\\:")
    passwords.write_text(f"127.0.0.1:{url.port}:*:{url.username}:{escaped}\n", encoding="utf-8")
    passwords.chmod(0o600)
    services = tmp_path / "services"
    services.write_text(f"[shop]\nhost=127.0.0.1\nport={url.port}\ndbname={url.database}\nuser={url.username}\n")
    bare = url._replace(password=None).render_as_string()
    files: dict[str, Any] = {"PGPASSFILE": str(passwords), "PGSERVICEFILE": str(services)}
    assert_hidden(etl("history", bare, **files), 0)
    assert_hidden(etl("history", "postgresql:///?service=shop", **files), 0)
    assert_hidden(etl("history", bare, PGPASSWORD=SECRET), 0)
    assert_hidden(etl("history", "${SHOP_URL}", SHOP_URL=job.url), 0)
    unset = etl("history", "${NO_SUCH_URL}")
    assert (unset.exit_code, unset.errors) == (
        2,
        "etl: ${NO_SUCH_URL} is not set in the environment. Set it, or give a default as in ${NAME:-default}.\n",
    )


@pytest.mark.long
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux")
def test_process_list_and_sessions_show_no_password_of_a_run_at_work(job: Job, postgres_url: str) -> None:
    with connect(make_url(postgres_url)) as blocking, blocking.transaction():
        blocking.execute("LOCK TABLE items")
        with job.started("-v") as started:
            seen = (
                f"SELECT query, application_name FROM pg_stat_activity WHERE usename = '{make_url(job.url).username}'"
            )
            wait_until(lambda: any("items" in found for found, _ in query(postgres_url, seen)))
            process = Path(f"/proc/{started.process.pid}")
            assert hides((process / "cmdline").read_bytes().decode(), repr(query(postgres_url, seen)))
            assert [path for path in (process / "task").glob("*/children") if path.read_text()] == []
            started.process.kill()
            started.process.wait()


def test_bug_is_told_by_its_place_and_not_by_its_words(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise KeyError(job.url, SECRET)

    monkeypatch.setattr(running, "counts_of", fail)
    environment = {"TEST_DATABASE_URL": job.url}
    done = CliRunner().invoke(main, ["load", str(job.config), "--json"], env=environment)
    assert done.exit_code == 1
    assert hides(done.output)
    assert "etl has a bug, or has met what it does not know: KeyError in cli.py:" in done.stderr
    assert "running.py:" in done.stderr
    assert json.loads(done.stdout)["error"].startswith("etl has a bug, or has met what it does not know: KeyError in")
    monkeypatch.undo()
    assert job.call("load").exit_code == 3


def test_python_objects_do_not_show_a_password(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_DATABASE_URL", job.url)
    read = read_job(job.config)
    with connected(Database(url=job.url)) as connection:
        assert hides(repr(read), str(read), repr(read.database), repr(connection.engine), repr(connection.engine.url))


def test_urls_are_shown_without_what_may_be_a_secret() -> None:
    shown = shown_url(make_url("postgresql://me:a%40b@db:5433/shop?sslmode=require&options=-c%20x.y%3Dz&sslpassword=k"))
    assert shown == "postgresql://me:***@db:5433/shop?options=***&sslmode=require&sslpassword=***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see postgresql://me:a b@c@db/shop", "see postgresql://me:***@db/shop"),
        ("postgresql://:pw@db", "postgresql://:***@db"),
        ("host=db password=pw user=me", "host=db password=*** user=me"),
        ("password = 'a \\' b' sslpassword=x", "password = ***"),
        ("?password=pw&sslmode=require", "?password=***&sslmode=require"),
        ('password authentication failed for user "me"', 'password authentication failed for user "me"'),
        ("sqlite:///shop.db and a@b", "sqlite:///shop.db and a@b"),
    ],
)
def test_passwords_are_found_where_a_url_or_a_connection_string_has_them(text: str, shown: str) -> None:
    assert without_passwords(text) == shown
