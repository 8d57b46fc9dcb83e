"""Make a CSV file for the bench: deterministic, a million rows in about two seconds.

    python -m bench.data FILE --rows 1000000 [--bytes 1000000000] [--duplicates 10] [--bad 1]

Prints one JSON object with the true counts. It runs as a process of its own: a process started by a large one
seems as large itself (see measure.py), and numpy and pyarrow would make the bench large.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

COLUMNS = ("id", "name", "city", "note", "amount", "quantity", "created_at", "day")
FIRST_ID = 10_000_000_000  # needs a bigint
CHUNK = 200_000
ANCHOR = 1_000  # each 1,000th row is good for sure; duplicates repeat its key
SEED = 20240229

CITIES = (
    "Évora",
    "Köln",
    "León",
    "Nîmes",
    "Malmö",
    "Łódź",
    "Galway",
    "Porto",
    "Bergen",
    "Brno",
    "Gent",
    "Turku",
)
NOTES = (
    "leave it with the neighbour",
    "prefers mornings",
    '"asks for ""the usual"""',
    '"a gift, with a ""ribbon"" around it"',
    "danke schön",
    '"twelve, not ten"',
    "call before",
)


@dataclass
class Made:
    """What is in the file."""

    rows: int = 0
    bytes: int = 0
    duplicates: int = 0
    bad: int = 0


@dataclass(frozen=True)
class Shares:
    """Shares of the rows, from 0 to 1."""

    duplicates: float = 0.0
    bad: float = 0.0


def write_rows(path: Path, rows: int, size: int | None, shares: Shares) -> Made:
    """Write a header and `rows` rows, or as many as make `size` bytes."""
    made = Made()
    with path.open("wb") as file:
        made.bytes = file.write((",".join(COLUMNS) + "\n").encode())
        for first, count in chunks(rows if size is None else None):
            lines, duplicates, bad = make_lines(first, count, shares)
            made.bytes += file.write(lines)
            made.rows += count
            made.duplicates += duplicates
            made.bad += bad
            if size is not None and made.bytes >= size:
                break
    return made


def chunks(rows: int | None) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each chunk; without end if `rows` is None."""
    first = 0
    while rows is None or first < rows:
        count = CHUNK if rows is None else min(CHUNK, rows - first)
        yield first, count
        first += count


def make_lines(first: int, count: int, shares: Shares) -> tuple[memoryview, int, int]:
    """The CSV text of some rows, and how many of them are duplicates and bad."""
    chance = np.random.default_rng([SEED, first])
    place = np.arange(first, first + count)
    fate = np.where(place % ANCHOR == 0, 1.0, chance.random(count))
    duplicate = fate < shares.duplicates
    bad = ~duplicate & (fate < shares.duplicates + shares.bad)
    text = line_texts(columns(chance, place, duplicate, bad))
    end = int(np.frombuffer(text.buffers()[1], dtype=np.int32)[count])
    return memoryview(text.buffers()[2])[:end], int(duplicate.sum()), int(bad.sum())


def columns(
    chance: np.random.Generator,
    place: NDArray[np.int64],
    duplicate: NDArray[np.bool_],
    bad: NDArray[np.bool_],
) -> list[pa.Array]:
    """The columns as CSV texts. A bad row breaks the CHECK on quantity, or has a day of no calendar."""
    count = len(place)
    key = FIRST_ID + np.where(duplicate, place - place % ANCHOR, place)
    breaks_check = bad & (place % 2 == 0)
    quantity = np.where(breaks_check, 0, chance.integers(1, 100, count))
    seconds = 1_577_836_800 + chance.integers(0, 157_680_000, count)
    day = pa.array((seconds // 86_400).astype(np.int32)).cast(pa.date32()).cast(pa.string())
    note = pa.DictionaryArray.from_arrays(
        pa.array(chance.integers(0, len(NOTES), count), mask=chance.random(count) < 0.3), pa.array(NOTES)
    )
    return [
        pa.array(key).cast(pa.string()),
        pc.binary_join_element_wise("Customer", texts(chance.integers(1, 500_000, count)), " "),
        pa.array(CITIES).take(pa.array(chance.integers(0, len(CITIES), count))),
        note.cast(pa.string()),
        money(chance.integers(0, 10_000_000, count)),
        texts(quantity),
        pa.array(seconds).cast(pa.timestamp("s")).cast(pa.string()),
        pc.if_else(pa.array(bad & ~breaks_check), "2023-02-30", day),
    ]


def texts(numbers: NDArray[np.int64]) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def money(cents: NDArray[np.int64]) -> pa.Array:
    """Cents as a number with two decimals."""
    return pc.binary_join_element_wise(texts(cents // 100), pc.utf8_lpad(texts(cents % 100), 2, "0"), ".")


def line_texts(values: list[pa.Array]) -> pa.Array:
    line = pc.binary_join_element_wise(*values, ",", null_handling="replace", null_replacement="")
    return pc.binary_join_element_wise(line, "", "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a CSV file for the bench.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, help="make the file this large, whatever --rows says")
    parser.add_argument("--duplicates", type=float, default=0.0, help="percent")
    parser.add_argument("--bad", type=float, default=0.0, help="percent")
    given = parser.parse_args()
    shares = Shares(given.duplicates / 100, given.bad / 100)
    print(json.dumps(asdict(write_rows(given.file, given.rows, given.bytes, shares))))


if __name__ == "__main__":
    main()
