"""Sources: finding the files of a load, telling what they are, reading their bytes decompressed."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from etl.addresses import WEB, scheme_of, shown_address
from etl.config import Format
from etl.errors import ConfigError, SourceError
from etl.readers.archives import SUFFIX as ARCHIVE
from etl.readers.archives import Member, members_of, split_at_archive
from etl.readers.copies import copy_of, copy_of_stream, require_room

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".ipc")
_ENDS = tuple(suffix + packed for suffix in SUFFIXES for packed in ("", *COMPRESSIONS))
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
Location = Path | Member
_LOOKED_UP = ("parquet", "arrow")  # formats that are not read from start to end
_HASHED_AT_ONCE = 16 << 20  # bytes; the GIL, which another thread may hold, has to be taken back after each block
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Source:
    """One input file: ``path`` as shown to the user, ``location`` where it is, ``size`` in stored bytes."""

    path: str
    location: Location
    size: int

    @property
    def name(self) -> str:
        """With the suffixes that say what it is."""
        return self.location.name


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identity of a source's content: its stored bytes, compressed ones as they are."""

    size: int
    sha256: str


class Sources(list[Source]):
    """The sources that were found. Closing it, or leaving its ``with``, removes the copies among them."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary: list[Path] = []

    def keep(self, copy: Path) -> None:
        """Remove a copy on closing."""
        self._temporary.append(copy)

    def add_copy(self, shown: str, copy: Path) -> None:
        """Add a source that is a copy, to be removed on closing. What is shown of each source is its own."""
        self.keep(copy)
        others = sum(source.path.partition(" #")[0] == shown for source in self)
        self.append(Source(f"{shown} #{others + 1}" if others else shown, copy, copy.stat().st_size))

    def close(self) -> None:
        while self._temporary:
            self._temporary.pop().unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class _Search:
    """Where patterns start, and what they find: ``is_hive`` looks into the folders of a folder, too."""

    folder: Path
    is_hive: bool


def find_sources(patterns: Sequence[str], folder: Path, *, is_hive: bool = False) -> Sources:
    """Return the sources that ``patterns`` name, those of each pattern in natural order, no file twice.

    A pattern is a path, a glob, a folder (its files with one of ``SUFFIXES``, compressed or not; with ``is_hive``
    those in its folders, too) or ``-`` for standard input, which is copied into a temporary file until the result is
    closed. An archive stands for its members. Relative ones start at ``folder``. Raises SourceError when a pattern
    names nothing.
    """
    sources = Sources()
    seen: set[Location] = set()
    try:
        for pattern in patterns:
            _add_matches(sources, seen, pattern, _Search(folder, is_hive))
    except BaseException:
        sources.close()
        raise
    return sources


def _add_matches(sources: Sources, seen: set[Location], pattern: str, search: _Search) -> None:
    if pattern == "-":
        if not any(source.path == "-" for source in sources):
            sources.add_copy("-", copy_of_stream(sys.stdin.buffer, "Standard input"))
        return
    if scheme_of(pattern) is not None:
        _add_remote(sources, pattern, search)
        return
    for shown, location in _matches(pattern, search):
        identity = _identity(location)
        if identity not in seen:
            seen.add(identity)
            _add(sources, _as_text(shown), location)


def _add_remote(sources: Sources, url: str, search: _Search) -> None:
    """Copies of what a URL names; a copy of an archive stands for its members."""
    for shown, copy in _copies(url, search):
        if copy.suffix.lower() == ARCHIVE:
            sources.keep(copy)
            for member_shown, member in _in_archive(shown, copy):
                _add(sources, _as_text(member_shown), member)
        else:
            sources.add_copy(shown, copy)


def _copies(url: str, search: _Search) -> Iterator[tuple[str, Path]]:
    if scheme_of(url) in WEB:
        from etl.readers.web import download  # what reaches out is not imported for what is here

        yield shown_address(url), download(url)
        return
    from etl.readers.stores import Store

    store = Store(url)
    found = store.objects((*_ENDS, ARCHIVE), is_hive=search.is_hive)
    for shown, info in sorted(found, key=lambda item: _natural_order(item[0])):
        yield shown, store.copy(shown, info)


def _add(sources: Sources, shown: str, location: Location) -> None:
    with reading(shown):
        if isinstance(location, Member) and _FORMATS.get(location.suffix.lower()) in _LOOKED_UP:
            require_room(shown, location.size)
            with location.open() as content:
                sources.add_copy(shown, copy_of(content, shown, location.suffix))
        else:
            sources.append(Source(shown, location, stored_size(location)))


def _identity(location: Location) -> Location:
    if isinstance(location, Member):
        return Member(location.archive.resolve(), location.name)
    return location.resolve()


def _as_text(path: str) -> str:
    """A file's name may be any bytes: those that are no UTF-8 are shown as ``\\xNN``, which every database takes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _matches(pattern: str, search: _Search) -> list[tuple[str, Location]]:
    """What a pattern names, with the members of each archive in its place."""
    folder = search.folder
    for archive, wanted in split_at_archive(pattern, folder) if not (folder / pattern).exists() else ():
        return _in_archive(archive, folder / archive, wanted)
    return [match for shown, path in _files(pattern, search) for match in _unpacked(shown, path)]


