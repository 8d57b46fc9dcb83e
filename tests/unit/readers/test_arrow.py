"""Arrow IPC files and streams: the records behind any position, and what is no such file."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import feather, ipc

from etl.errors import SourceError
from etl.readers.arrow import ArrowReader
from etl.records import Position, Reason, RecordBatch

NUMBERS = pa.table(
    {
        "id": pa.array(range(10), pa.int32()),
        "name": pa.array([f"n{number % 3}" for number in range(10)]).dictionary_encode(),
        "text": pa.array(
            [None if number == 4 else f"text {number} of ten in all" for number in range(10)], pa.string_view()
        ),
    }
)


def write_file(path: Path, compression: str | None, table: pa.Table = NUMBERS) -> None:
    feather.write_feather(table, path, compression=compression or "uncompressed", chunksize=4)


def write_stream(path: Path, compression: str | None, table: pa.Table = NUMBERS) -> None:
    options = ipc.IpcWriteOptions(compression=compression)
    with ipc.new_stream(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=4)


def read(path: Path, record: int = 0, columns: list[str] | None = None, **options: Any) -> list[RecordBatch]:
    reader = ArrowReader(path, path.name, **options)
    return list(reader.batches(Position(record), columns or reader.schema.names))


@pytest.mark.parametrize("write", [write_file, write_stream])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("record", [0, 3, 4, 9, 10])
def test_records_behind_a_position_are_read_with_their_numbers(
    tmp_path: Path, write: Any, compression: str | None, record: int
) -> None:
    write(tmp_path / "in.arrow", compression)
    batches = read(tmp_path / "in.arrow", record, ["text", "id"])
    rows = [row for batch in batches for row in batch.columns.to_pylist()]
    assert rows == [
        {"text": None if number == 4 else f"text {number} of ten in all", "id": number} for number in range(record, 10)
    ]
    assert [number for batch in batches for number in batch.numbers.tolist()] == list(range(record + 1, 11))
    assert [batch.end.record for batch in batches] == [end for end in (4, 8, 10) if end > record]


def test_a_stream_is_read_through_compression(tmp_path: Path) -> None:
    write_stream(tmp_path / "in.arrow", None)
    (tmp_path / "in.arrow.gz").write_bytes(gzip.compress((tmp_path / "in.arrow").read_bytes()))
    assert sum(batch.read for batch in read(tmp_path / "in.arrow.gz", 5)) == 5


def test_an_empty_table_has_no_records(tmp_path: Path) -> None:
    for write in (write_file, write_stream):
        write(tmp_path / "in.arrow", None, NUMBERS.slice(0, 0))
        assert sum(batch.read for batch in read(tmp_path / "in.arrow")) == 0


def test_a_text_that_is_no_utf8_costs_its_record_alone(tmp_path: Path) -> None:
    bad = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    write_file(tmp_path / "in.feather", None, pa.table({"id": [1, 2, 3], "name": bad}))
    (batch,) = read(tmp_path / "in.feather")
    assert batch.numbers.tolist() == [1, 3]
    assert [(reject.record, reject.reason, reject.column) for reject in batch.rejects] == [(2, Reason.ENCODING, "name")]


def test_a_word_of_a_dictionary_that_is_no_utf8_costs_the_records_that_have_it(tmp_path: Path) -> None:
    words = pa.array([b"a", b"\xff", b"c", b"\xfe"])
    texts = pa.Array.from_buffers(pa.string(), 4, words.buffers())
    names = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None, 1, 0], pa.int8()), texts)
    write_file(tmp_path / "in.arrow", None, pa.table({"id": range(6), "name": names}))
    batches = read(tmp_path / "in.arrow")
    assert [(reject.record, reject.reason) for batch in batches for reject in batch.rejects] == [
        (2, Reason.ENCODING),
        (5, Reason.ENCODING),
    ]
    assert [row for batch in batches for row in batch.columns.to_pylist()] == [
        {"id": 0, "name": "a"},
        {"id": 2, "name": "c"},
        {"id": 3, "name": None},
        {"id": 5, "name": "a"},
    ]


def test_a_code_that_no_word_has_is_an_error_though_a_word_is_no_utf8(tmp_path: Path) -> None:
    words = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"a"]).buffers())
    codes = pa.array([0, 1, 77, 1, 1, 1, 1, 1], pa.int8())
    names = pa.DictionaryArray.from_arrays(codes, words, safe=False)
    with ipc.new_file(tmp_path / "in.arrow", pa.schema([("name", names.type)])) as writer:
        writer.write_batch(pa.record_batch({"name": names}))
    with pytest.raises(SourceError, match=r"in\.arrow cannot be read: .*77"):
        read(tmp_path / "in.arrow")


@pytest.mark.parametrize("type_", [pa.string_view(), pa.binary_view()], ids=str)
def test_a_view_in_the_place_of_a_null_is_not_followed(tmp_path: Path, type_: pa.DataType) -> None:
    """Arrow's own cast ends the process."""
    texts = pa.array(["text of which the view is long", None, "short", None], type_)
    validity, views, data = texts.buffers()
    wild = bytearray(views.to_pybytes())
    for null in (1, 3):  # a view: length, the first four bytes, the number of the buffer, the place in it
        wild[16 * null : 16 * null + 16] = struct.pack("<iiii", -(1 << 31), 0, 7, 1 << 30)
    column = pa.Array.from_buffers(type_, 4, [validity, pa.py_buffer(bytes(wild)), data])
    write_file(tmp_path / "in.arrow", None, pa.table({"text": column}))

    (batch,) = read(tmp_path / "in.arrow")
    (behind,) = read(tmp_path / "in.arrow", record=1)

    assert batch.columns["text"].cast(pa.string()).to_pylist() == [
        "text of which the view is long",
        None,
        "short",
        None,
    ]
    assert behind.columns["text"].cast(pa.string()).to_pylist() == [None, "short", None]


