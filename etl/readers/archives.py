"""The members of a .zip archive, each a source by itself. They are unpacked as they are read; none is written to disk
under its name."""

from __future__ import annotations

import fnmatch
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from etl.errors import SourceError

SUFFIX = ".zip"
ENCRYPTED = 0x1  # of the flags of a member (APPNOTE.TXT, 4.4.4)
# LZMA is left out: a member says how much memory it takes, up to 4 GB.
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}


@dataclass(frozen=True, slots=True)
class Member:
    """Where a source is that is a member of an archive; its stored bytes are those of the member, unpacked."""

    archive: Path
    name: str

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def size(self) -> int:
        """Its bytes, unpacked. Raises OSError or BadZipFile."""
        with zipfile.ZipFile(self.archive) as archive:
            return self._info(archive).file_size

    def open(self) -> IO[bytes]:
        """Its bytes, unpacked while they are read. Raises OSError or BadZipFile, also while they are."""
        with zipfile.ZipFile(self.archive) as archive:
            return archive.open(self._info(archive))

    def _info(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        try:
            return archive.getinfo(self.name)
        except KeyError:
            raise FileNotFoundError(self.name) from None


def members_of(archive: Path, shown: str, ends: Sequence[str], pattern: str | None = None) -> list[Member]:
    """The members that match ``pattern``, or whose names end in one of ``ends``, or the only one that there is.

    Hidden ones, and what macOS adds, are passed over. Raises SourceError, naming the archive as ``shown``, where there
    is none, or one that cannot be read; OSError and BadZipFile where the archive cannot.
    """
    with zipfile.ZipFile(archive) as opened:
        visible = [info for info in opened.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
    if pattern is not None:
        found = [info for info in visible if fnmatch.fnmatchcase(info.filename, pattern)]
        problem = f"The archive {shown} has no member {pattern!r}."
    else:
        found = [info for info in visible if info.filename.lower().endswith(tuple(ends))]
        found = found or (visible if len(visible) == 1 else [])
        problem = f"The archive {shown} has no member that ends in {', '.join(ends)}."
    if not found:
        raise SourceError(problem, f"Name what is in it by a glob, such as `{shown}/*.txt`, in `source`.")
    _require_readable(found, shown)
    return [Member(archive, info.filename) for info in found]


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts[-1:])


def _require_readable(members: Sequence[zipfile.ZipInfo], shown: str) -> None:
    names = set()
    for info in members:
        place = f"{shown}/{info.filename}"
        if info.flag_bits & ENCRYPTED:
            raise SourceError(
                f"{place} is encrypted, and etl takes no password.", "Unpack it, and load what was in it."
            )
        if info.compress_type not in _METHODS:
            raise SourceError(
                f"{place} is compressed by a method that is not read here (number {info.compress_type}).",
                "Unpack it, or make the archive again with Deflate.",
            )
        if info.filename in names:
            raise SourceError(f"{shown} has two members named {info.filename!r}.", "Make it again, each by its name.")
        names.add(info.filename)


def split_at_archive(pattern: str, folder: Path) -> Iterator[tuple[str, str]]:
    """``archive.zip/2024/*.csv`` as the archive and what is wanted of it; nothing where there is no such archive."""
    parts = pattern.split("/")
    for end in range(1, len(parts)):
        head = "/".join(parts[:end])
        if head.lower().endswith(SUFFIX) and (folder / head).is_file():
            yield head, "/".join(parts[end:])
            return
