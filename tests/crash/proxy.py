"""A way to a PostgreSQL server that goes dead, as a network may: nothing comes through any more, and nobody is told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from sqlalchemy import make_url


class Proxy:
    """Passes everything on until the client has sent ``word`` for the ``number``-th time; that is not passed on."""

    def __init__(self, host: str, port: int, word: bytes, number: int) -> None:
        self._server = (host, port)
        self._word = word
        self._left = number
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.is_dead = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client), daemon=True).start()

    def _pass_on(self, origin: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := origin.recv(1 << 16):
                self._left -= self._word in data
                if self._left <= 0:
                    self.is_dead.set()
                if not self.is_dead.is_set():
                    target.sendall(data)


@contextlib.contextmanager
def dead_after(url: str, word: bytes, number: int = 1) -> Iterator[tuple[str, Proxy]]:
    """The URL of the same database on that way."""
    real = make_url(url)
    proxy = Proxy(real.host or "127.0.0.1", real.port or 5432, word, number)
    try:
        way = real.set(host="127.0.0.1", port=proxy.port).update_query_dict({"sslmode": "disable"})
        yield way.render_as_string(hide_password=False), proxy
    finally:
        proxy.close()