def test_a_record_that_is_too_long_costs_itself_alone(tmp_path: Path) -> None:
    write_stream(tmp_path / "in.arrow", None, pa.table({"id": [1, 2, 3], "name": ["a", "b" * 500, "c"]}))
    (batch,) = read(tmp_path / "in.arrow", max_record_bytes=100)
    assert batch.numbers.tolist() == [1, 3]
    assert [(reject.record, reject.reason) for reject in batch.rejects] == [(2, Reason.TOO_LONG)]


def test_long_values_that_are_kept_once_are_read_few_at_a_time(tmp_path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int8()), ["w" * 1_000_000])
    write_file(tmp_path / "in.feather", "zstd", pa.table({"word": words}))
    reader = ArrowReader(tmp_path / "in.feather", "in.feather")
    assert max(batch.read for batch in reader.batches(Position(), ["word"])) <= 16


@pytest.mark.parametrize("write", [write_file, write_stream])
def test_a_batch_that_unfolds_to_more_than_is_allowed_is_an_error_before_it_does(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "in.arrow", "zstd", pa.table({"a": ["\0" * 140_000_000]}))
    assert (tmp_path / "in.arrow").stat().st_size < 100_000
    with pytest.raises(SourceError, match=r"in\.arrow is not .* unfolds to 14\d,\d{3},\d{3} bytes.* fewer records"):
        ArrowReader(tmp_path / "in.arrow", "in.arrow")


def test_what_is_no_arrow_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    for content in (b"", b"ARROW1\0\0", b"id,name\n1,x\n", b"FEA1" + bytes(20), b"PAR1" + bytes(40)):
        (tmp_path / "in.arrow").write_bytes(content)
        with pytest.raises(SourceError, match=r"in\.arrow is not an Arrow IPC file or stream that can be read: "):
            ArrowReader(tmp_path / "in.arrow", "in.arrow")


@pytest.mark.parametrize("write", [write_file, write_stream])
def test_damage_is_a_source_error_or_costs_nothing_but_its_values(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "whole.arrow", None)
    whole = (tmp_path / "whole.arrow").read_bytes()
    path = tmp_path / "in.arrow"
    for place in range(0, len(whole), 11):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            path.write_bytes(content)
            try:
                assert sum(batch.read for batch in read(path)) <= 10
            except SourceError as error:
                assert "in.arrow" in error.problem  # noqa: PT017


def test_an_arrow_file_that_was_compressed_as_a_whole_is_an_error(tmp_path: Path) -> None:
    write_file(tmp_path / "in.arrow", None)
    (tmp_path / "in.arrow.gz").write_bytes(gzip.compress((tmp_path / "in.arrow").read_bytes()))
    with pytest.raises(SourceError, match="compressed as a whole"):
        ArrowReader(tmp_path / "in.arrow.gz", "in.arrow.gz")


def test_a_column_name_given_twice_is_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    write_file(tmp_path / "in.arrow", None, table)
    with pytest.raises(SourceError, match="more than one column named a"):
        ArrowReader(tmp_path / "in.arrow", "in.arrow")
