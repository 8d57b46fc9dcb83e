"""Damaged files, read in a process of its own: one that crashes or hangs is found, and the next variant is read."""

from __future__ import annotations

import multiprocessing
import random
import resource
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from etl.config import Csv
from etl.errors import SourceError
from etl.readers.arrow import ArrowReader
from etl.readers.csv import CsvReader
from etl.readers.parquet import ParquetReader
from etl.records import Position, Reader

HANGS = 60.0  # seconds without an answer
MOST_MEMORY = 400_000_000  # bytes of the whole process


def cuts(content: bytes, every: int = 1) -> list[bytes]:
    """The content cut off at each length."""
    return [content[:at] for at in range(0, len(content), every)]


def flips(content: bytes, values: Sequence[int], every: int = 1) -> list[bytes]:
    """The content with each byte changed by XOR with each of ``values``."""
    return [_put(content, at, bytes([content[at] ^ value])) for at in range(0, len(content), every) for value in values]


def noise(content: bytes, count: int, seed: int = 1) -> list[bytes]:
    """The content with up to 20 bytes put anywhere: noise, ones or zeros."""
    dice = random.Random(seed)
    found = []
    for _ in range(count):
        size = dice.randint(1, 20)
        put = dice.choice([dice.randbytes(size), b"\xff" * size, b"\0" * size, b"\x7f" + b"\xff" * size])
        found.append(_put(content, dice.randrange(len(content)), put))
    return found


def _put(content: bytes, at: int, put: bytes) -> bytes:
    return (content[:at] + put + content[at + len(put) :])[: len(content)]


def read_variants(path: Path, variants: Sequence[bytes]) -> list[str]:
    """What became of a file with each of these contents, read as its suffix says through etl's own reader: ``read``,
    ``told`` (a SourceError that names it), ``crashed``, ``hung``, or what else was raised."""
    told: list[str] = []
    while len(told) < len(variants):
        told += _read_on(path, variants[len(told) :])
    return told


def _read_on(path: Path, variants: Sequence[bytes]) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_read_all, args=(theirs, path, variants))
    process.start()
    theirs.close()
    try:
        for _ in variants:
            if not ours.poll(HANGS):
                yield "hung"
                return
            yield ours.recv()
    except EOFError:
        yield "crashed"
    finally:
        process.kill()
        process.join()


def _read_all(connection: Connection, path: Path, variants: Sequence[bytes]) -> None:
    for content in variants:
        path.write_bytes(content)
        connection.send(_read(path))


def _read(path: Path) -> str:
    try:
        reader = _reader(path)
        for batch in reader.batches(Position(), reader.schema.names):
            batch.columns.validate(full=True)
    except SourceError as error:
        return "told" if path.name in str(error) else f"not named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read" if _peak() < MOST_MEMORY else "too much memory"


def _peak() -> int:
    """Bytes; as Linux tells it of this process alone, else with the memory that the one that began it had then."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (peak,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(peak) * 1024


def _reader(path: Path) -> Reader:
    if path.suffix == ".parquet":
        return ParquetReader(path, path.name)
    if path.suffix == ".arrow":
        return ArrowReader(path, path.name)
    return CsvReader(path, path.name, Csv(), names=("id", "name"))
