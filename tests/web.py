"""A web server on the loopback for tests: it gives files, in parts or not, and stops half-way when it is told to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What the server does. ``files`` are by path, with or without a query; ``stops`` are the bytes after which it
    hangs up, one for each of the next answers."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    gives_parts: bool = True
    tags: bool = True
    statuses: list[int] = field(default_factory=list)  # of the next answers, in place of the file
    stops: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    authorizations: list[str | None] = field(default_factory=list)
    redirect: str | None = None


@contextlib.contextmanager
def web_server() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, web)

        def do_HEAD(self) -> None:
            answer(self, web)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, web: Web) -> None:
    path, part = handler.path, handler.headers.get("Range")
    web.asked.append((path, part))
    web.authorizations.append(handler.headers.get("Authorization"))
    content = web.files.get(path, web.files.get(path.partition("?")[0]))
    if web.redirect is not None and content is None:
        handler.send_response(302)
        handler.send_header("Location", web.redirect)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if web.statuses or content is None:
        handler.send_response(web.statuses.pop(0) if web.statuses else 404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    tag = f'"{hash(content)}"'
    is_part = part is not None and web.gives_parts and handler.headers.get("If-Range") == tag
    begin = int(str(part).removeprefix("bytes=").rstrip("-")) if is_part else 0
    body = content[begin:]
    handler.send_response(206 if is_part else 200)
    if is_part:
        handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
    if web.tags:
        handler.send_header("ETag", tag)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: web.stops.pop(0)] if web.stops else body)
