"""Make the files of the bench: deterministic, a million rows in about two seconds.

    python -m bench.data FOLDER/NAME --rows 5000000 [--wrong duplicates --every 10] [--shuffle]

Writes NAME.csv and, where they have a meaning, NAME.parquet (the same rows, if none is wrong), NAME-good.csv (the
rows that a loader has to take) and NAME-there.csv (the rows that have to be in the table before). Prints one JSON
object with the true counts. It runs as a process of its own: a process started by a large one seems as large
itself (see measure.py), and numpy and pyarrow would make the bench large.

One row in `--every` is wrong, each at another place of its stretch of so many rows: the share is exact, and
spread evenly. Duplicates are of two kinds, in turn: a key that is in the table already, and a key of an earlier
row of the file, as likely far away as near.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

FIRST_ID = 10_000_000_000  # needs a bigint
CHUNK = 200_000
SEED = 20240229
PRODUCTS = 10_000  # what the foreign key of `--wrong parents` refers to: the numbers from 1 to this
THERE_CENTS = 100  # the amount of the rows that are in the table before: an update of one would be seen

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
    'asks for "the usual"',
    'a gift, with a "ribbon" around it',
    "danke schön",
    "twelve, not ten",
    "call before",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make. `wrong` is one of duplicates, check, parents, or nothing: then `every` says nothing."""

    rows: int
    wrong: str | None = None
    every: int = CHUNK
    shuffle: bool = False


@dataclass(slots=True)
class Made:
    """What is in the file, and what a loader has to make of it.

    `there` rows are in the table before, `written` more and `cents`, the sum of their amounts, after the load;
    `updated_cents` is the sum where, with duplicates, the last row of each key is the one that counts.
    """

    rows: int = 0
    written: int = 0
    duplicates: int = 0
    rejected: int = 0
    there: int = 0
    cents: int = 0
    updated_cents: int = 0


@dataclass(frozen=True, slots=True)
class Marks:
    """Which rows of a chunk are wrong, and how; `origin` is the place of the row that has their key."""

    wrong: Flags
    there: Flags
    origin: Numbers


class Files:
    """The open files of one recipe."""

    def __init__(self, stem: Path, recipe: Recipe, stack: contextlib.ExitStack) -> None:
        self._stem, self._stack = stem, stack
        self._sixth = "product_id" if recipe.wrong == "parents" else "quantity"
        self._rows = self._open(".csv")
        self._good = self._open("-good.csv") if recipe.wrong else None
        self._there = self._open("-there.csv") if recipe.wrong == "duplicates" else None
        self._parquet: pq.ParquetWriter | None = None
        self._wants_parquet = recipe.wrong is None

    def write(self, table: pa.Table, marks: Marks, cents: Numbers) -> None:
        """Write a chunk to all files."""
        lines = line_texts(table)
        self._rows.write(text_bytes(lines))
        if self._good:
            self._good.write(text_bytes(lines.filter(pa.array(~marks.wrong))))
        if self._there:
            there = table.set_column(4, "amount", money(np.full_like(cents, THERE_CENTS)))
            self._there.write(text_bytes(line_texts(there.filter(pa.array(marks.there)))))
        if self._wants_parquet:
            self._write_parquet(table)

    def _open(self, ending: str) -> IO[bytes]:
        file = self._stack.enter_context(self._stem.with_name(self._stem.name + ending).open("wb"))
        file.write(f"id,name,city,note,amount,{self._sixth},created_at,day\n".encode())
        return file

    def _write_parquet(self, table: pa.Table) -> None:
        moment = table["created_at"].cast(pa.timestamp("us"))
        table = table.set_column(3, "note", table["note"].cast(pa.string())).set_column(6, "created_at", moment)
        if self._parquet is None:
            writer = pq.ParquetWriter(self._stem.with_suffix(".parquet"), table.schema)
            self._parquet = self._stack.enter_context(writer)
        self._parquet.write_table(table)


def write_files(stem: Path, recipe: Recipe) -> Made:
    """Make the files of a recipe and count what is in them."""
    made = Made(rows=recipe.rows)
    keys = np.arange(recipe.rows)
    if recipe.shuffle:
        np.random.default_rng(SEED).shuffle(keys)
    last = np.zeros(recipe.rows, np.int64)  # the amount of each key
    with contextlib.ExitStack() as stack:
        files = Files(stem, recipe, stack)
        for place in chunks(recipe.rows):
            chance = np.random.default_rng([SEED, int(place[0])])
            marks = mark(place, recipe)
            cents = chance.integers(0, 10_000_000, len(place))
            key = FIRST_ID + keys[marks.origin]
            table = make_table(chance, key, cents, sixth_column(chance, recipe, marks.wrong))
            files.write(table, marks, cents)
            count(made, marks, cents, recipe.wrong)
            last[marks.origin] = cents  # of two rows with one key the later one
    made.updated_cents = int(last.sum()) if recipe.wrong == "duplicates" else 0
    return made


def chunks(rows: int) -> Iterator[Numbers]:
    """The places of the rows, from 0, in chunks."""
    for first in range(0, rows, CHUNK):
        yield np.arange(first, min(first + CHUNK, rows))


