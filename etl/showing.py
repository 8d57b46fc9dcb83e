"""What may be shown of a text: no password, and no character that steers the terminal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

from sqlalchemy import URL

HIDDEN = "***"

# libpq's parameters that are secrets (PostgreSQL documentation, "Parameter Key Words").
_SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
# What else a URL may say behind its "?" is shown only if it is known to be no secret.
_HARMLESS = frozenset(
    (
        *("host", "hostaddr", "port", "dbname", "user", "service", "passfile", "application_name", "connect_timeout"),
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "target_session_attrs"),
        *("client_encoding", "mode", "uri", "cache"),
    )
)
_USER_INFO = re.compile(r"(?P<front>\w:/{1,3}[^\s:/@]*:)[^\n]*@")
_NO_SCHEME = re.compile(r"(?P<front>\b\w+:)(?!/)[^\n]*@")
_PARAMETER = re.compile(rf"(?P<front>\b(?:{'|'.join(_SECRETS)})\s*=\s*)(?:'[^\n]*|[^&\s'\"]+)")

# json.dumps leaves these as they are: controls that a terminal obeys, line separators, reversals of direction
# and lone surrogates (which no encoding takes).
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown_url(url: URL) -> str:
    """The URL without its password, and without what may be one behind the question mark."""
    query = {key: value if key in _HARMLESS else HIDDEN for key, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True).replace(quote(HIDDEN), HIDDEN)


def without_passwords(text: str, url: URL | None = None) -> str:
    """``text`` with each password replaced by stars: those of ``url``, and what stands where a URL has one."""
    for secret in sorted(_passwords(url) if url is not None else (), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern, end in ((_USER_INFO, "@"), (_PARAMETER, "")):
        text = pattern.sub(lambda found, end=end: f"{found['front']}{HIDDEN}{end}", text)  # type: ignore[misc]
    return text


def shown_argument(text: str) -> str:
    """What stood on the command line: a URL where none was wanted, perhaps, and with half of it missing."""
    return without_passwords(_NO_SCHEME.sub(rf"\g<front>{HIDDEN}@", text))


def _passwords(url: URL) -> set[str]:
    """Those of ``url`` and of the environment, as they are and as a URL has them."""
    found = [url.password, *(given for key in _SECRETS for given in url.normalized_query.get(key, ()))]
    found.append(os.environ.get("PGPASSWORD"))
    return {form for secret in found if secret for form in _forms(secret)}


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret, safe=""), quote_plus(secret), quote(secret, safe=" +"))


def visible(text: str) -> str:
    """``text`` with each character that does not print as its code: newlines, escapes, zero widths."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _code(character) for character in text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return "\n".join(map(visible, text.split("\n")))


def to_json(value: object) -> str:
    """One line of JSON; no character in it steers a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _code(character: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    number = ord(character)
    long = f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    return named.get(character) or (f"\\x{number:02x}" if number < 0x100 else long)
