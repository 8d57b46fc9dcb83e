"""A server on loopback that passes on what a PostgreSQL client says, and fails at the message that a test chooses."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import make_url

STARTUP = b""  # the kind of a connection's first message, which has none
COPY_DATA = b"d"
QUERY = b"Q"
BIND = b"B"
ANY = b"*"


@dataclass
class Moment:
    """The ``number``-th message of this kind, with ``text`` in it, that any client sends."""

    kind: bytes
    text: bytes
    number: int
    then: Callable[[Connection], None]

    def comes_with(self, kind: bytes, body: bytes) -> bool:
        if self.kind in (kind, ANY) and self.text in body:
            self.number -= 1
            return self.number == 0
        return False


@dataclass(eq=False)
class Connection:
    """A client and its server."""

    client: socket.socket
    server: socket.socket
    is_deaf: bool = False  # the client hears nothing any more, and is cut off when the server has answered

    def cut(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def deafen(self) -> None:
        self.is_deaf = True


@dataclass
class Proxy:
    """Passes on to the server at ``address``. A moment comes once, before its message is passed on."""

    address: tuple[str, int]
    moments: list[Moment] = field(default_factory=list)
    is_away: bool = False
    is_silent: threading.Event = field(default_factory=threading.Event)
    accepted: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _connections: list[Connection] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def at(self, kind: bytes, text: bytes, number: int, then: Callable[[Connection], None]) -> None:
        self.moments.append(Moment(kind, text, number, then))

    def go_away(self, connection: Connection) -> None:
        """Cut this connection; until ``come_back`` those that ask are turned away."""
        self.is_away = True
        connection.cut()

    def come_back(self) -> None:
        self.is_away = False

    def fall_silent(self, connection: Connection) -> None:
        """As a network may: from this message on nothing comes through in either direction, and nobody is told."""
        self.is_silent.set()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                if self.is_away:
                    client.close()
                else:
                    self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            connection = Connection(client, socket.create_connection(self.address))
        except OSError:
            client.close()
            return
        for end in (connection.client, connection.server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages wait for nobody's answer
        self._connections.append(connection)
        for passing_on in (self._pass_on_requests, self._pass_on_answers):
            self._threads.append(threading.Thread(target=passing_on, args=(connection,)))
            self._threads[-1].start()

    def _pass_on_requests(self, connection: Connection) -> None:
        with contextlib.suppress(OSError, EOFError), connection.client.makefile("rb") as stream:
            self._send(connection.server, self._observed(connection, STARTUP, _sized(stream.read)))
            while kind := stream.read(1):
                self._send(connection.server, self._observed(connection, kind, _sized(stream.read)))
        connection.cut()

    def _observed(self, connection: Connection, kind: bytes, sized: bytes) -> bytes:
        for moment in list(self.moments):
            if moment.comes_with(kind, sized):
                self.moments.remove(moment)
                moment.then(connection)
        return kind + sized

    def _pass_on_answers(self, connection: Connection) -> None:
        with contextlib.suppress(OSError):
            while (data := connection.server.recv(65536)) and not connection.is_deaf:
                self._send(connection.client, data)
        connection.cut()

    def _send(self, end: socket.socket, data: bytes) -> None:
        if not self.is_silent.is_set():
            end.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.cut()
        for thread in self._threads:
            thread.join()
        for connection in self._connections:
            connection.client.close()
            connection.server.close()


def _sized(read: Callable[[int], bytes]) -> bytes:
    """A message behind its kind: its length, which counts itself, and its body."""
    length = read(4)
    if len(length) < 4:
        raise EOFError
    return length + read(int.from_bytes(length) - 4)


@contextlib.contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of the server of ``url``, and the URL through it."""
    target = make_url(url)
    assert target.host is not None
    assert target.port is not None
    proxy = Proxy((target.host, target.port))
    thread = threading.Thread(target=proxy.serve)
    thread.start()
    through = target.set(host="127.0.0.1", port=proxy.port)
    through = through.update_query_dict({"sslmode": "disable", "gssencmode": "disable"})
    try:
        yield proxy, through.render_as_string(hide_password=False)
    finally:
        proxy.close()
        thread.join()
