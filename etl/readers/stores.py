"""Copies of the objects of S3, Google Cloud Storage and Azure, through the file systems that pyarrow brings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import pyarrow as pa

from etl.addresses import STORES, scheme_of, shown_address, suffixes_of
from etl.errors import SourceError
from etl.readers.copies import new_copy, require_room
from etl.showing import HIDDEN, without_passwords

_AT_ONCE = 4 << 20
_SECONDS = 30  # that Google's library may try again
_AZURE = re.compile(r"(?P<container>[^@:]+)@(?P<account>[a-z0-9]+)\.(?:dfs|blob)(?P<cloud>\.[a-z0-9.-]+)")
_QUERY_VALUE = re.compile(r"(?<=[?&])(?P<key>[A-Za-z0-9_-]+)=[^&\s'\"]+")
_MAGIC = re.compile(r"[*\[]")
_REFUSED = re.compile(
    r"ACCESS_DENIED|ACCESS DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|UNRECOGNIZED_CLIENT|credential"
    r"|HTTP status (?:code )?40[13]|\b40[13] |Permanent error.*token|AuthenticationFailed|AuthorizationFailure",
    re.IGNORECASE,
)
_CREDENTIALS = {
    "S3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile in ~/.aws or the machine's role",
    "Google Cloud Storage": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "Azure": "AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN",
}


class Store:
    """The objects that a URL names: one, those of a folder, or those that match a glob."""

    def __init__(self, url: str) -> None:
        self._shown = shown_address(url)
        self._name = STORES[str(scheme_of(url))]
        parts = urlsplit(url)
        self._front = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        fixed, self._glob = _parted(unquote(parts.path))
        with self._errors():
            from pyarrow import fs

            self._kinds = fs.FileType
            self._selector = fs.FileSelector
            if self._name == "Azure":
                self._front = self._shown = f"{parts.scheme}://{parts.netloc}"
                self._shown += parts.path
                self._system, container = self._azure(parts.netloc)
                self._root = f"{container}/{fixed.strip('/')}".rstrip("/")
            else:
                query = parts.query
                if self._name == "Google Cloud Storage" and "retry_limit_seconds" not in query:
                    query = "&".join(filter(None, (query, f"retry_limit_seconds={_SECONDS}")))  # by default, 15 minutes
                self._system, self._root = fs.FileSystem.from_uri(urlunsplit(parts._replace(path=fixed, query=query)))

    def _azure(self, place: str) -> tuple[Any, str]:
        """The file system of ``container@account.dfs.core.windows.net``, and the container.

        Its key or token has to be given: where pyarrow looks for other credentials, and they are refused, an exception
        of Azure's library that nobody catches ends the process.
        """
        from pyarrow import fs

        found = _AZURE.fullmatch(place)
        if found is None:
            raise SourceError(
                f"{shown_address(self._front)} does not say container and account.",
                "Write it as abfs://container@account.dfs.core.windows.net/path.",
            )
        key, token = os.environ.get("AZURE_STORAGE_KEY"), os.environ.get("AZURE_STORAGE_SAS_TOKEN")
        if not key and not token:
            raise SourceError(f"There are no credentials for {self._shown}.", f"Give {_CREDENTIALS['Azure']}.")
        credentials = {"account_key": key} if key else {"sas_token": f"?{str(token).lstrip('?')}"}
        system = fs.AzureFileSystem(
            account_name=found["account"],
            blob_storage_authority=f".blob{found['cloud']}",
            dfs_storage_authority=f".dfs{found['cloud']}",
            **credentials,
        )
        return system, found["container"]

    def objects(self, ends: tuple[str, ...], *, is_hive: bool) -> list[tuple[str, Any]]:
        """What is shown of each object, and what ``copy`` takes; of a folder those that end in one of ``ends``, with
        ``is_hive`` in its folders too.

        Raises SourceError where there is none.
        """
        with self._errors():
            if self._glob:
                found = [info for info in self._all(recursive=True) if self._matches(info.path)]
            else:
                (info,) = self._system.get_file_info([self._root])
                if info.type == self._kinds.File:
                    return [(self._shown_of(info.path), info)]
                hidden = (".", "_") if is_hive else (".",)
                found = [info for info in self._all(recursive=is_hive) if self._is_data(info.path, ends, hidden)]
        if not found:
            raise SourceError(
                f"There is nothing to load at {self._shown}.", "Correct the URL in `source`, or put the files there."
            )
        return [(self._shown_of(info.path), info) for info in found]

    def copy(self, shown: str, info: Any) -> Path:
        """A temporary file with the object's content, which who asks for it removes."""
        if info.size is not None:
            require_room(shown, info.size)
        with new_copy(suffixes_of(shown), shown) as copy, self._errors():
            with self._system.open_input_stream(info.path, compression=None) as stream:
                while piece := stream.read(_AT_ONCE):
                    copy.write(piece)
            if info.size is not None and copy.size != info.size:
                raise SourceError(
                    f"{shown} ended after {copy.size:,} of {info.size:,} bytes.", "Run the same command again."
                )
            return copy.path

    def _all(self, *, recursive: bool) -> list[Any]:
        infos = self._system.get_file_info(self._selector(self._root, allow_not_found=True, recursive=recursive))
        return [info for info in infos if info.type == self._kinds.File]

    def _matches(self, path: str) -> bool:
        rest = path.removeprefix(self._root).lstrip("/")
        hidden = any(part.startswith(".") for part in rest.split("/"))
        return not hidden and re.fullmatch(_regex(self._glob), rest) is not None

    def _is_data(self, path: str, ends: tuple[str, ...], hidden: tuple[str, ...]) -> bool:
        rest = path.removeprefix(self._root).lstrip("/")
        return rest.lower().endswith(ends) and not any(part.startswith(hidden) for part in rest.split("/"))

    def _shown_of(self, path: str) -> str:
        inner = path.partition("/")[2]
        return f"{self._front}/{inner}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ImportError:
            raise SourceError(
                f"This build of pyarrow has no file system for {self._name}.", "Install pyarrow's own from PyPI."
            ) from None
        except (OSError, pa.ArrowException) as error:
            said = _QUERY_VALUE.sub(rf"\g<key>={HIDDEN}", without_passwords(" ".join(str(error).split()))).rstrip(".")
            if _REFUSED.search(said):
                raise SourceError(
                    f"{self._name} refuses access to {self._shown}, or has got no credentials: {said}.",
                    f"Give them by {_CREDENTIALS[self._name]}.",
                ) from None
            raise SourceError(
                f"{self._shown} cannot be read: {said}.", "Correct the URL, or run the same command again."
            ) from None


def _parted(path: str) -> tuple[str, str]:
    """A path up to the last folder without wildcards, and the glob behind it, which may be empty."""
    found = _MAGIC.search(path)
    if found is None:
        return path, ""
    cut = path.rfind("/", 0, found.start()) + 1
    return path[:cut], path[cut:]


def _regex(pattern: str) -> str:
    """A glob as a regular expression: ``**/`` is any number of folders, ``*`` and ``?`` stay within one."""
    parts = re.split(r"(\*\*/|\*|\?|\[!?[^\]]+\])", pattern)
    known = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        known.get(part) or (f"[{'^' * (part[1] == '!')}{part[1:].lstrip('!')}" if part[:1] == "[" else re.escape(part))
        for part in parts
    )
