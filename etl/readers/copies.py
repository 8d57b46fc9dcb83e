"""Copies of what can be read once only, such as standard input: in the folder for temporary files, until the end of the
command."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from etl.errors import SourceError

_AT_ONCE = 1 << 20

# What a stream begins with, and the suffix that says the same (RFC 1952; RFC 8878; the frame format of LZ4). A text may
# begin with "BZh": bzip2's own mark of its first block is asked for, too.
_MARKS = {b"\x1f\x8b\x08": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"\x04\x22\x4d\x18": ".lz4"}
_BZIP2, _BZIP2_BLOCK, _BZIP2_END = b"BZh", b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"
_ARCHIVE = b"PK\x03\x04"
_HEAD = 10
_MAKE_ROOM = "Make room there, or name another folder in TMPDIR."


@dataclass
class Copy:
    """A copy that is being made."""

    path: Path
    file: IO[bytes]
    shown: str
    size: int = 0

    def write(self, content: bytes) -> None:
        """Raises SourceError where there is no room for more."""
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise SourceError(
                f"There is no room for a copy of {self.shown} in {tempfile.gettempdir()}: it is full after "
                f"{self.size:,} bytes.",
                _MAKE_ROOM,
            ) from None
        self.size += len(content)

    def cut(self, size: int) -> None:
        """Forget all behind the first ``size`` bytes."""
        self.file.seek(size)
        self.file.truncate()
        self.size = size


@contextmanager
def new_copy(suffix: str, shown: str) -> Iterator[Copy]:
    """A temporary file, which stays unless leaving the ``with`` is an error."""
    descriptor, name = tempfile.mkstemp(prefix="etl-source-", suffix=suffix)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            yield Copy(Path(name), file, shown)
    except BaseException:
        os.unlink(name)
        raise


def copy_of(content: IO[bytes], shown: str, suffix: str = "", head: bytes = b"") -> Path:
    """A temporary file with ``head`` and the rest of a stream, which who asks for it removes. Raises SourceError."""
    with new_copy(suffix, shown) as copy:
        copy.write(head)
        while piece := content.read(_AT_ONCE):
            copy.write(piece)
        return copy.path


def copy_of_stream(content: IO[bytes], shown: str) -> Path:
    """The same of a stream without a name: the file has the suffix of the compression that its first bytes show.

    Raises SourceError for an archive, too.
    """
    head = content.read(_HEAD)
    if head.startswith(_ARCHIVE):
        raise SourceError(f"{shown} is a .zip archive, which is not read from a stream.", "Give its path as `source`.")
    return copy_of(content, shown, _suffix_of(head), head)


def _suffix_of(head: bytes) -> str:
    if head.startswith(_BZIP2) and head[4:] in (_BZIP2_BLOCK, _BZIP2_END):
        return ".bz2"
    return next((suffix for mark, suffix in _MARKS.items() if head.startswith(mark)), "")


def require_room(shown: str, size: int) -> None:
    """Raise SourceError where a copy of so many bytes has no room."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SourceError(
            f"{shown} has {size:,} bytes, of which a copy is needed, and {free:,} are free in {folder}.",
            _MAKE_ROOM,
        )
