"""Damaged files end in an error that names them, or are read: they never crash the process, hang, or fill the memory.

Read in child processes: a crash would end the tests themselves.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.damage import cuts, flips, noise, read_variants

RECORDS = 60
FLAT = {
    "id": range(RECORDS),
    "n": [None if number % 7 == 0 else number for number in range(RECORDS)],
    "name": [f"name {number % 9}" if number % 5 else None for number in range(RECORDS)],
    "x": [number / 3 for number in range(RECORDS)],
    "yes": [number % 3 == 0 for number in range(RECORDS)],
    "price": [Decimal(number) / 4 for number in range(RECORDS)],
    "at": [dt.datetime(2024, 1, 1) + dt.timedelta(number) for number in range(RECORDS)],
}
NESTED = {
    "id": range(RECORDS),
    "list": [[1, 2, number] if number % 4 else None for number in range(RECORDS)],
    "struct": [{"a": number, "b": str(number)} for number in range(RECORDS)],
}
TEXTS = {"name": FLAT["name"], "number": [str(number) for number in range(RECORDS)]}
PARQUET: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dictionary": (FLAT, {"compression": "none"}),
    "plain": (FLAT, {"compression": "none", "use_dictionary": False}),
    "checksums": (FLAT, {"compression": "none", "write_page_checksum": True}),
    "snappy": (FLAT, {"compression": "snappy"}),
    "zstd": (FLAT, {"compression": "zstd"}),
    "gzip": (FLAT, {"compression": "gzip"}),
    "lz4": (FLAT, {"compression": "lz4"}),
    "brotli": (FLAT, {"compression": "brotli"}),
    "pages of version 2": (FLAT, {"compression": "snappy", "data_page_version": "2.0"}),
    "prefixes": (TEXTS, {"use_dictionary": False, "column_encoding": dict.fromkeys(TEXTS, "DELTA_BYTE_ARRAY")}),
    "lengths": (
        TEXTS,
        {"use_dictionary": False, "column_encoding": dict.fromkeys(TEXTS, "DELTA_LENGTH_BYTE_ARRAY")},
    ),
    "nested": (NESTED, {"compression": "none"}),
    "nested, plain": (NESTED, {"compression": "zstd", "use_dictionary": False}),
}
ARROW: dict[str, tuple[dict[str, Any], bool, str | None]] = {
    "file": (FLAT, True, None),
    "stream": (FLAT, False, None),
    "lz4": (FLAT, True, "lz4"),
    "zstd": (FLAT, False, "zstd"),
    "nested": (NESTED, True, None),
    "dictionaries": ({"name": pa.array(FLAT["name"]).dictionary_encode(), "x": FLAT["x"]}, False, None),
    "views": ({"name": pa.array(FLAT["name"], pa.string_view()), "x": FLAT["x"]}, True, None),
}
CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}


def parquet(path: Path, kind: str) -> bytes:
    columns, options = PARQUET[kind]
    pq.write_table(pa.table(columns), path, row_group_size=40, **options)
    return path.read_bytes()


def arrow(kind: str) -> bytes:
    columns, is_file, compression = ARROW[kind]
    table = pa.table(columns)
    target = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    make = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with make(target, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=40)
    content: bytes = target.getvalue().to_pybytes()
    return content


def packed(codec: str) -> bytes:
    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, codec) as stream:
        stream.write(b"".join(b"%d,name %d\n" % (number, number) for number in range(300)))
    content: bytes = target.getvalue().to_pybytes()
    return content


def test_a_damaged_parquet_file_is_told_or_read(tmp_path):
    path = tmp_path / "a.parquet"
    sound = parquet(path, "dictionary")
    cut = [*cuts(sound, every=97), *cuts(sound)[-20:]]
    variants = [*cut]
    for kind in ("checksums", "snappy", "nested"):
        content = parquet(path, kind)
        variants += [*flips(content, [0xFF], every=37), *noise(content, 25)]

    found = read_variants(path, variants)

    assert set(found) == {"told", "read"}
    assert set(found[: len(cut)]) == {"told"}


def test_a_footer_damaged_at_every_byte_is_told_or_read(tmp_path):
    """Level histograms that do not fit the schema end a process that asks pyarrow for the place of their column."""
    path = tmp_path / "a.parquet"
    content = parquet(path, "prefixes")
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")

    found = read_variants(path, [content[:footer] + part for part in flips(content[footer:], [0x01])])

    assert set(found) == {"told", "read"}


def test_a_damaged_compressed_file_is_told_or_read(tmp_path):
    content = packed("gzip")
    cut = cuts(content, every=5)

    found = read_variants(tmp_path / "a.csv.gz", [*cut, *flips(content, [0x10], every=7)])

    assert set(found[: len(cut)]) == {"told"}
    assert set(found) <= {"told", "read"}
    # What may be another byte of the header: time, hints and the operating system.
    assert found[len(cut) :].count("read") <= 2


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", PARQUET)
def test_a_parquet_file_damaged_at_every_byte_is_told_or_read(tmp_path, kind):
    path = tmp_path / "a.parquet"
    content = parquet(path, kind)

    assert set(read_variants(path, cuts(content))) == {"told"}
    assert set(read_variants(path, [*flips(content, [0x01, 0x10, 0x80, 0xFF]), *noise(content, 5_000)])) == {
        "told",
        "read",
    }


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ARROW)
def test_an_arrow_file_damaged_at_every_byte_is_told_or_read(tmp_path, kind):
    path = tmp_path / "a.arrow"
    content = arrow(kind)

    assert set(read_variants(path, cuts(content))) <= {"told", "read"}  # a stream may end behind any of its messages
    assert set(read_variants(path, [*flips(content, [0x01, 0x10, 0x80, 0xFF]), *noise(content, 5_000)])) == {
        "told",
        "read",
    }


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("suffix", "codec"), CODECS.items(), ids=CODECS.values())
def test_a_compressed_file_damaged_at_every_byte_is_told_or_read(tmp_path, suffix, codec):
    path = tmp_path / f"a.csv{suffix}"
    content = packed(codec)

    assert set(read_variants(path, cuts(content))) == {"told"}
    assert set(read_variants(path, [*flips(content, [0x01, 0x10, 0x80, 0xFF]), *noise(content, 2_000)])) <= {
        "told",
        "read",
    }
