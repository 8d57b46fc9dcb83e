"""Damaged files, read in a process of its own: one that crashes or hangs is found, and the next variant is read."""

from __future__ import annotations

import multiprocessing
import random
import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from etl.config import Csv
from etl.errors import SourceError
from etl.readers.csv import CsvReader
from etl.readers.parquet import ParquetReader
from etl.records import Position, Reader

HANGS = 60.0  # seconds without an answer
MOST_MEMORY = 400_000  # kB of the whole process


@dataclass(frozen=True)
class Damage:
    """One way to damage a file: bytes put in place of others at ``at``, or everything from there cut off."""

    at: int
    put: bytes | None

    def of(self, content: bytes) -> bytes:
        if self.put is None:
            return content[: self.at]
        return content[: self.at] + self.put + content[self.at + len(self.put) :]


def cuts(content: bytes, every: int = 1) -> list[Damage]:
    return [Damage(at, None) for at in range(0, len(content), every)]


def flips(content: bytes, values: Sequence[int], every: int = 1) -> list[Damage]:
    """Each byte changed by XOR with each of ``values``."""
    return [Damage(at, bytes([content[at] ^ value])) for at in range(0, len(content), every) for value in values]


def noise(content: bytes, count: int, seed: int = 1) -> list[Damage]:
    """Up to 20 bytes put anywhere: noise, ones or zeros."""
    dice = random.Random(seed)
    found = []
    for _ in range(count):
        size = dice.randint(1, 20)
        put = dice.choice([dice.randbytes(size), b"\xff" * size, b"\0" * size, b"\x7f" + b"\xff" * size])
        found.append(Damage(dice.randrange(len(content)), put))
    return found


def read_damaged(path: Path, content: bytes, damages: Sequence[Damage]) -> Counter[str]:
    """What became of a file with each of ``damages``, read as ``path`` says by its suffix, through etl's own reader:
    ``read``, ``told`` (a SourceError that names it), ``crashed``, ``hung``, or what else was raised."""
    told: Counter[str] = Counter()
    done = 0
    while done < len(damages):
        for what in _read_on(path, content, damages[done:]):
            told[what] += 1
            done += 1
    return told


def _read_on(path: Path, content: bytes, damages: Sequence[Damage]) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_read_all, args=(theirs, path, content, damages))
    process.start()
    theirs.close()
    try:
        for _ in damages:
            if not ours.poll(HANGS):
                yield "hung"
                return
            yield ours.recv()
    except EOFError:
        yield "crashed"
    finally:
        process.kill()
        process.join()


def _read_all(connection: Connection, path: Path, content: bytes, damages: Sequence[Damage]) -> None:
    for damage in damages:
        path.write_bytes(damage.of(content))
        connection.send(_read(path))


def _read(path: Path) -> str:
    try:
        reader = _reader(path)
        for batch in reader.batches(Position(), reader.schema.names):
            batch.columns.validate(full=True)
    except SourceError as error:
        return "told" if str(error).startswith(path.name) else f"not named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > MOST_MEMORY:
        return "too much memory"
    return "read"


def _reader(path: Path) -> Reader:
    if path.suffix == ".parquet":
        return ParquetReader(path, path.name)
    return CsvReader(path, path.name, Csv(), names=("id", "name"))
