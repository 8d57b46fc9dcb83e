"""The generated files of the bench have what bench/README.md says, by an independent reader."""

from __future__ import annotations

import csv
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq

from bench.data import PRODUCTS, Made, Recipe, write_files
from bench.tables import PARENT_ROWS


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cents(rows: list[dict[str, str]]) -> int:
    return sum(int(Decimal(row["amount"]) * 100) for row in rows)


def test_one_row_in_ten_is_a_duplicate_half_of_a_row_in_the_table_and_half_of_an_earlier_row(tmp_path: Path) -> None:
    made = write_files(tmp_path / "some", Recipe(250_000, "duplicates", 10))
    rows, there = read(tmp_path / "some.csv"), read(tmp_path / "some-there.csv")

    seen = {row["id"] for row in there}
    good, of_the_table, of_the_file, per_stretch = [], 0, [], Counter[int]()
    first = {row["id"]: place for place, row in reversed(list(enumerate(rows)))}
    for place, row in enumerate(rows):
        if first[row["id"]] < place:
            of_the_file.append(place - first[row["id"]])
        elif row["id"] in seen:
            of_the_table += 1
        else:
            good.append(row)
            continue
        per_stretch[place // 10] += 1

    assert (len(rows), len(there), of_the_table, len(of_the_file)) == (250_000, 12_500, 12_500, 12_500)
    assert set(per_stretch.values()) == {1}
    assert min(of_the_file) < 100 < 200_000 < max(of_the_file)
    last = {row["id"]: row for row in rows}
    assert made == Made(250_000, 225_000, 25_000, 0, 12_500, cents(good) + cents(there), cents(list(last.values())))


def test_no_duplicate_repeats_a_row_that_is_a_duplicate_itself(tmp_path: Path) -> None:
    write_files(tmp_path / "some", Recipe(20_000, "duplicates", 2))
    there = {row["id"] for row in read(tmp_path / "some-there.csv")}
    keys = Counter(row["id"] for row in read(tmp_path / "some.csv"))

    assert [key for key, times in keys.items() if times > 1 and key in there] == []


def test_rows_that_break_the_check_are_left_out_of_the_good_file(tmp_path: Path) -> None:
    made = write_files(tmp_path / "some", Recipe(20_000, "check", 100))
    rows, good = read(tmp_path / "some.csv"), read(tmp_path / "some-good.csv")

    assert good == [row for row in rows if int(row["quantity"]) > 0]
    assert made == Made(20_000, 19_800, 0, 200, 0, cents(good))


def test_rows_without_a_parent_refer_to_a_product_that_there_is_not(tmp_path: Path) -> None:
    made = write_files(tmp_path / "some", Recipe(20_000, "parents", 50))
    rows, good = read(tmp_path / "some.csv"), read(tmp_path / "some-good.csv")

    assert PRODUCTS == PARENT_ROWS
    assert good == [row for row in rows if 1 <= int(row["product_id"]) <= PARENT_ROWS]
    assert made == Made(20_000, 19_600, 0, 400, 0, cents(good))


def test_parquet_has_the_rows_of_the_csv(tmp_path: Path) -> None:
    write_files(tmp_path / "some", Recipe(1_000))
    table = pq.read_table(tmp_path / "some.parquet")

    as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in table.to_pylist()]
    assert as_text == read(tmp_path / "some.csv")
    assert [str(field.type) for field in table.schema] == [
        "int64",
        "string",
        "string",
        "string",
        "decimal128(12, 2)",
        "int32",
        "timestamp[us]",
        "date32[day]",
    ]


def test_shuffled_keys_are_the_same_keys_in_another_order(tmp_path: Path) -> None:
    write_files(tmp_path / "sorted", Recipe(5_000))
    write_files(tmp_path / "shuffled", Recipe(5_000, shuffle=True))
    keys = [row["id"] for row in read(tmp_path / "sorted.csv")]
    shuffled = [row["id"] for row in read(tmp_path / "shuffled.csv")]

    assert shuffled != keys
    assert sorted(shuffled) == keys


def test_the_same_recipe_makes_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_files(tmp_path / name, Recipe(5_000, "duplicates", 10))

    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert (tmp_path / "one-there.csv").read_bytes() == (tmp_path / "two-there.csv").read_bytes()
