"""Copies of what an HTTP server gives. A connection that stops is taken up again behind what was received."""

from __future__ import annotations

import base64
import http.client
import logging
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from etl.addresses import shown_address, suffixes_of
from etl.errors import SourceError
from etl.readers.copies import Copy, new_copy, require_room
from etl.retrying import persist

logger = logging.getLogger(__name__)

SECONDS = 30  # that a server may be silent
_AT_ONCE = 1 << 18
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_ANOTHER_PART = {200, 412, 416}  # what a server says that has other content now, or gives no parts
_REMEDIES = {
    401: "Give user and password as https://${USER}:${PASSWORD}@host/…, or a URL that is signed.",
    403: "Ask for access, or for a URL whose signature has not expired.",
    404: "Correct the URL in `source`, or put the file there.",
    410: "Correct the URL in `source`, or put the file there.",
}


class _StoppedError(Exception):
    """A fault that may pass."""


def download(url: str) -> Path:
    """A temporary file with what ``url`` gives, which who asks for it removes.

    A fault that passes is met by further attempts, in a row as many as of a database; where the server gives parts,
    they begin behind what was received. Raises SourceError.
    """
    shown = shown_address(url)
    with new_copy(suffixes_of(url), shown) as copy:
        transfer = _Transfer(url, shown, copy)

        def tell(fault: BaseException, seconds: float) -> None:
            logger.warning("%s %s; it is tried again in %.1f s.", shown, fault, seconds)

        try:
            persist(
                transfer.go_on,
                is_passing=lambda error: isinstance(error, _StoppedError),
                progress=lambda: transfer.most,
                tell=tell,
            )
        except _StoppedError as fault:
            raise SourceError(f"{shown} {fault}.", "Run the same command again when the server gives it.") from None
        return copy.path


class _Transfer:
    """What has been received so far, and from which content, if the server says that."""

    def __init__(self, url: str, shown: str, copy: Copy) -> None:
        self._request_of = _Requests(url)
        self._shown = shown
        self._copy = copy
        self._version: str | None = None
        self.most = 0  # bytes that were ever received of it

    def go_on(self) -> None:
        """Receive what is missing. Raises _StoppedError where it stops before the end."""
        begin = self._copy.size if self._version is not None else 0
        try:
            with self._request_of.open(begin, self._version) as response:
                if response.status != http.client.PARTIAL_CONTENT:
                    begin = 0
                elif not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
                    self._version = None
                    raise _StoppedError("gives another part than the one that is missing")
                self._copy.cut(begin)
                self._receive(response)
        except urllib.error.HTTPError as error:
            self._refused(error, begin)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise SourceError(
                    f"The certificate of {self._shown} is not trusted: {error.reason.verify_message}.",
                    "Name the file of its authority in SSL_CERT_FILE, or have the certificate renewed.",
                ) from None
            raise _StoppedError(f"cannot be reached: {_words(error.reason)}") from None
        except (http.client.HTTPException, OSError) as error:
            if isinstance(error, SourceError):
                raise
            raise _StoppedError(f"stopped after {self._copy.size:,} bytes: {_words(error)}") from None

    def _receive(self, response: Any) -> None:
        self._version = _version_of(response)
        length = response.headers.get("Content-Length")
        whole = self._copy.size + int(length) if length is not None and length.isdecimal() else None
        if whole is not None:
            require_room(self._shown, whole - self._copy.size)
        while piece := response.read(_AT_ONCE):
            self._copy.write(piece)
            self.most = max(self.most, self._copy.size)
        if whole is not None and self._copy.size < whole:
            raise _StoppedError(f"stopped after {self._copy.size:,} of {whole:,} bytes")

    def _refused(self, error: urllib.error.HTTPError, begin: int) -> None:
        error.close()
        answer = f"{error.code} {error.reason}".strip()
        if begin and error.code in _ANOTHER_PART:
            self._version = None
            raise _StoppedError(f"gives no more of what it gave before ({answer})") from None
        if error.code in _PASSING:
            raise _StoppedError(f"answers {answer}") from None
        raise SourceError(
            f"{self._shown} answers {answer}.", _REMEDIES.get(error.code, "Correct the URL in `source`.")
        ) from None


class _Requests:
    """Requests for a URL; user and password in it go to its host alone, wherever that leads."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
        self._url = urlunsplit((parts.scheme, host, path or "/", quote(parts.query, safe="/%:@!$&'()*+,;=~-._?"), ""))
        self._basic = base64.b64encode(unquote(user).encode()).decode() if at else None

    def open(self, begin: int, version: str | None) -> Any:
        request = urllib.request.Request(self._url, headers={"Accept-Encoding": "identity", "User-Agent": "etl"})
        if self._basic is not None:
            request.add_unredirected_header("Authorization", f"Basic {self._basic}")
        if begin and version is not None:
            request.add_header("Range", f"bytes={begin}-")
            request.add_header("If-Range", version)
        return urllib.request.urlopen(request, timeout=SECONDS)


def _version_of(response: Any) -> str | None:
    """What tells one content of a URL from another (RFC 9110, 13.1.5: a weak tag does not)."""
    tag: str | None = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    changed: str | None = response.headers.get("Last-Modified")
    return changed


def _words(error: object) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.strip().rstrip(".") or type(error).__name__
