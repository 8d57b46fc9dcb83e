"""Escapes, comments, lenient quotes, lines before the header: case by case, in blocks of every size."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl.errors import ConfigError, SourceError
from etl.readers.csv import CsvReader
from etl.records import Position, Reason
from tests.files import Dialect

BEGINNING = Position()
Row = tuple[str | None, ...]
BACKSLASH = Dialect(escape="\\")
MYSQL = Dialect("\t", "", escape="\\", null=("\\N",))
COMMENTS = Dialect(comment="#")
LENIENT = Dialect(strict_quotes=False)
NO_DOUBLED = Dialect(escape="\\", doubled_quotes=False)


@dataclass(frozen=True)
class Read:
    """By record number: line and values, or line, reason and raw text; and the place behind each batch."""

    rows: dict[int, tuple[int, Row]]
    rejects: dict[int, tuple[int | None, Reason, str | None]]
    ends: tuple[Position, ...] = ()

    def behind(self, record: int) -> Read:
        rows = {number: row for number, row in self.rows.items() if number > record}
        return Read(rows, {number: reject for number, reject in self.rejects.items() if number > record})


def read(reader: CsvReader, start: Position = BEGINNING) -> Read:
    rows: dict[int, tuple[int, Row]] = {}
    rejects: dict[int, tuple[int | None, Reason, str | None]] = {}
    ends: list[Position] = []
    for batch in reader.batches(start, []):
        assert batch.lines is not None
        values = zip(*(column.to_pylist() for column in batch.columns.columns), strict=True)
        rows.update(zip(batch.numbers.tolist(), zip(batch.lines.tolist(), values, strict=True), strict=True))
        rejects.update((each.record, (each.line, each.reason, each.raw)) for each in batch.rejects)
        ends.append(batch.end)
    assert sorted([*rows, *rejects]) == list(range(start.record + 1, start.record + 1 + len(rows) + len(rejects)))
    return Read(rows, rejects, tuple(ends))


def read_in_all_ways(
    path: Path, content: bytes, dialect: Dialect, sizes: list[int] | None = None, most_bytes: int = 1 << 24
) -> Read:
    """What a file holds, which must be the same in blocks of any size, and from any checkpoint on."""
    path.write_bytes(content)
    whole = read(CsvReader(path, "in.csv", dialect, max_record_bytes=most_bytes))
    for size in sizes if sizes is not None else range(1, len(content) + 2):
        reader = CsvReader(path, "in.csv", dialect, block_size=size, max_record_bytes=most_bytes)
        in_blocks = read(reader)
        assert (in_blocks.rows, in_blocks.rejects) == (whole.rows, whole.rejects), size
        for end in in_blocks.ends:
            rest = read(reader, end)
            assert Read(rest.rows, rest.rejects) == whole.behind(end.record), (size, end)
    return whole


def cases(*given: tuple[str, Dialect, bytes, dict[int, tuple[int, Row]]]) -> pytest.MarkDecorator:
    names = [case[0] for case in given]
    return pytest.mark.parametrize(("dialect", "content", "rows"), [case[1:] for case in given], ids=names)


@cases(
    ("quote", BACKSLASH, b'a,b\n"say \\"hi\\"",\\"x\n', {1: (2, ('say "hi"', '"x'))}),
    ("delimiter", BACKSLASH, b"a,b\n1\\,5,2\n3,4\n", {1: (2, ("1,5", "2")), 2: (3, ("3", "4"))}),
    ("escape", BACKSLASH, b'a,b\nC:\\\\,"\\\\"\n\\\\\\\\,\\\\\\,\n', {1: (2, ("C:\\", "\\")), 2: (3, ("\\\\", "\\,"))}),
    ("line ends", BACKSLASH, b"a,b\n1\\\n2,x\\\r\ny\n3\\\r,4\n", {1: (2, ("1\n2", "x\r\ny")), 2: (5, ("3\r", "4"))}),
    ("line end in quotes", BACKSLASH, b'a,b\n"1\\\n2",x\n3,4\n', {1: (2, ("1\n2", "x")), 2: (4, ("3", "4"))}),
    ("doubled too", BACKSLASH, b'a,b\n"1""2","\\"\n"\n', {1: (2, ('1"2', '"\n'))}),
    ("no quotes", MYSQL, b'a\tb\n\\N\tx\\\ty\n\\\\N\t"\n', {1: (2, (None, "x\ty")), 2: (3, ("\\N", '"'))}),
    ("null is as it stands", BACKSLASH, b'a,b\n,""\n"\\\\",1\n', {1: (2, (None, "")), 2: (3, ("\\", "1"))}),
    ("not ASCII", BACKSLASH, "a,b\né\\,€,😀\n".encode(), {1: (2, ("é,€", "😀"))}),
    ("header", BACKSLASH, b"a\\,x,b\n1,2\n", {1: (2, ("1", "2"))}),
    ("another escape", Dialect(escape="!"), b'a,b\n"!"",!!\n', {1: (2, ('"', "!"))}),
    ("not doubled", NO_DOUBLED, b'a,b\n"\\"","",\n'[:-2] + b"\n", {1: (2, ('"', ""))}),
    ("comment", COMMENTS, b"# x\na,b\n#,\n1,2\n#\n\n# 3\n3,#4\n#", {1: (4, ("1", "2")), 2: (8, ("3", "#4"))}),
    ("comment with quotes", COMMENTS, b'a,b\n# "it\'s\n1,2\n#"",\n3,"4"\n', {1: (3, ("1", "2")), 2: (5, ("3", "4"))}),
    ("comment in quotes", COMMENTS, b'a,b\n1,"x\n# y"\n# z\n3,4\n', {1: (2, ("1", "x\n# y")), 2: (5, ("3", "4"))}),
    ("quoted at the start", COMMENTS, b'a,b\n"#1",2\n #,3\n', {1: (2, ("#1", "2")), 2: (3, (" #", "3"))}),
    ("comments and CR", COMMENTS, b"a,b\r#x\r1,2\r\n#y\r\n3,4\r", {1: (3, ("1", "2")), 2: (5, ("3", "4"))}),
    ("long prefix", Dialect(comment="//"), b"//\na,b\n/,2\n//3,4\n", {1: (3, ("/", "2"))}),
    ("one column", COMMENTS, b"a\n#\n\n1\n# x\n\n", {1: (3, (None,)), 2: (4, ("1",)), 3: (6, (None,))}),
    ("bytes in comments", COMMENTS, b"#\xff\na,b\n#\xff\0\n1,2\n#\0\n#\xff", {1: (4, ("1", "2"))}),
    ("escaped comment", replace(BACKSLASH, comment="#"), b"a,b\n\\#1,2\n#1,2\n", {1: (2, ("#1", "2"))}),
    ("escape in comment", replace(BACKSLASH, comment="#"), b"a,b\n#\\\n1,2\n#\\\r\n", {1: (3, ("1", "2"))}),
    ("lenient", LENIENT, b'a,b\n5" pipe,6"\n"x, ""y""",z"\n', {1: (2, ('5" pipe', '6"')), 2: (3, ('x, "y"', 'z"'))}),
    ("lenient over lines", LENIENT, b'a,b\nx"y,"1\n2"\n"3\n",4"\n', {1: (2, ('x"y', "1\n2")), 2: (4, ("3\n", '4"'))}),
    ("skipped", Dialect(skip_lines=2), b'"x\ny,\n\na,b\n1,2\n', {1: (5, ("1", "2"))}),
    ("skipped, no header", Dialect(skip_lines=1, header=False), b"x\r\n\r\n1,2\n", {1: (3, ("1", "2"))}),
    ("header by line", Dialect(header=3), b'x"\n,,,\na,b\n1,2\n', {1: (4, ("1", "2"))}),
    ("header of lines", Dialect(header=(2, 4)), b"t\nQ1,\n-,-\nx,y\n1,2\n", {1: (5, ("1", "2"))}),
)
def test_dialect_gives_these_records(tmp_path: Path, dialect: Dialect, content: bytes, rows: object) -> None:
    found = read_in_all_ways(tmp_path / "in.csv", content, dialect)
    assert (found.rows, found.rejects) == (rows, {})