def _unpacked(shown: str, path: Path) -> list[tuple[str, Location]]:
    return _in_archive(shown, path) if path.suffix.lower() == ARCHIVE else [(shown, path)]


def _in_archive(shown: str, archive: Path, wanted: str | None = None) -> list[tuple[str, Location]]:
    with reading(shown):
        members = members_of(archive, shown, _ENDS, wanted)
    return sorted(((f"{shown}/{member.name}", member) for member in members), key=lambda item: _natural_order(item[0]))


def _files(pattern: str, search: _Search) -> list[tuple[str, Path]]:
    folder = search.folder
    location = folder / pattern
    with reading(pattern):
        if location.is_dir():
            return _in_folder(pattern, location, search)
        # A file may have brackets in its name, so a path that is there is never taken for a glob.
        if location.exists():
            return [(pattern, location)]
    if glob.has_magic(pattern):
        return _by_glob(pattern, folder)
    raise SourceError(
        f"There is no file {pattern!r} in {folder}.",
        "Correct the path in `source`; a relative one starts at the folder of the config file.",
    )


def _in_folder(pattern: str, location: Path, search: _Search) -> list[tuple[str, Path]]:
    found = [
        path
        for path in (_in_partitions(location) if search.is_hive else location.iterdir())
        if path.name.lower().endswith((*_ENDS, ARCHIVE)) and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        remedy = "Put the files there, or name them by a glob such as `folder/*.txt` in `source`."
        if not search.is_hive and any("=" in path.name for path in location.iterdir()):
            remedy = "Set `hive = true` in its [[load]] to read the files in folders such as `year=2024`."
        raise SourceError(
            f"The folder {pattern!r} in {search.folder} has no file that ends in {', '.join(SUFFIXES)}.",
            remedy,
        )
    return _in_order(found, search.folder)


def _in_partitions(location: Path) -> list[Path]:
    """Everything beneath a folder but what is not data by its name: ``_temporary/0/…``, ``.crc``."""
    names = glob.glob("**/*", root_dir=location, recursive=True)
    return [location / name for name in names if not any(part.startswith("_") for part in PurePath(name).parts)]


def _by_glob(pattern: str, folder: Path) -> list[tuple[str, Path]]:
    names = glob.glob(pattern, root_dir=folder, recursive=True)
    found = [path for path in (folder / name for name in names) if path.is_file()]
    if not found:
        raise SourceError(
            f"No file matches {pattern!r} in {folder}.",
            "Correct the glob in `source`, which starts at the config file's folder, or put files there.",
        )
    return _in_order(found, folder)


def _in_order(paths: list[Path], folder: Path) -> list[tuple[str, Path]]:
    shown = [(str(path.relative_to(folder) if path.is_relative_to(folder) else path), path) for path in paths]
    return sorted(shown, key=lambda item: _natural_order(item[0]))


def _natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    parts = _DIGITS.split(name)
    # The pattern's group, so the digits, stand at the odd places.
    key = [(0, int(part), "") if index % 2 else (1, 0, part) for index, part in enumerate(parts)]
    return key, name


def fingerprint(source: Source, is_stopped: Callable[[], bool] = lambda: False) -> Fingerprint:
    """Return the fingerprint of a source's stored bytes. Raises SourceError when it cannot be read.

    Where ``is_stopped`` says so it ends early, with that of a part: nobody waits for it any more.
    """
    digest, block, size = hashlib.sha256(), memoryview(bytearray(_HASHED_AT_ONCE)), 0
    with reading(source.path), open_stored(source.location) as file:
        while not is_stopped() and (read := file.readinto(block)):
            digest.update(block[:read])
            size += read
    return Fingerprint(size, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the file system says of a file: another one in its place, or another time or size, is a change."""

    device: int
    inode: int
    size: int
    changed_at: int  # nanoseconds


def stamp(source: Source) -> Stamp:
    """What the file system says of a source now. Raises SourceError when it is gone."""
    with reading(source.path):
        return _stamp(source.location)


def stamp_if_there(source: Source) -> Stamp | None:
    """The same; None when it is gone."""
    try:
        return _stamp(source.location)
    except FileNotFoundError:
        return None


def _stamp(location: Location) -> Stamp:
    status = (location.archive if isinstance(location, Member) else location).stat()
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def format_of(path: str | Path, shown: str | None = None) -> Format:
    """Return the format that a path's suffix names, looked up through .gz, .zst, .bz2 and .lz4.

    Raises ConfigError, which calls it ``shown``, when the suffix says nothing.
    """
    suffixes = [suffix.lower() for suffix in PurePath(path).suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    if suffixes and suffixes[-1] in _FORMATS:
        return _FORMATS[suffixes[-1]]
    raise ConfigError(
        f"The name of {(shown or str(path))!r} does not say what format it has.",
        'Set `format = "csv"`, "jsonl", "parquet" or "arrow" in its [[load]].',
    )


def stored_size(location: Location) -> int:
    """The stored bytes of a source: compressed ones, but those of an archive's member unpacked."""
    return location.size if isinstance(location, Member) else location.stat().st_size


def open_stored(location: Location) -> Any:
    """The stored bytes of a source, as an unbuffered binary file."""
    return location.open() if isinstance(location, Member) else location.open("rb", buffering=0)


class OpenedFile:
    """The decompressed bytes of a file, read from start to end; a context manager that closes it."""

    def __init__(self, file: Any, shown: str, compression: str | None) -> None:
        self._file = file
        self._shown = shown
        self.stream = pa.CompressedInputStream(file, compression) if compression else file
        self.is_compressed = compression is not None

    @property
    def stored(self) -> int:
        """How many stored bytes have been taken from the file: compressed ones, if it is compressed."""
        return int(self._file.tell())

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer only at the end. Raises SourceError, also for a cut off stream."""
        pieces: list[bytes] = []
        with reading(self._shown):
            while size > 0 and (piece := self.stream.read(size)):
                pieces.append(piece)
                size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes: a seek in a plain file; a compressed one must be unpacked up to there."""
        if not self.is_compressed:
            with reading(self._shown):
                self._file.seek(size, os.SEEK_CUR)
            return
        while size > 0 and (piece := self.read(min(size, 1 << 20))):
            size -= len(piece)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_decompressed(path: Location, shown: str | None = None) -> OpenedFile:
    """Open a file for reading its content, decompressed by its suffix (.gz .zst .bz2 .lz4).

    Raises SourceError, naming the file as ``shown``, when it cannot be opened or has no bytes where a
    compressed file must have some.
    """
    name = shown if shown is not None else str(path)
    compression = COMPRESSIONS.get(path.suffix.lower())
    with reading(name):
        file = open_stored(path)
        # Every compressed stream has a header; pyarrow takes a file cut off at byte 0 for an empty one.
        if compression and stored_size(path) == 0:
            file.close()
            raise SourceError(
                f"{name} is empty, so it is no {compression} file.",
                "Make it again, then run the command again.",
            )
    return OpenedFile(file, name, compression)


@contextmanager
def reading(shown: str) -> Iterator[None]:
    """Turn the system's and Arrow's errors of reading a file into a SourceError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {shown}.", "Put it there, or correct `source`.") from error
    except IsADirectoryError as error:
        raise SourceError(f"{shown} is a folder, not a file.", "Name a file, or a glob of files.") from error
    except PermissionError as error:
        raise SourceError(f"There is no permission to read {shown}.", "Grant it to the user that runs etl.") from error
    except (OSError, pa.ArrowInvalid, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceError(
            f"{shown} cannot be read: {_sentence(error)}.",
            "It may be cut off or damaged: get it again, then run the same command.",
        ) from error


def _sentence(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.strip().rstrip(".") or type(error).__name__
