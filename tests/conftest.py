"""Fixtures and options for every test. What a database for a test is, `tests/databases.py` says.

Each test gets a database of its own, new and empty, as a URL for SQLAlchemy: ``sqlite_url`` is a SQLite file,
``postgres_url`` runs the test on every PostgreSQL server there is, ``database_url`` on SQLite and on every
one of them; with the mark ``newest_is_enough`` the older ones have their turn in the long tests. ``unprivileged_url``
is the database of ``postgres_url`` for a role without any rights.
"""

from __future__ import annotations

import functools
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from etl import retrying
from tests.databases import Kind, NoServer, Server, find_servers, fresh_database, fresh_role

WITHOUT_POSTGRES = "--without-postgres was given"
URL_FIXTURES = ("postgres_url", "database_url")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("etl")
    group.addoption(
        "--without-postgres",
        action="store_true",
        help="skip what needs PostgreSQL, on a machine that has none",
    )
    group.addoption(
        "--postgres",
        choices=["auto", "container", "cluster"],
        default="auto",
        help="which PostgreSQL: what there is (auto), a container and nothing else, or clusters only",
    )
    group.addoption("--only-postgres", action="store_true", help="run only the tests that use PostgreSQL")
    group.addoption(
        "--no-skips",
        action="store_true",
        help="fail when a test is skipped for a reason that is not in allowed_skips",
    )
    parser.addini("allowed_skips", "reasons of skips that --no-skips lets pass: regular expressions", type="linelist")


# The servers, found once and only when a test needs one


class Servers:
    """The PostgreSQL servers of this session; each starts when the first test uses it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.problem = ""

    @functools.cached_property
    def found(self) -> list[Server]:
        try:
            return find_servers(self.kind)
        except NoServer as problem:
            self.problem = str(problem)
            return []

    @property
    def are_used(self) -> bool:
        return "found" in vars(self)

    def stop(self) -> None:
        for server in self.found if self.are_used else ():
            server.stop()


SERVERS = pytest.StashKey[Servers]()


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is to run in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[SERVERS] = Servers(config.option.postgres)
    if config.option.no_skips:
        config.pluginmanager.register(SkipWatch(config), "skip-watch")


def pytest_unconfigure(config: pytest.Config) -> None:
    if SERVERS in config.stash:
        config.stash[SERVERS].stop()


def pytest_sessionstart(session: pytest.Session) -> None:
    """With ``-n`` other processes run the tests, and one of those cannot end the session: then it is done here."""
    servers = session.config.stash[SERVERS]
    if _has_workers(session.config) and not servers.found:
        pytest.exit(servers.problem, returncode=pytest.ExitCode.USAGE_ERROR)


def pytest_report_header(config: pytest.Config) -> str | None:
    return _told(config.stash[SERVERS].found) if _has_workers(config) else None


def _has_workers(config: pytest.Config) -> bool:
    """Whether this process hands the tests that use PostgreSQL to others (pytest-xdist)."""
    return bool(getattr(config.option, "numprocesses", None)) and not config.option.without_postgres


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    servers = config.stash[SERVERS]
    return _told(servers.found if servers.are_used else [])


def _told(servers: Sequence[Server]) -> str:
    return "PostgreSQL: " + (", ".join(f"{server.name} ({server.origin})" for server in servers) or "not used")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a URL is run once on each server, and ``[postgres18]`` is part of its name."""
    for fixture in URL_FIXTURES:
        if fixture in metafunc.fixturenames:
            is_enough = metafunc.definition.get_closest_marker("newest_is_enough") is not None
            parameters = _servers_as_parameters(metafunc.config, older=(pytest.mark.long,) if is_enough else ())
            if fixture == "database_url":
                parameters.insert(0, pytest.param("sqlite", id="sqlite"))
            metafunc.parametrize(fixture, parameters, indirect=True)


def _servers_as_parameters(config: pytest.Config, older: Sequence[pytest.MarkDecorator]) -> list[Any]:
    """The servers, the newest first; the others with the marks ``older``."""
    if config.option.without_postgres:
        return [pytest.param(None, id="postgres", marks=pytest.mark.skip(reason=WITHOUT_POSTGRES))]
    found = config.stash[SERVERS].found
    marked = [pytest.param(server, id=server.name, marks=older if place else ()) for place, server in enumerate(found)]
    return marked or [pytest.param(None, id="postgres")]


def pytest_collection_finish(session: pytest.Session) -> None:
    """No server, but a test that needs one: that ends the session, and is no skip."""
    problem = session.config.stash[SERVERS].problem
    if problem and any(map(_uses_postgres, session.items)):
        pytest.exit(problem, returncode=pytest.ExitCode.USAGE_ERROR)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _deselect(config, items, _copies_into_sqlite)
    if config.option.only_postgres:
        _deselect(config, items, lambda item: not _uses_postgres(item))


def _deselect(config: pytest.Config, items: list[pytest.Item], is_other: Callable[[pytest.Item], bool]) -> None:
    others = [item for item in items if is_other(item)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if not is_other(item)]


def _copies_into_sqlite(item: pytest.Item) -> bool:
    """``method = "copy"`` is for PostgreSQL: such a pair of parameters is no test."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    fixtures = getattr(item, "fixturenames", ())
    is_for_sqlite = not _uses_postgres(item) and ("sqlite_url" in fixtures or "database_url" in fixtures)
    return params.get("method") == "copy" and is_for_sqlite


def _uses_postgres(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and any(callspec.params.get(name, "sqlite") != "sqlite" for name in URL_FIXTURES)


# A fresh database for each test


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'target.db'}"


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A new database, on each PostgreSQL server in turn."""
    yield from _fresh_database(request.param, request.config)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A new database: SQLite's, then one on each PostgreSQL server."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
    else:
        yield from _fresh_database(request.param, request.config)


def _fresh_database(server: Server, config: pytest.Config) -> Iterator[str]:
    """A server that does not start, such as a missing image, ends the session at the first test."""
    try:
        server.url()
    except Exception as problem:
        if hasattr(config, "workerinput"):  # a process of pytest-xdist, which can only fail the test
            raise
        pytest.exit(f"{server.name} ({server.origin}) does not start: {problem}", pytest.ExitCode.USAGE_ERROR)
    with fresh_database(server) as url:
        yield url


@pytest.fixture
def unprivileged_url(postgres_url: str) -> Iterator[str]:
    """The database of ``postgres_url`` for a new role that was granted nothing."""
    with fresh_role(postgres_url) as url:
        yield url


# A skip is no pass


class SkipWatch:
    """Makes the session fail when something was skipped that should have run."""

    def __init__(self, config: pytest.Config) -> None:
        self.allowed = [re.compile(pattern) for pattern in config.getini("allowed_skips")]
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(pattern.search(reason) for pattern in self.allowed):
            self.skipped.append(f"{report.nodeid}: {reason}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.skipped and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section("skipped, and that is a failure here (--no-skips)", red=True)
            for line in self.skipped:
                terminalreporter.line(line)


@pytest.fixture
def hasty_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to no time between the attempts after a passing fault; how long it really takes is shown elsewhere."""
    for wait in ("FIRST_WAIT", "LONGEST_WAIT", "JITTER"):
        monkeypatch.setattr(retrying, wait, 0.01)