@pytest.mark.parametrize(
    ("dialect", "record", "reason"),
    [
        (BACKSLASH, b"\\n,2", Reason.ESCAPE),
        (BACKSLASH, b'"C:\\temp",2', Reason.ESCAPE),
        (BACKSLASH, "\\é,2".encode(), Reason.ESCAPE),
        (BACKSLASH, b"1,2\\", Reason.ESCAPE),  # what follows is a line end, escaped: the file's last record
        (BACKSLASH, b'1,"2\\"', Reason.QUOTE),
        (BACKSLASH, b"1\\,2", Reason.COLUMN_COUNT),
        (BACKSLASH, b"1\\,2,\xff", Reason.ENCODING),
        (BACKSLASH, b"\xf8\xff\xf9,\\\\", Reason.ENCODING),  # the bytes that stand for escapes
        (replace(MYSQL, delimiter=","), b"x\\N,1", Reason.ESCAPE),
        (replace(BACKSLASH, null=("\\N",)), b'"\\N",1', Reason.ESCAPE),
        (NO_DOUBLED, b'"1""2",3', Reason.QUOTE),
        (LENIENT, b'"1"x,2', Reason.QUOTE),
        (LENIENT, b'1", 2,3', Reason.COLUMN_COUNT),
        (COMMENTS, b'1,x"y', Reason.QUOTE),
        (COMMENTS, b'1,"x', Reason.QUOTE),
    ],
)
def test_bad_record_of_a_dialect_is_a_reject_and_its_neighbours_are_read(
    tmp_path: Path, dialect: Dialect, record: bytes, reason: Reason
) -> None:
    d = dialect.delimiter.encode()
    is_last = record.endswith(b"2\\")
    before = b"a" + d + b"b\n1" + d + b"1\n"
    behind = b"" if is_last else b"\n" + b"# 3\n" * (dialect.comment != "") + b"4" + d + b"4\n5" + d + b"5\n"
    found = read_in_all_ways(tmp_path / "in.csv", before + record + behind, dialect)
    assert {number: row for number, (_, row) in found.rows.items()} == {1: ("1", "1")} | (
        {} if is_last else {3: ("4", "4"), 4: ("5", "5")}
    )
    shown = re.sub(rb"[\xf8-\xff]", lambda byte: b"\\x%02x" % byte[0][0], record).decode()
    assert found.rejects == {2: (3, reason, shown)}


