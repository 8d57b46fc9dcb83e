"""Sources that are named by a URL: which ones there are, and how they are shown without what may be a secret."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from etl.showing import HIDDEN

WEB = ("http", "https")
STORES = {"s3": "S3", "gs": "Google Cloud Storage", "gcs": "Google Cloud Storage", "abfs": "Azure", "abfss": "Azure"}
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_VALUES = re.compile(r"(?<==)[^&]*")


def scheme_of(pattern: str) -> str | None:
    """The scheme of a URL, in lower case; None for a path."""
    found = _SCHEME.match(pattern)
    return found["scheme"].lower() if found else None


def shown_address(url: str) -> str:
    """The URL without user and password, and without the values behind its question mark, which sign many a URL."""
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    query = _VALUES.sub(HIDDEN, parts.query) if "=" in parts.query else HIDDEN
    return f"{place}?{query}" if parts.query else place


def suffixes_of(url: str) -> str:
    """The suffixes of what a URL names, such as ``.csv.gz``."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return re.sub(r"[^A-Za-z0-9.]", "", "".join(PurePosixPath(name).suffixes[-2:]))
