"""What a CSV file means, case by case, with the expected values written out."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from etl.errors import ConfigError, EtlError, SourceError
from etl.readers.csv import CsvReader
from etl.records import Phase, Position, Reason, Reject
from tests.files import Dialect

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Result:
    rows: dict[int, Row]  # by record number
    lines: dict[int, int]
    rejects: list[Reject]

    @property
    def refused(self) -> list[tuple[int, int | None, Reason, str | None]]:
        return [(reject.record, reject.line, reject.reason, reject.raw) for reject in self.rejects]


Read = Callable[..., Result]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(
        content: bytes,
        dialect: Dialect = Dialect(),
        *,
        name: str = "in.csv",
        names: tuple[str, ...] | None = None,
        block_size: int = 1 << 20,
        max_record_bytes: int = 1 << 24,
    ) -> Result:
        path = tmp_path / name
        path.write_bytes(content)
        reader = CsvReader(path, name, dialect, names=names, block_size=block_size, max_record_bytes=max_record_bytes)
        result = Result({}, {}, [])
        for batch in reader.batches(Position(), reader.schema.names):
            assert batch.lines is not None
            rows = zip(*(column.to_pylist() for column in batch.columns.columns), strict=True)
            result.rows.update(zip(batch.numbers.tolist(), rows, strict=True))
            result.lines.update(zip(batch.numbers.tolist(), batch.lines.tolist(), strict=True))
            result.rejects.extend(batch.rejects)
        return result

    return read


def open_csv(tmp_path: Path, content: bytes, dialect: Dialect = Dialect(), **options: object) -> CsvReader:
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    return CsvReader(path, "in.csv", dialect, **options)  # type: ignore[arg-type]


# Values


def test_unquoted_empty_is_null_and_quoted_empty_is_the_empty_string(read: Read) -> None:
    assert read(b'a,b\n,""\n"",\n').rows == {1: (None, ""), 2: ("", None)}


def test_text_is_neither_trimmed_nor_taken_for_a_number(read: Read) -> None:
    assert read(b"a,b\n 007 ,1e5\n").rows == {1: (" 007 ", "1e5")}


def test_doubled_quotes_delimiters_and_line_ends_inside_quotes_are_data(read: Read) -> None:
    content = b'a,b\n"say ""hi""","x,y"\n"1\r\n2\n3\r4",z\n'
    assert read(content).rows == {1: ('say "hi"', "x,y"), 2: ("1\r\n2\n3\r4", "z")}


def test_null_words_count_only_unquoted_and_whole(read: Read) -> None:
    result = read(b'a,b,c,d\nNA,"NA", NA,\\N\n', Dialect(null=("NA", "\\N")))
    assert result.rows == {1: (None, "NA", " NA", None)}


def test_unquoted_empty_is_text_when_it_is_no_null_word(read: Read) -> None:
    assert read(b"a,b\nNA,\n", Dialect(null=("NA",))).rows == {1: (None, "")}


def test_other_delimiter_and_quote(read: Read) -> None:
    assert read(b"a\tb\n'x\ty'\t\"\n", Dialect("\t", "'")).rows == {1: ("x\ty", '"')}


def test_without_a_quote_character_quotes_are_text(read: Read) -> None:
    assert read(b'a,b\n"x,y"\n', Dialect(quote="")).rows == {1: ('"x', 'y"')}


def test_bom_is_removed_at_the_start_only(read: Read) -> None:
    bom = b"\xef\xbb\xbf"
    # The second record begins a block: pyarrow by itself would take its BOM for the file's.
    result = read(bom + b"a,b\n1,2\n" + bom + b"3,4\n", block_size=8)
    assert result.rows == {1: ("1", "2"), 2: ("\ufeff3", "4")}


def test_every_column_is_a_string_in_file_order(tmp_path: Path) -> None:
    assert open_csv(tmp_path, b"b,a\n1,2\n").schema == pa.schema([("b", pa.string()), ("a", pa.string())])


# Records and lines


@pytest.mark.parametrize("block_size", [1, 4, 1 << 20])
def test_lf_cr_and_crlf_end_records_mixed_in_one_file(read: Read, block_size: int) -> None:
    result = read(b"a,b\r1,2\r\n3,4\n5,6\r7,8", block_size=block_size)
    assert result.rows == {1: ("1", "2"), 2: ("3", "4"), 3: ("5", "6"), 4: ("7", "8")}
    assert result.lines == {1: 2, 2: 3, 3: 4, 4: 5}