def test_column_names_are_without_their_escapes(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b'a\\,x,"\\"b"\n')
    assert CsvReader(path, "in.csv", BACKSLASH).schema.names == ["a,x", '"b']


def test_names_of_several_lines_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b',Q1,Q1\nid,"sold, EUR",kg\n1,2,3\n')
    assert CsvReader(path, "in.csv", Dialect(header=(1, 2))).schema.names == ["id", "Q1 sold, EUR", "Q1 kg"]


@pytest.mark.parametrize(
    ("dialect", "content", "sentence"),
    [
        (Dialect(skip_lines=3), b"a\nb\n", "in.csv has 2 lines, and 3 are to be skipped"),
        (Dialect(skip_lines=2), b"a\nb\n", "in.csv has nothing but lines to skip"),
        (COMMENTS, b"# a\n\n#", "in.csv has nothing but lines to skip"),
        (Dialect(header=3), b"a\nb\n", "Line 3 of in.csv is not there, where the header should be"),
        (Dialect(header=2), b"a\n\nb\n", "Line 2 of in.csv is blank or a comment, where the header should be"),
        (Dialect(header=(1, 2)), b'"a\nb",c\nd,e\n', "cannot be line 2: the record before it ends in line 2"),
        (Dialect(header=(1, 2)), b"a,b\nc\n", "lines 1 and 2, has 2 and 1 fields"),
        (Dialect(header=(1, 2)), b"a,a\nc,c\n", "lines 1 and 2, repeats 'a c'"),
        (Dialect(header=2), b'a\nb,"c"x\n', "The header of in.csv, line 2, has a quote"),
        (BACKSLASH, b"a\\b,c\n", "The header of in.csv, line 1, has an escape before a character that needs none"),
        (Dialect(), "a,b\n".encode("utf-16"), 'in.csv begins with the mark of UTF-16. Set `encoding = "utf-16"`'),
    ],
)
def test_header_that_is_not_where_the_config_says_is_an_error(
    tmp_path: Path, dialect: Dialect, content: bytes, sentence: str
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    for size in (1, 2, 3, 1 << 20):
        with pytest.raises(SourceError, match=re.escape(sentence)):
            CsvReader(path, "in.csv", dialect, block_size=size)


def test_escape_that_is_the_quote_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"a\n")
    with pytest.raises(ConfigError, match="`escape` is '\"'"):
        CsvReader(tmp_path / "in.csv", "in.csv", Dialect(escape='"'))


