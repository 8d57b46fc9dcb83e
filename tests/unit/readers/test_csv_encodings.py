"""Text in other encodings: in blocks of every size, from any checkpoint on, and with bytes that are none of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.readers.csv import CsvReader
from etl.records import Reason
from tests.files import Dialect
from tests.unit.readers.test_csv_dialects import read, read_in_all_ways

TEXT = 'a,b\r\né,"ü\r\n"\n\n1,\\\n"""x""",2\r3,4'
ROWS = {1: (2, ("é", "ü\r\n")), 2: (5, ("1", "\\")), 3: (6, ('"x"', "2")), 4: (7, ("3", "4"))}
JAPANESE = TEXT.replace("é", "ソ").replace("ü", "表")  # in Shift JIS the second byte of both is that of a backslash
JAPANESE_ROWS = ROWS | {1: (2, ("ソ", "表\r\n"))}


@pytest.mark.parametrize(
    "encoding",
    ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "latin-1", "cp1252", "cp500", "utf-7"],
)
def test_text_is_read_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    found = read_in_all_ways(tmp_path / "in.csv", TEXT.encode(encoding), Dialect(encoding=encoding))
    assert (found.rows, found.rejects) == (ROWS, {})


@pytest.mark.parametrize("encoding", ["shift_jis", "cp932", "euc_jp", "gb18030", "big5", "iso2022_jp", "utf-16"])
def test_text_of_many_bytes_a_character_is_read(tmp_path: Path, encoding: str) -> None:
    found = read_in_all_ways(tmp_path / "in.csv", JAPANESE.encode(encoding), Dialect(encoding=encoding))
    assert (found.rows, found.rejects) == (JAPANESE_ROWS, {})


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_byte_order_mark_of_an_encoding_that_says_its_order_is_removed(tmp_path: Path, encoding: str) -> None:
    found = read_in_all_ways(tmp_path / "in.csv", ("\ufeff" + TEXT).encode(encoding), Dialect(encoding=encoding))
    assert found.rows == ROWS


@pytest.mark.parametrize(
    ("encoding", "record", "shown"),
    [
        ("shift_jis", b"\x82", "\\x82"),  # the first byte of two: what follows is the line's end, and stays it
        ("shift_jis", b"\x82,", "\\x82,"),
        ("shift_jis", b"x\xfd,y", "x\\xfd,y"),
        ("euc_jp", b"x,\xa4", "x,\\xa4"),
        ("big5", b"\xa1,1", "\\xa1,1"),
        ("gb18030", b"\x81\x30,1", "\\x810,1"),
        ("gb18030", b"1,\x81\x30\x81", "1,\\x810\\x81"),
        ("cp1252", b"\x81,1", "\\x81,1"),
        ("ascii", b"1,\xe9", "1,\\xe9"),
        ("utf-16-le", b"1\0,\0\x22\xd8", "1,\\x22\\xd8"),
        ("utf-16-be", b"\0\x31\0,\xdc\x0a", "1,\\xdc\\x0a"),
        ("utf-32-le", b"1\0\0\0,\0\0\0\x0a\0\x11\0", "1,\\x0a\\x00\\x11\\x00"),
    ],
)
def test_byte_that_is_not_of_the_encoding_costs_its_record_alone(
    tmp_path: Path, encoding: str, record: bytes, shown: str
) -> None:
    before, behind = "a,b\n1,2\n".encode(encoding), "\n3,4\n5,6".encode(encoding)
    found = read_in_all_ways(tmp_path / "in.csv", before + record + behind, Dialect(encoding=encoding))
    assert found.rows == {1: (2, ("1", "2")), 3: (4, ("3", "4")), 4: (5, ("5", "6"))}
    assert found.rejects == {2: (3, Reason.ENCODING, shown)}


@pytest.mark.parametrize("encoding", ["utf-16", "shift_jis"])
def test_file_that_ends_within_a_character_costs_its_last_record_alone(tmp_path: Path, encoding: str) -> None:
    content = "a,b\n1,2\n3,ソ".encode(encoding)[:-1]
    found = read_in_all_ways(tmp_path / "in.csv", content, Dialect(encoding=encoding))
    assert found.rows == {1: (2, ("1", "2"))}
    assert [(line, reason) for line, reason, _ in found.rejects.values()] == [(3, Reason.ENCODING)]


def test_long_file_is_read_as_it_is_written_and_goes_on_anywhere(tmp_path: Path) -> None:
    lines = [f"{number},{chr(0x4E00 + number)}ソ表"[: 8 + number % 3] for number in range(3000)]
    (tmp_path / "in.csv").write_bytes("\r\n".join(["a,b", *lines]).encode("gb18030"))
    reader = CsvReader(tmp_path / "in.csv", "in.csv", Dialect(encoding="gb18030"), block_size=1000)
    whole = read(reader)
    assert whole.rows == {n + 1: (n + 2, tuple(line.split(","))) for n, line in enumerate(lines)}
    for end in whole.ends[::5]:
        assert read(reader, end).rows == whole.behind(end.record).rows
