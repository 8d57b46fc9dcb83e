"""What a Parquet file takes in memory, told from the headers of its pages, and what is refused because of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import SourceError
from etl.readers import footers, parquet
from etl.readers.footers import chunk_places
from etl.readers.pages import DATA, DICTIONARY, Page, read_pages
from etl.readers.parquet import ParquetReader
from etl.readers.unfolding import RowGroup, read_row_group
from etl.records import Phase, Position, Reason, RecordBatch


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, store_schema=False, **options)
    return path


def row_group(path: Path, *columns: str) -> RowGroup:
    return read_row_group(path, pq.ParquetFile(path).metadata, 0, chunk_places(path)[0], columns)


def read(path: Path, columns: tuple[str, ...], start: int = 0, **limits: int) -> list[RecordBatch]:
    return list(ParquetReader(path, "a.parquet", **limits).batches(Position(record=start), columns))


# Page headers. Thrift's compact protocol: a byte of (distance to the field's number, type), then the value; zigzag

HEADER = bytes.fromhex("15 00 15 c801 15 64 2c 15 14 15 00 00 00")  # type 0; 100 bytes; 50 packed; 10 values, plain


def test_a_page_header_is_read_as_it_is_written():
    file = io.BytesIO(b"PAR1" + HEADER + b"." * 50 + HEADER + b"." * 50)

    assert list(read_pages(file, 4, 20)) == [Page(DATA, 100, 50, 10, 0)] * 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEADER[:5],
        HEADER,  # and no second one
        bytes.fromhex("15 00 15 c7 01 15 64 2c 15 14 15 00 00 00"),  # -100 bytes
        bytes.fromhex("15 00 15 c801 15 64 00"),  # without its part 5
        bytes.fromhex("15 00 15 c801 15 64 5c 15 14 00 00"),  # with a part 8 in place of 5
        bytes.fromhex("15 00 15 ffffffffffffffffffff01 00"),  # a number without an end
        bytes.fromhex("1c") * 100,  # a struct in a struct in a struct
        bytes.fromhex("1d 00"),  # a type that there is not
        bytes.fromhex("18 ffffffff0f"),  # bytes of 4 GB
    ],
    ids=[
        "nothing",
        "cut off",
        "one too few",
        "less than nothing",
        "no part",
        "other part",
        "endless",
        "deep",
        "type",
        "4 GB",
    ],
)
def test_what_is_no_page_header_is_told(content):
    with pytest.raises(ValueError, match="page header"):
        list(read_pages(io.BytesIO(content), 0, 20))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_the_pages_of_a_real_file_are_found(tmp_path, version):
    path = write(
        tmp_path / "a.parquet",
        {"name": [f"name {number % 100}" for number in range(50_000)]},
        compression="zstd",
        data_page_version=version,
        max_rows_per_page=20_000,
    )
    (chunk,) = row_group(path, "name").chunks

    assert [(page.type == DICTIONARY, page.values) for page in chunk.pages] == [
        *[(True, 100), (False, 20_000), (False, 20_000), (False, 10_000)]
    ]
    # Each name of the dictionary has a length of four bytes before it: ten of 6 bytes, ninety of 7.
    assert chunk.pages[0].size == 10 * (4 + 6) + 90 * (4 + 7)


def test_a_large_value_in_the_statistics_of_a_page_is_passed_over(tmp_path):
    path = write(tmp_path / "a.parquet", {"name": ["x" * 3_000, "y"]}, use_dictionary=False, write_page_index=False)

    assert [page.values for page in row_group(path, "name").chunks[0].pages] == [2]


# What a record takes


def test_fixed_widths_and_the_longest_value_of_a_dictionary_make_a_record(tmp_path):
    names = ["x" * 5_000, *(f"name {number}" for number in range(999))]
    path = write(tmp_path / "a.parquet", {"id": range(1_000), "yes": [True] * 1_000, "name": names})

    assert row_group(path, "id").record_bytes() == 8
    assert row_group(path, "yes", "name").record_bytes() == 1 + 5_000


def test_plain_values_make_a_record_by_the_average_of_their_page(tmp_path):
    path = write(tmp_path / "a.parquet", {"name": ["x" * 96] * 1_000}, use_dictionary=False)

    # 96 characters, a length of four bytes before each, and six bytes for all of the levels.
    assert row_group(path, "name").record_bytes() == 101


def test_values_that_begin_as_the_one_before_may_be_as_long_as_their_page(tmp_path):
    encoding = {"use_dictionary": False, "column_encoding": {"name": "DELTA_BYTE_ARRAY"}, "compression": "none"}
    path = write(tmp_path / "a.parquet", {"name": ["x" * 10_000] * 1_000}, **encoding)

    assert path.stat().st_size < 30_000
    assert row_group(path, "name").record_bytes() > 10_000


def test_batches_stay_small_though_every_value_is_the_longest_of_its_dictionary(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_BYTES", 100_000)
    dictionary = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 1_000), ["x" * 10_000, "y"])
    path = write(tmp_path / "a.parquet", {"id": range(1_000), "name": dictionary})

    batches = read(path, ("id", "name"))

    assert {batch.read for batch in batches} == {9, 1}  # 9 * 10,008 bytes, and the last one
    assert [number for batch in batches for number in batch.numbers.tolist()] == list(range(1, 1_001))


# What is refused


def test_a_record_that_is_too_long_costs_itself(tmp_path):
    names = ["one", "x" * 101, None, "four", "x" * 92, "x" * 93]
    path = write(tmp_path / "a.parquet", {"id": pa.array(range(1, 7), pa.int64()), "name": names})

    (batch,) = read(path, ("id", "name"), max_record_bytes=100)

    assert batch.columns.to_pydict() == {"id": [1, 3, 4, 5], "name": ["one", None, "four", "x" * 92]}
    assert batch.numbers.tolist() == [1, 3, 4, 5]
    assert [(some.record, some.line, some.phase, some.reason, some.column) for some in batch.rejects] == [
        (2, None, Phase.READ, Reason.TOO_LONG, "name"),
        (6, None, Phase.READ, Reason.TOO_LONG, "name"),
    ]
    assert batch.rejects[0].message == "longer than 100 bytes (max_record_bytes)"
    assert (batch.read, batch.end) == (6, Position(record=6))


def test_values_of_lists_count_and_columns_that_are_not_read_do_not(tmp_path):
    path = write(tmp_path / "a.parquet", {"id": [1, 2], "list": [[1] * 100, [1]], "other": ["x" * 5_000] * 2})

    (batch,) = read(path, ("id", "list"), max_record_bytes=500)

    assert batch.numbers.tolist() == [2]
    assert [(some.record, some.column) for some in batch.rejects] == [(1, "list")]


def test_bytes_that_are_no_text_cost_their_record(tmp_path):
    path = write(tmp_path / "a.parquet", {"id": [1, 2, 3], "name": ["one", "two", "three"]}, compression="none")
    path.write_bytes(path.read_bytes().replace(b"two", b"t\xffo"))

    (batch,) = read(path, ("id", "name"))

    assert batch.columns.to_pydict() == {"id": [1, 3], "name": ["one", "three"]}
    assert [(some.record, some.reason, some.column) for some in batch.rejects] == [(2, Reason.ENCODING, "name")]


def test_reading_goes_on_behind_a_record_that_is_too_long(tmp_path):
    path = write(tmp_path / "a.parquet", {"name": ["x" * 101, "two", "three"]})

    for start, numbers, rejected in [(0, [2, 3], 1), (1, [2, 3], 0), (2, [3], 0)]:
        (batch,) = read(path, ("name",), start, max_record_bytes=100)
        assert (batch.numbers.tolist(), len(batch.rejects)) == (numbers, rejected)


def test_pages_that_take_too_much_at_one_time_are_an_error_and_others_are_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_OPEN_BYTES", 10_000)
    path = write(tmp_path / "a.parquet", {"id": [1], "name": ["x" * 20_000]}, compression="zstd")

    assert len(read(path, ("id",), max_record_bytes=1_000)) == 1
    with pytest.raises(SourceError) as told:
        read(path, ("id", "name"), max_record_bytes=1_000)

    assert str(told.value).startswith("a.parquet cannot be read in row group 0: its pages unfold to 20,0")
    assert " at one time, and 10,000 are allowed (8 times max_record_bytes, if " in str(told.value)


def test_a_page_that_says_it_unfolds_to_two_gigabytes_is_an_error(tmp_path):
    path = write(tmp_path / "a.parquet", {"id": range(64)}, compression="none", use_dictionary=False)
    content = path.read_bytes()
    # The first header, behind the magic: a page of type 0 whose sizes, 519 bytes both, are written as 8e08.
    assert content[4:12] == bytes.fromhex("15 00 15 8e08 15 8e08")
    path.write_bytes(content[:4] + bytes.fromhex("15 00 15 feffffff0f 15 8e08") + content[12:])

    with pytest.raises(SourceError, match="its pages unfold to 2,147,483,647 bytes"):
        read(path, ("id",))


def test_a_list_that_repeats_a_value_for_ever_is_an_error(tmp_path):
    endless = pa.ListArray.from_arrays([0, 1, 20_000_000], pa.repeat(pa.scalar(7, pa.int32()), 20_000_000))
    path = write(tmp_path / "a.parquet", {"id": [1, 2], "list": endless}, compression="zstd", data_page_size=1 << 30)

    assert path.stat().st_size < 20_000
    with pytest.raises(SourceError, match="its pages unfold to 16"):  # 20,000,000 times 4 bytes and two levels
        read(path, ("id", "list"))


def test_a_large_footer_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", {"id": [1]})
    monkeypatch.setattr(footers, "MOST_BYTES", 50)

    with pytest.raises(SourceError, match=r"^a\.parquet is not a Parquet file that can be read: its footer has "):
        ParquetReader(path, "a.parquet")
