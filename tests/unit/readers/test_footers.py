"""The footer of a Parquet file by our own reader: the same places as pyarrow has, and no more memory than may be."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.readers.footers import ChunkPlace, chunk_places
from etl.readers.parquet import ParquetReader
from etl.readers.thrift import I32, I64, Structs

# An encoder of Thrift's compact protocol, by its specification. A value is (type, what it holds).


def varint(number: int) -> bytes:
    head = bytearray()
    while number >= 0x80:
        head.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*head, number])


def zigzag(number: int) -> bytes:
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def encode(kind: int, value: Any) -> bytes:
    match kind:
        case 1 | 2:
            return b""  # in the head of its field
        case 3:
            return bytes([value])
        case 4 | 5 | 6:
            return zigzag(value)
        case 7:
            return struct.pack("<d", value)
        case 8:
            return varint(len(value)) + bytes(value)
        case 9 | 10:
            of, items = value
            size = bytes([len(items) << 4 | of]) if len(items) < 15 else bytes([0xF0 | of]) + varint(len(items))
            return size + b"".join(encode(of, item) if of > 2 else bytes([item]) for item in items)
        case 11:
            (key, of), pairs = value
            kinds = bytes([key << 4 | of]) if pairs else b""
            return varint(len(pairs)) + kinds + b"".join(encode(key, k) + encode(of, v) for k, v in pairs)
    return value if isinstance(value, bytes) else struct_of(value)  # a struct may be written already


def struct_of(fields: dict[int, tuple[int, Any]]) -> bytes:
    found, last = b"", 0
    for number, (kind, value) in fields.items():
        step = number - last
        head = bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + zigzag(number)
        found += head + encode(kind, value)
        last = number
    return found + b"\0"


integers = st.integers(-(1 << 31), (1 << 31) - 1)
plain = st.one_of(
    st.tuples(st.just(3), st.integers(0, 255)),
    st.tuples(st.sampled_from([4, 5, 6]), integers),
    st.tuples(st.just(7), st.floats(allow_nan=False)),
    st.tuples(st.just(8), st.binary(max_size=20)),
)
lists = st.one_of(
    st.tuples(st.just(5), st.lists(integers, max_size=20)),
    st.tuples(st.just(8), st.lists(st.binary(max_size=3), max_size=20)),
    st.tuples(st.just(1), st.lists(st.sampled_from([1, 2]), max_size=20)),
)
maps = st.tuples(st.just((8, 6)), st.lists(st.tuples(st.binary(max_size=3), integers), max_size=5))
values = st.recursive(
    st.one_of(
        plain,
        st.tuples(st.sampled_from([1, 2]), st.none()),
        st.tuples(st.sampled_from([9, 10]), lists),
        st.tuples(st.just(11), maps),
    ),
    lambda inner: st.one_of(
        st.tuples(st.just(12), st.dictionaries(st.integers(1, 50), inner, max_size=5)),
        st.tuples(st.just(9), st.tuples(st.just(12), st.lists(st.dictionaries(st.integers(1, 9), inner), max_size=3))),
    ),
    max_leaves=12,
)


@given(
    fields=st.dictionaries(st.integers(1, 60), values, max_size=9),
    number=st.integers(1, 60),
    wanted=integers,
    items=st.lists(integers, max_size=20),
    behind=st.binary(max_size=5),
)
def test_wanted_fields_are_found_among_any_others(fields, number, wanted, items, behind):
    """Fields in any order, which the protocol allows."""
    fields = fields | {number: (6, wanted), 61: (9, (12, [{3: (5, item)} for item in items]))}
    data = struct_of(fields)
    structs = Structs(data + behind)

    found = structs.read({number: I64, 61: [{3: I32}]})

    assert found == {number: wanted, 61: [{3: item} for item in items]}
    assert structs.at == len(data)


@given(fields=st.dictionaries(st.integers(1, 60), values, max_size=9), data=st.data())
def test_a_struct_that_is_cut_off_is_told(fields, data):
    content = struct_of(fields)

    with pytest.raises(IndexError):
        Structs(content[: data.draw(st.integers(0, len(content) - 1))]).read({})


@pytest.mark.parametrize(
    "content",
    [
        struct_of({1: (6, 5)}),
        struct_of({1: (5, 1 << 31)}),
        b"\x15\x02\x05\x02\x02\x00",
        b"\x05" + zigzag((1 << 16) + 1) + b"\x02\x00",
        b"\x15" + b"\xff" * 9 + b"\x02\x00",
        b"\x15" + b"\x80" * 10 + b"\x01\x00",
        b"\x2c" * 50 + b"\x00" * 50,
        b"\x29" + b"\x19" * 50,
        b"\x2e\x00",
    ],
    ids=[
        "another type",
        "beyond 32 bits",
        "twice",
        "a number beyond 16 bits",
        "beyond 64 bits",
        "without an end",
        "structs too deep",
        "lists too deep",
        "no such type",
    ],
)
def test_what_others_might_read_in_their_own_way_is_told(content):
    with pytest.raises(ValueError):  # noqa: PT011
        Structs(content).read({1: I32})


def test_lists_that_say_they_are_longer_than_memory_end_with_the_data():
    for kind in range(1, 13):
        with pytest.raises(IndexError):
            Structs(b"\x19" + bytes([0xF0 | kind]) + varint(1 << 60) + b"\0" * 40).read({})


# Footers

COLUMNS = {
    "id": range(60),
    "name": [None if number % 7 == 0 else f"name {number % 9}" for number in range(60)],
    "list": [[1, 2, number] if number % 4 else None for number in range(60)],
    "struct": [{"a": number, "b": [str(number)]} for number in range(60)],
}


def by_pyarrow(path: Path) -> list[list[ChunkPlace]]:
    metadata = pq.ParquetFile(path).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [[place_of(group.column(number)) for number in range(metadata.num_columns)] for group in groups]


def place_of(chunk: Any) -> ChunkPlace:
    starts = [chunk.data_page_offset, chunk.dictionary_page_offset or 0]
    return ChunkPlace(min(start for start in starts if start > 0), chunk.num_values)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False},
        {"use_dictionary": ["name"], "compression": "zstd"},
        {"write_statistics": False, "data_page_version": "2.0", "write_page_index": True},
    ],
    ids=str,
)
def test_places_of_columns_are_those_that_pyarrow_has(tmp_path, options):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(COLUMNS), path, row_group_size=25, **options)

    places = chunk_places(path)

    assert [len(group) for group in places] == [5, 5, 5]
    assert places == by_pyarrow(path)


def test_a_large_footer_of_many_columns_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({f"column {number}": [1, 2, 3] for number in range(700)}), path, row_group_size=1)
    size = int.from_bytes(path.read_bytes()[-8:-4], "little")
    assert size > 200_000

    assert chunk_places(path) == by_pyarrow(path)


def crafted(path: Path, groups: int, chunks: int) -> Path:
    """Column chunks that say nothing but where they begin, three bytes each; Arrow keeps some 700 for one."""
    schema = [{4: (8, b"r"), 5: (5, 1)}, {1: (5, 1), 3: (5, 0), 4: (8, b"id")}]
    group = struct_of({1: (9, (12, [struct_of({2: (6, 0)})] * chunks)), 2: (6, 0), 3: (6, 1)})
    footer = struct_of({1: (5, 1), 2: (9, (12, schema)), 3: (6, 1), 4: (9, (12, [group] * groups))})
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return path


def test_a_footer_that_takes_three_gigabytes_is_refused_before_it_is_read(tmp_path):
    path = crafted(tmp_path / "a.parquet", groups=5, chunks=900_000)

    assert path.stat().st_size < 14_000_000
    with pytest.raises(SourceError, match=r"its footer unfolds to more than the 200,000,000 bytes that are allowed"):
        ParquetReader(path, "a.parquet")


def test_a_list_that_says_it_is_longer_than_the_footer_is_refused_before_room_is_made_for_it(tmp_path):
    """98 bytes for which Arrow takes 700 MB."""
    path = crafted(tmp_path / "a.parquet", groups=1, chunks=15)
    content = path.read_bytes()
    path.write_bytes(_with_long_list(content))

    with pytest.raises(SourceError, match=r"^a\.parquet is not a Parquet file .*: its footer does not end"):
        ParquetReader(path, "a.parquet")


def _with_long_list(content: bytes) -> bytes:
    """The list of 15 column chunks says that it has 999,999."""
    before, after = content[4:-8].split(bytes([0xFC, 15]))
    footer = before + bytes([0xFC]) + varint(999_999) + after
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def test_a_footer_without_the_metadata_of_a_column_is_told(tmp_path):
    path = crafted(tmp_path / "a.parquet", groups=1, chunks=2)

    with pytest.raises(SourceError, match=r"^a\.parquet is not a Parquet file .*: its footer lacks field 3"):
        ParquetReader(path, "a.parquet")
