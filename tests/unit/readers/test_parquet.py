"""Parquet files: row group by row group, only the columns that are asked for, resumed at any record, never a crash."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.readers import parquet, typed
from etl.readers.parquet import ParquetReader
from etl.records import Position, RecordBatch


def write(path: Path, columns: dict[str, list[object]], group: int = 1_000, **options: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=group, **options)
    return path


def numbered(path: Path, count: int, group: int) -> Path:
    """Records with their own number in ``id`` and a text in ``name``."""
    numbers = range(1, count + 1)
    return write(path, {"id": list(numbers), "name": [f"name {number}" for number in numbers]}, group)


def read(path: Path, columns: tuple[str, ...] = ("id",), start: int = 0) -> list[RecordBatch]:
    return list(ParquetReader(path, "shown.parquet").batches(Position(record=start), columns))


def ids(batches: list[RecordBatch]) -> list[int]:
    return [value for batch in batches for value in batch.columns["id"].to_pylist()]


def test_the_schema_has_the_files_own_types(tmp_path):
    path = write(tmp_path / "a.parquet", {"id": [1], "name": ["x"], "price": [1.5]})

    assert ParquetReader(path, "a").schema == pa.schema(
        [("id", pa.int64()), ("name", pa.string()), ("price", pa.float64())]
    )


@pytest.mark.parametrize("group", [1, 3, 7, 10, 100], ids=lambda group: f"row groups of {group}")
def test_records_are_numbered_through_all_row_groups(tmp_path, group):
    batches = read(numbered(tmp_path / "a.parquet", 10, group))

    assert ids(batches) == list(range(1, 11))
    assert [int(number) for batch in batches for number in batch.numbers] == list(range(1, 11))


def test_a_record_has_no_line(tmp_path):
    (batch,) = read(numbered(tmp_path / "a.parquet", 3, 10))

    assert batch.lines is None
    assert batch.line_of(0) is None


def test_a_batch_ends_at_its_last_record_and_all_of_the_file_is_consumed_at_the_end(tmp_path):
    path = numbered(tmp_path / "a.parquet", 10, 4)
    batches = read(path)

    assert [batch.end for batch in batches] == [Position(record=4), Position(record=8), Position(record=10)]
    assert [batch.consumed for batch in batches] == sorted(batch.consumed for batch in batches)
    assert batches[-1].consumed == path.stat().st_size


def test_reading_goes_on_behind_any_record(tmp_path):
    path = numbered(tmp_path / "a.parquet", 23, 5)

    for start in range(24):
        batches = read(path, start=start)
        assert ids(batches) == list(range(start + 1, 24))
        assert [int(number) for batch in batches for number in batch.numbers] == list(range(start + 1, 24))


def test_reading_goes_on_inside_a_row_group_of_several_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_RECORDS", 4)
    path = numbered(tmp_path / "a.parquet", 23, 11)

    for start in range(24):
        batches = read(path, start=start)
        assert ids(batches) == list(range(start + 1, 24))
        assert all(1 <= len(batch.numbers) <= 4 for batch in batches)


def test_only_the_columns_that_are_asked_for_are_read(tmp_path):
    (batch,) = read(numbered(tmp_path / "a.parquet", 3, 10), columns=("name",))

    assert batch.columns.schema.names == ["name"]


def test_columns_that_are_not_asked_for_may_be_damaged(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"id": range(100), "junk": [f"junk {number}" for number in range(100)]}),
        path,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    content = path.read_bytes()
    path.write_bytes(content.replace(b"junk 50", b"JUNK 50"))

    assert ids(read(path)) == list(range(100))
    with pytest.raises(SourceError):
        read(path, columns=("id", "junk"))


def test_a_file_without_records_has_no_batches(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": pa.array([], pa.int64())}), path)

    assert read(path) == []


def test_an_empty_row_group_is_passed_over(tmp_path):
    path = tmp_path / "a.parquet"
    schema = pa.schema([("id", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for values in ([1, 2], [], [3]):
            writer.write_table(pa.table({"id": values}, schema=schema), row_group_size=10)

    assert ids(read(path)) == [1, 2, 3]
    assert ids(read(path, start=2)) == [3]


def test_a_batch_has_a_bounded_number_of_records(tmp_path):
    batches = read(numbered(tmp_path / "a.parquet", 40_000, 40_000))

    assert max(len(batch.numbers) for batch in batches) <= typed.BATCH_RECORDS
    assert ids(batches) == list(range(1, 40_001))


def test_a_batch_has_few_records_where_they_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_BYTES", 100_000)
    path = tmp_path / "a.parquet"
    texts = [random.Random(number).randbytes(5_000).hex() for number in range(100)]
    pq.write_table(pa.table({"id": range(100), "text": texts}), path, compression="none")

    batches = read(path, columns=("id", "text"))

    assert ids(batches) == list(range(100))
    assert max(batch.columns.nbytes for batch in batches) <= 2 * 100_000


# Files that cannot be read


def test_two_columns_of_one_name_are_told(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"])
    pq.write_table(table, path)

    with pytest.raises(SourceError) as told:
        ParquetReader(path, "in/a.parquet")

    assert str(told.value) == "in/a.parquet has more than one column named id. Rename them."


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PAR1PAR1", b"id,name\n1,x\n", b"PAR1" + b"\0" * 20 + b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1"],
    ids=["empty", "magic", "magic twice", "a CSV file", "zeros", "a huge footer"],
)
def test_what_is_no_parquet_file_is_told_when_it_is_opened(tmp_path, content):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)

    with pytest.raises(SourceError) as told:
        ParquetReader(path, "in/a.parquet")

    assert str(told.value).startswith("in/a.parquet is not a Parquet file that can be read: ")
    assert str(told.value).endswith(". Write or copy the file again.")
    assert "\n" not in str(told.value)


def test_a_file_that_vanished_is_told(tmp_path):
    with pytest.raises(SourceError, match=r"^in/a\.parquet is not a Parquet file that can be read: "):
        ParquetReader(tmp_path / "a.parquet", "in/a.parquet")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("parquet") / "sound.parquet"
    columns = {"id": range(300), "name": [f"name {number}" for number in range(300)]}
    pq.write_table(pa.table(columns), path, row_group_size=100, write_page_checksum=True)
    return path.read_bytes()


def test_a_file_cut_off_anywhere_is_told(tmp_path, sound):
    path = tmp_path / "cut.parquet"

    for size in [*range(0, len(sound), 37), len(sound) - 1]:
        path.write_bytes(sound[:size])
        with pytest.raises(SourceError, match=r"^shown\.parquet "):
            read(path, columns=("id", "name"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_anywhere_is_no_crash(tmp_path, sound, data):
    """It is told, or has hit something that does not matter, such as the writer's name in the footer."""
    flipped = bytearray(sound)
    flipped[data.draw(st.integers(0, len(sound) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "flipped.parquet"
    path.write_bytes(flipped)

    with contextlib.suppress(SourceError):
        read(path, columns=("id", "name"))


def test_a_column_of_string_views_costs_no_more_than_its_bad_records(tmp_path):
    names = pa.array([b"a", b"\xff", b"c" * 20], pa.binary_view()).view(pa.string_view())
    pq.write_table(pa.table({"id": [1, 2, 3], "name": names}), tmp_path / "a.parquet")
    reader = ParquetReader(tmp_path / "a.parquet", "a.parquet")
    (batch,) = reader.batches(Position(), ["id", "name"])
    assert batch.columns.schema.field("name") == reader.schema.field("name")
    assert batch.columns.to_pylist() == [{"id": 1, "name": "a"}, {"id": 3, "name": "c" * 20}]
    assert [reject.record for reject in batch.rejects] == [2]
