"""A PostgreSQL server that speaks TLS: the tests' own one, or a small proxy before a server that was built without."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import trustme
from sqlalchemy import URL, make_url

from tests.commands import wait_until
from tests.databases import connect

SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])  # PostgreSQL documentation, "Message Formats", SSLRequest


@contextlib.contextmanager
def tls_server(url: str, certificate: trustme.LeafCert, folder: Path) -> Iterator[URL]:
    """The URL of the same database on a server that has ``certificate``, without an sslmode."""
    server = make_url(url)
    with connect(server) as connection:
        if _can_tls(connection):
            with _switched_on(connection, certificate):
                wait_until(lambda: _answers_by_tls(server))
                yield server
            return
    with _proxy(server, certificate, folder) as port:
        yield server.set(port=port)


def _can_tls(connection: psycopg.Connection[object]) -> bool:
    """A server that was built without TLS has no such setting to be made."""
    try:
        connection.execute("ALTER SYSTEM SET ssl TO on")
    except psycopg.errors.InvalidParameterValue:
        return False
    connection.execute("ALTER SYSTEM RESET ssl")
    return True


@contextlib.contextmanager
def _switched_on(connection: psycopg.Connection[object], certificate: trustme.LeafCert) -> Iterator[None]:
    """The server writes the files itself, as it alone may read its key, wherever it is."""
    name = f"etl_{threading.get_native_id()}_{id(certificate)}"
    texts = {
        f"{name}.crt": b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
        f"{name}.key": certificate.private_key_pem.bytes(),
    }
    for file, content in texts.items():
        write = f"COPY (SELECT) TO PROGRAM 'cat > /dev/null; umask 077; printf %s \"{content.decode()}\" > {file}'"
        connection.execute(write.encode())
    settings = {"ssl_cert_file": f"{name}.crt", "ssl_key_file": f"{name}.key", "ssl": "on"}
    for setting, value in settings.items():
        connection.execute(f"ALTER SYSTEM SET {setting} TO '{value}'".encode())
    connection.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        for setting in settings:
            connection.execute(f"ALTER SYSTEM RESET {setting}".encode())
        connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: connection.execute("SHOW ssl").fetchone() == ("off",))
        for file in texts:
            connection.execute(f"COPY (SELECT) TO PROGRAM 'cat > /dev/null; rm {file}'".encode())


def _answers_by_tls(server: URL) -> bool:
    try:
        connect(server.set(query={"sslmode": "require"})).close()
    except psycopg.OperationalError:
        return False
    return True


@contextlib.contextmanager
def _proxy(server: URL, certificate: trustme.LeafCert, folder: Path) -> Iterator[int]:
    """A port at which TLS ends: behind it each connection goes to ``server`` as it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with certificate.private_key_and_cert_chain_pem.tempfile(dir=str(folder)) as path:
        context.load_cert_chain(path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context, server), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, context: ssl.SSLContext, server: URL) -> None:
    with contextlib.suppress(OSError):  # the listener is closed when the test is over
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, context, server), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, server: URL) -> None:
    with contextlib.suppress(OSError), client:
        if client.recv(len(SSL_REQUEST), socket.MSG_WAITALL) != SSL_REQUEST:
            return
        client.sendall(b"S")
        with (
            context.wrap_socket(client, server_side=True) as secured,
            socket.create_connection((server.host, server.port)) as upstream,
        ):
            back = threading.Thread(target=_pass_on, args=(upstream, secured), daemon=True)
            back.start()
            _pass_on(secured, upstream)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(1 << 16):
            target.sendall(block)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