@pytest.mark.parametrize("block_size", [1, 4, 1 << 20])
def test_lines_count_blank_lines_and_line_ends_inside_quotes(read: Read, block_size: int) -> None:
    result = read(b'\n"a\nx",b\n\r\n1,"\r\n\r\n"\n\r2,3\n', block_size=block_size)
    assert result.rows == {1: ("1", "\r\n\r\n"), 2: ("2", "3")}
    assert result.lines == {1: 5, 2: 9}


def test_blank_line_is_no_record_and_takes_no_number(read: Read) -> None:
    assert read(b"a,b\n1,2\n\n\n3,4\n\n").rows == {1: ("1", "2"), 2: ("3", "4")}


def test_blank_line_of_a_one_column_file_is_a_null(read: Read) -> None:
    result = read(b'a\n1\n\n""\n\n')
    assert result.rows == {1: ("1",), 2: (None,), 3: ("",), 4: (None,)}
    assert result.lines == {1: 2, 2: 3, 3: 4, 4: 5}


def test_final_line_end_is_optional(read: Read) -> None:
    assert read(b'a,b\n1,"2"').rows == read(b'a,b\n1,"2"\n').rows == {1: ("1", "2")}


def test_empty_last_field_without_a_line_end_is_null_behind_a_quoted_one(read: Read) -> None:
    assert read(b'a,b\n1,2\n"",').rows == {1: ("1", "2"), 2: ("", None)}


def test_record_longer_than_a_block_is_read(read: Read) -> None:
    assert read(b'a,b\n1,"' + b"x\n" * 500 + b'"\n2,3\n', block_size=16).rows == {
        1: ("1", "x\n" * 500),
        2: ("2", "3"),
    }


def test_batches_are_bounded_where_records_are_short(tmp_path: Path) -> None:
    reader = open_csv(tmp_path, b"a\n" + b"1\n" * 250_000)
    assert [batch.read for batch in reader.batches(Position(), [])] == [100_000, 100_000, 50_000]


# Headers


def test_header_names_are_taken_as_written(tmp_path: Path) -> None:
    assert open_csv(tmp_path, b'" a ",B,"c ""d""\n", \n').schema.names == [" a ", "B", 'c "d"\n', " "]


def test_header_alone_gives_no_records(read: Read) -> None:
    assert read(b"a,b") == read(b"a,b\r\n\r\n") == Result({}, {}, [])


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\r\n\n"])
def test_empty_file_has_no_header(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match=r"in\.csv is empty, where line 1 should be a header"):
        open_csv(tmp_path, content)


def test_repeated_header_name_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"in\.csv, line 1, repeats 'b'\."):
        open_csv(tmp_path, b"a,b,b\n")