def mark(place: Numbers, recipe: Recipe) -> Marks:
    """One row of each stretch is wrong. What it repeats is a row of an earlier stretch that is not wrong itself."""
    if recipe.wrong is None:
        nothing = np.zeros(len(place), np.bool_)
        return Marks(nothing, nothing, place)
    every = recipe.every
    stretch = place // every
    wrong = place % every == wrong_place(stretch, every)
    if recipe.wrong != "duplicates":
        return Marks(wrong, np.zeros_like(wrong), place)
    there = wrong & (stretch % 2 == 0)
    before = scatter(place, 1) % np.maximum(stretch * every, 1)
    its_stretch = before // every
    is_wrong = before % every == wrong_place(its_stretch, every)
    before = np.where(is_wrong, its_stretch * every + (before + 1) % every, before)
    return Marks(wrong, there, np.where(wrong & ~there, before, place))


def wrong_place(stretch: Numbers, every: int) -> Numbers:
    return scatter(stretch, 2) % every


def scatter(numbers: Numbers, salt: int) -> Numbers:
    """Numbers without a pattern, the same ones for the same arguments (SplitMix64)."""
    mixed = (numbers.astype(np.uint64) + np.uint64(salt << 40)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)


def sixth_column(chance: np.random.Generator, recipe: Recipe, wrong: Flags) -> Numbers:
    """The quantity, 0 where it breaks the CHECK, or the product's number, one that there is not where it is wrong."""
    if recipe.wrong == "parents":
        product = chance.integers(1, PRODUCTS + 1, len(wrong))
        return np.where(wrong, product + PRODUCTS, product)
    return np.where(wrong & (recipe.wrong == "check"), 0, chance.integers(1, 100, len(wrong)))


def count(made: Made, marks: Marks, cents: Numbers, wrong: str | None) -> None:
    wrongs, there = int(marks.wrong.sum()), int(marks.there.sum())
    made.written += len(cents) - wrongs
    made.there += there
    made.cents += int(cents[~marks.wrong].sum()) + there * THERE_CENTS
    if wrong == "duplicates":
        made.duplicates += wrongs
    else:
        made.rejected += wrongs


def make_table(chance: np.random.Generator, key: Numbers, cents: Numbers, sixth: Numbers) -> pa.Table:
    rows = len(key)
    seconds = 1_577_836_800 + chance.integers(0, 157_680_000, rows)
    notes = pa.array(chance.integers(0, len(NOTES), rows), mask=chance.random(rows) < 0.3)
    return pa.table(
        {
            "id": key,
            "name": pc.binary_join_element_wise("Customer", texts(chance.integers(1, 500_000, rows)), " "),
            "city": pa.array(CITIES).take(pa.array(chance.integers(0, len(CITIES), rows))),
            "note": pa.DictionaryArray.from_arrays(notes, pa.array(NOTES)),
            "amount": money(cents),
            "quantity": pa.array(sixth.astype(np.int32)),
            "created_at": pa.array(seconds).cast(pa.timestamp("s")),
            "day": pa.array((seconds // 86_400).astype(np.int32)).cast(pa.date32()),
        }
    )


def texts(numbers: Numbers) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def money(cents: Numbers) -> pa.Array:
    """Cents, none negative, as a number with two decimals: the low half of a decimal128 is an int64."""
    halves = np.zeros((len(cents), 2), np.int64)
    halves[:, 0] = cents
    return pa.Array.from_buffers(pa.decimal128(12, 2), len(cents), [None, pa.py_buffer(halves)])


def line_texts(table: pa.Table) -> pa.Array:
    """The CSV lines. Only notes have something to quote, and there are few of them."""
    quoted = pa.array(['"' + note.replace('"', '""') + '"' if {'"', ","} & {*note} else note for note in NOTES])
    values = {name: table[name].combine_chunks() for name in table.column_names}
    values["note"] = pa.DictionaryArray.from_arrays(values["note"].indices, quoted)
    fields = [value.cast(pa.string()) for value in values.values()]
    line = pc.binary_join_element_wise(*fields, ",", null_handling="replace", null_replacement="")
    return pc.binary_join_element_wise(line, "", "\n")


def text_bytes(lines: pa.Array) -> memoryview:
    _, offsets, data = lines.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(data)[ends[0] : ends[-1]] if len(lines) else memoryview(b"")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the files of the bench.")
    parser.add_argument("stem", type=Path, help="folder and name of the files, without their endings")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--wrong", choices=["duplicates", "check", "parents"])
    parser.add_argument("--every", type=int, default=CHUNK, help="one row in so many is wrong (at least 2)")
    parser.add_argument("--shuffle", action="store_true", help="keys in random order")
    given = parser.parse_args()
    if given.every < 2:
        parser.error("--every has to be 2 or more")
    recipe = Recipe(given.rows, given.wrong, given.every, given.shuffle)
    print(json.dumps(asdict(write_files(given.stem, recipe))))


if __name__ == "__main__":
    main()