@pytest.mark.parametrize("dialect", [BACKSLASH, COMMENTS, LENIENT])
def test_record_that_is_too_long_is_a_reject_in_any_dialect(tmp_path: Path, dialect: Dialect) -> None:
    path = tmp_path / "in.csv"
    filler = {BACKSLASH: b"\\\r\n", COMMENTS: b"#\r\n", LENIENT: b'"\r\n'}[dialect]
    quote = b'"' if dialect is COMMENTS else b""
    body = filler * 30 if dialect is not LENIENT else b'x"' * 45
    path.write_bytes(b"a,b\r\n1," + quote + body + quote + b"\r\n2,3\r\n")
    for size in range(1, 60):
        found = read(CsvReader(path, "in.csv", dialect, block_size=size, max_record_bytes=40))
        assert found.rows == {2: (3 + body.count(b"\n"), ("2", "3"))}
        assert {number: (line, reason) for number, (line, reason, _) in found.rejects.items()} == {
            1: (2, Reason.TOO_LONG)
        }


# Against Python's csv module

DIALECTS = st.builds(
    Dialect,
    delimiter=st.sampled_from(",;\t"),
    quote=st.sampled_from(['"', '"', "'", ""]),
    header=st.just(False),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-16", "shift_jis", "gb18030"]),
    escape=st.sampled_from(["\\", "\\", "!", ""]),
    doubled_quotes=st.booleans(),
    strict_quotes=st.booleans(),
)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Dialect, str, int]:
    """A dialect, the text of a file, and the size of the blocks in which it is read."""
    dialect = draw(DIALECTS)
    d, q, e = dialect.delimiter, dialect.quote or '"', dialect.escape or "\\"
    pieces = [d, d, q, q, q + q, e, e + q, e + d, e + e, "\n", "\r\n", "\r", "b", "ソ", f"{q}b{d}{e}{q}\n{q}", "bb"]
    text = "".join(draw(st.lists(st.sampled_from(pieces), max_size=30)))
    return dialect, draw(st.sampled_from([f"b{d}c\n", f"b{d}c{d}d\n", "b\n"])) + text, draw(st.integers(1, 40))


