"""Copies of what can be read once only, such as standard input: in the folder for temporary files, until the end of the
command."""

from __future__ import annotations

import os
import shutil
import tempfile
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


def copy_of(content: IO[bytes]) -> Path:
    """A temporary file with the rest of a stream, which who asks for it removes."""
    return _copied(b"", content, "")


def copy_of_stream(content: IO[bytes], shown: str) -> Path:
    """The same of a stream without a name: the file has the suffix of the compression that its first bytes show.

    Raises SourceError for an archive.
    """
    head = content.read(_HEAD)
    if head.startswith(_ARCHIVE):
        raise SourceError(f"{shown} is a .zip archive, which is not read from a stream.", "Give its path as `source`.")
    return _copied(head, content, _suffix_of(head))


def _copied(head: bytes, content: IO[bytes], suffix: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix="etl-source-", suffix=suffix)
    try:
        with os.fdopen(descriptor, "wb") as copy:
            copy.write(head)
            shutil.copyfileobj(content, copy, _AT_ONCE)
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


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
            "Make room there, or name another folder in TMPDIR.",
        )