@pytest.mark.parametrize("header", [b'a"b,c\n', b'"a"b,c\n', b'a,"b\n1,2\n'])
def test_header_with_a_bad_quote_is_an_error(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(SourceError, match=r"The header of in\.csv, line 1, has a quote"):
        open_csv(tmp_path, header)


@pytest.mark.parametrize("header", [b"a,\xff\n", b"a,\0\n"])
def test_header_that_is_no_text_is_an_error(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(SourceError, match=r"The header of in\.csv, line 1, has bytes that are no text"):
        open_csv(tmp_path, header)


def test_without_a_header_columns_are_numbered(tmp_path: Path) -> None:
    assert open_csv(tmp_path, b"1,2,3\n", Dialect(header=False)).schema.names == ["f1", "f2", "f3"]


def test_without_a_header_the_first_line_is_a_record(read: Read) -> None:
    result = read(b"1,2\n3,4\n", Dialect(header=False), names=("x", "y"))
    assert (result.rows, result.lines) == ({1: ("1", "2"), 2: ("3", "4")}, {1: 1, 2: 2})


def test_other_number_of_names_than_fields_is_an_error_that_says_both(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"first record of in\.csv has 3 fields, but 2 are named"):
        open_csv(tmp_path, b"1,2,3\n", Dialect(header=False), names=("x", "y"))


def test_empty_file_with_names_given_has_no_records(read: Read) -> None:
    assert read(b"", Dialect(header=False), names=("x",)) == Result({}, {}, [])


# Rejects


@pytest.mark.parametrize(
    ("record", "reason", "raw"),
    [
        (b"1,2", Reason.COLUMN_COUNT, "1,2"),
        (b"1,2,3,4", Reason.COLUMN_COUNT, "1,2,3,4"),
        (b'1,"2\n2",3,4', Reason.COLUMN_COUNT, '1,"2\n2",3,4'),
        (b'1,x"y,3', Reason.QUOTE, '1,x"y,3'),
        (b'1, "2",3', Reason.QUOTE, '1, "2",3'),
        (b'1,"2"x,3', Reason.QUOTE, '1,"2"x,3'),
        (b'1,"2" ,3', Reason.QUOTE, '1,"2" ,3'),
        (b'1,"2\n2"x,3', Reason.QUOTE, '1,"2\n2"x,3'),
        (b'1,"2,3', Reason.QUOTE, '1,"2,3'),
        (b'1,2"3,"two\nlines"', Reason.QUOTE, '1,2"3,"two\nlines"'),
        (b'1,2,"two"t\nlines"', Reason.QUOTE, '1,2,"two"t\nlines"'),
        (b"1,\xff2,\xc3\xa9", Reason.ENCODING, "1,\\xff2,é"),
        (b'"\xc3","2",3', Reason.ENCODING, '"\\xc3","2",3'),
        (b"1,\0,3", Reason.ENCODING, "1,\\x00,3"),
    ],
)
@pytest.mark.parametrize("block_size", [1, 16, 1 << 20])
def test_bad_record_is_a_reject_and_its_neighbours_are_read(
    read: Read, record: bytes, reason: Reason, raw: str, block_size: int
) -> None:
    result = read(b"a,b,c\n7,8,9\n" + record + b'\n4,"5",6\n1,1,1\n', block_size=block_size)
    assert result.rows == {1: ("7", "8", "9"), 3: ("4", "5", "6"), 4: ("1", "1", "1")}
    assert result.refused == [(2, 3, reason, raw)]
    assert {(reject.phase, reject.values) for reject in result.rejects} == {(Phase.READ, None)}


def test_wrong_field_counts_are_merged_back_by_number(read: Read) -> None:
    result = read(b'a,b\n\n1\n\n2,2\n3,3,3\n\n4,"\n"\n5\n6,6')
    assert result.rows == {2: ("2", "2"), 4: ("4", "\n"), 6: ("6", "6")}
    assert result.lines == {2: 5, 4: 8, 6: 11}
    assert [(r.record, r.line, r.message) for r in result.rejects] == [
        (1, 3, "has 1 field, the header has 2"),
        (3, 6, "has 3 fields, the header has 2"),
        (5, 10, "has 1 field, the header has 2"),
    ]


def test_blank_line_behind_a_reject_stays_a_record_of_a_one_column_file(read: Read) -> None:
    # Cutting the reject out must not put the CR before it and the LF behind it together.
    result = read(b'a\n1\rx"y\n\n2\n')
    assert result.rows == {1: ("1",), 3: (None,), 4: ("2",)}


def test_never_closed_quote_ends_where_a_record_of_the_expected_fields_begins(read: Read) -> None:
    result = read(b'a,b,c\n1,"2,3\nx,y\n4,5,6\n7,8,9\n')
    assert result.rows == {2: ("4", "5", "6"), 3: ("7", "8", "9")}
    assert result.refused == [(1, 2, Reason.QUOTE, '1,"2,3\nx,y')]


def test_file_of_bad_records_alone_gives_rejects_alone(read: Read) -> None:
    result = read(b'a,b\n1"\n2"\n')
    assert result.rows == {}
    assert result.refused == [(1, 2, Reason.QUOTE, '1"'), (2, 3, Reason.QUOTE, '2"')]


@pytest.mark.parametrize("block_size", [8, 64, 1 << 20])
@pytest.mark.parametrize("record", [b"1," + b"x" * 60, b'1,"' + b"x\n" * 30 + b'"'])
def test_record_that_is_too_long_is_a_reject(read: Read, record: bytes, block_size: int) -> None:
    result = read(b"a,b\n" + record + b"\n2,3\n", block_size=block_size, max_record_bytes=40)
    assert result.rows == {2: ("2", "3")}
    assert result.lines == {2: 3 + record.count(b"\n")}
    assert [(r.record, r.line, r.reason, r.message) for r in result.rejects] == [
        (1, 2, Reason.TOO_LONG, "longer than 40 bytes (max_record_bytes)")
    ]


@pytest.mark.parametrize("block_size", [8, 64, 1 << 20])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_record_that_is_too_long_by_its_quote_ends_where_a_record_begins(
    read: Read, block_size: int, line_end: bytes
) -> None:
    lines = [b'1,"x', *[b"no record", b"", b"a,b,c", b"x" * 50] * 9, b"2,3", b"4,5", b""]
    result = read(b"a,b" + line_end + line_end.join(lines), block_size=block_size, max_record_bytes=40)
    assert result.rows == {2: ("2", "3"), 3: ("4", "5")}
    assert result.lines == {2: 39, 3: 40}
    assert [(r.record, r.line, r.reason) for r in result.rejects] == [(1, 2, Reason.TOO_LONG)]


def test_raw_is_cut_off_with_a_word_of_it(read: Read) -> None:
    (reject,) = read(b"a,b\n" + "é".encode() * 40_000 + b"\n").rejects
    assert reject.raw == "é" * 32_768
    assert reject.message == "has 1 field, the header has 2 (raw is cut off after 65536 bytes)"


# Encodings and compressions


def test_latin_1_is_decoded(read: Read) -> None:
    assert read("a,b\né,ß\n".encode("latin-1"), Dialect(encoding="latin-1")).rows == {1: ("é", "ß")}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("block_size", [1, 7, 1 << 20])
def test_unicode_encodings_are_decoded_without_their_bom(read: Read, encoding: str, block_size: int) -> None:
    content = '\ufeff"a",b\r\né,"€\n😀"\n'.encode(encoding)
    assert read(content, Dialect(encoding=encoding), block_size=block_size).rows == {1: ("é", "€\n😀")}


def test_byte_that_the_encoding_has_not_rejects_its_record_only(read: Read) -> None:
    result = read(b"a,b\n1,\x81\n2,\x80\n", Dialect(encoding="cp1252"))
    assert result.rows == {2: ("2", "€")}
    assert result.refused == [(1, 2, Reason.ENCODING, "1,\\x81")]


def test_lone_surrogate_of_utf_16_is_no_line_end_and_no_quote(read: Read) -> None:
    lone = b'"\xd8'  # U+D822, whose low byte is that of a quote
    content = "a,b\n1,".encode("utf-16-le") + lone + "\n2,3\n".encode("utf-16-le")
    result = read(content, Dialect(encoding="utf-16-le"))
    assert result.rows == {2: ("2", "3")}
    assert result.refused == [(1, 2, Reason.ENCODING, "1,\\x22\\xd8")]


@pytest.mark.parametrize("encoding", ["utf-9", "base64", "no\0name"])
def test_unknown_encoding_is_an_error(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ConfigError, match="there is no such text encoding"):
        open_csv(tmp_path, b"a\n", Dialect(encoding=encoding))


@pytest.mark.parametrize(("delimiter", "quote"), [("§", '"'), ("", '"'), ("\n", '"'), (",", ","), (",", "''")])
def test_unusable_delimiter_or_quote_is_an_error(tmp_path: Path, delimiter: str, quote: str) -> None:
    with pytest.raises(ConfigError, match=r"`(delimiter|quote)` (is|and)"):
        open_csv(tmp_path, b"a\n", Dialect(delimiter, quote))


def test_compressed_file_is_read(read: Read) -> None:
    content = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n")
    assert read(content, name="in.csv.gz", block_size=4).rows == {1: ("1", "2"), 2: ("3", "4")}


def test_compressed_file_that_was_cut_off_is_an_error_and_no_shorter_file(read: Read) -> None:
    content = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    with pytest.raises(SourceError, match=r"in\.csv\.gz cannot be read"):
        read(content[:-4], name="in.csv.gz")


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no file orders/no\.csv"):
        CsvReader(tmp_path / "no.csv", "orders/no.csv", Dialect())


# Positions


@pytest.mark.parametrize(("dialect", "encoding"), [(Dialect(), "utf-8-sig"), (Dialect(encoding="utf-16"), "utf-16")])
def test_reading_goes_on_at_the_end_of_a_batch(tmp_path: Path, dialect: Dialect, encoding: str) -> None:
    reader = open_csv(tmp_path, "a,b\né,1\n\n2,3\n4\n5,6\n".encode(encoding), dialect, block_size=6)
    first, *_ = reader.batches(Position(), [])
    assert first.end == Position(1, 10, 4)
    rest = list(reader.batches(first.end, []))
    assert [row for batch in rest for row in batch.columns.column(0).to_pylist()] == ["2", "5"]
    assert [line for batch in rest if batch.lines is not None for line in batch.lines.tolist()] == [4, 6]
    assert [(r.record, r.line) for batch in rest for r in batch.rejects] == [(3, 5)]


def test_nothing_is_left_behind_the_last_batch(tmp_path: Path) -> None:
    reader = open_csv(tmp_path, b"a,b\n1,2\n\n")
    *_, last = reader.batches(Position(), [])
    assert list(reader.batches(last.end, [])) == []


def test_consumed_grows_to_the_stored_size(tmp_path: Path) -> None:
    reader = open_csv(tmp_path, b"a,b\n1,2\n3,4\n5,6\n", block_size=8)
    # The last record of a block comes with the next one, which may show that it is no record.
    assert [batch.consumed for batch in reader.batches(Position(), [])] == [8, 12, 16]


def test_errors_hold_no_values_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(EtlError) as error:
        open_csv(tmp_path, b'secret"x,b\n')
    assert "secret" not in str(error.value)