def by_csv_module(text: str, dialect: Dialect) -> list[list[str]] | None:
    lines = csv.reader(
        # Behind an escaped line end it takes a last record without a line end for one that is cut off.
        io.StringIO(text if text.endswith(("\r", "\n")) else text + "\n", newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        escapechar=dialect.escape or None,
        doublequote=dialect.doubled_quotes,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        strict=True,
    )
    try:
        return list(lines)
    except csv.Error:
        return None


def has_loose_quote(text: str, dialect: Dialect) -> bool:
    """Whether a quote does not enclose a field, which the csv module takes for text, or text is behind one.

    Behind a closing quote it takes text where quotes are not doubled. Lenient, only such a quote is loose.
    """
    if not dialect.quote:
        return False
    d, q = re.escape(dialect.delimiter), re.escape(dialect.quote)
    text = re.sub(rf"{re.escape(dialect.escape)}(?:\r\n|.)", "xx", text, flags=re.DOTALL) if dialect.escape else text
    inner = f"(?:[^{q}]|{q}{q})*" if dialect.doubled_quotes else f"[^{q}]*"
    rest = re.sub(f"(?:(?<=^)|(?<=[{d}\r\n])){q}{inner}{q}(?=[{d}\r\n]|$)", "", text, flags=re.ASCII)
    if dialect.strict_quotes:
        return dialect.quote in rest
    return not dialect.doubled_quotes and re.search(f"(?:^|(?<=[{d}\r\n])){q}", rest) is not None


def has_odd_escape(text: str, dialect: Dialect) -> bool:
    """Whether an escape is before what needs none: the csv module drops it, and parts an escaped CR LF."""
    if not dialect.escape:
        return False
    e = re.escape(dialect.escape)
    known = re.escape(dialect.escape + dialect.delimiter + dialect.quote)
    return re.search(rf"(?<!{e})(?:{e}{e})*{e}(?:[^{known}\r\n]|\r\n|[\r\n]?\Z)", text) is not None


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs())
@example((BACKSLASH, 'b,c\n"b\\"\n",x\n', 3))
@example((LENIENT, 'b,c\nb"b,"x"\n', 2))
def test_any_text_in_any_dialect_is_read_as_the_csv_module_reads_it_or_rejected(
    tmp_path: Path, given_input: tuple[Dialect, str, int]
) -> None:
    dialect, text, size = given_input
    dialect = replace(dialect, header=False)
    found = read_in_all_ways(tmp_path / "in.csv", text.encode(dialect.encoding), dialect, [size])
    records = by_csv_module(text, dialect)
    if has_odd_escape(text, dialect):
        return
    if records is None or has_loose_quote(text, dialect):
        assert any(reason is Reason.QUOTE for _, reason, _ in found.rejects.values())
        return
    width = len(records[0])
    expected = {number: record or [""] for number, record in enumerate((r for r in records if r or width == 1), 1)}
    assert {number for number, record in expected.items() if len(record) != width} == set(found.rejects)
    given_rows = {number: [value or "" for value in row] for number, (_, row) in found.rows.items()}
    assert given_rows == {number: record for number, record in expected.items() if len(record) == width}


DIRTY = st.lists(st.sampled_from([*(b'"",,,a#\\\\\n\n\r\xff\xf9\0')]), max_size=60).map(bytes)
DIRTY_LINES = st.lists(
    st.sampled_from(
        [b"1,2\n", b'# "x\n', b"#\\\n", b'"a\n#b",2\n', b'1"x,2\n', b"\\,,2\r\n", b'"u,1\n', b'x\\"\n,"2"\r']
    )
).map(b"".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    DIALECTS,
    st.sampled_from(["", "#", "#a"]),
    st.sampled_from([b"a\n", b"a,b\n", b"#\na,b,c\r\n"]),
    DIRTY | DIRTY_LINES,
    st.integers(1, 40),
    st.sampled_from([7, 40, 1 << 24]),
)
def test_any_bytes_in_any_dialect_are_the_same_in_any_blocks(
    tmp_path: Path, dialect: Dialect, comment: str, header: bytes, content: bytes, size: int, most_bytes: int
) -> None:
    dialect = replace(dialect, comment=comment, header=True, encoding="utf-8", delimiter=",")
    try:
        read_in_all_ways(tmp_path / "in.csv", header + content, dialect, [size], most_bytes)
    except SourceError:
        return


TEXTS = st.text(st.sampled_from("ab,;\"\n\r '\\#é😀\ufeff"), max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(["", "", '# "x\n', "#\\\r\n", "\n"])), max_size=8),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-16", "gb18030"]),
    st.integers(1, 60),
)
def test_what_the_csv_module_writes_with_escapes_is_read_between_comments(
    tmp_path: Path, rows: list[tuple[str, str, str]], all_quoted: bool, encoding: str, size: int
) -> None:
    text, expected = '# "\na,b\n', {}
    for number, (first, second, between) in enumerate(rows, 1):
        text += between
        target = io.StringIO()
        writer = csv.writer(
            target, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL, escapechar="\\", doublequote=False
        )
        writer.writerow([first, second])
        line = 1 + len(re.findall("\r\n?|\n", text))
        written = target.getvalue()
        text += ("\\" if written.startswith("#") else "") + written
        expected[number] = (line, (first, second))
    dialect = Dialect(escape="\\", doubled_quotes=False, comment="#", encoding=encoding, null=())
    found = read_in_all_ways(tmp_path / "in.csv", text.encode(encoding), dialect, [size])
    assert (found.rows, found.rejects) == (expected, {})
