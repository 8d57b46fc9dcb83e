"""What JSON lines mean, case by case, with the expected values written out; and beside Python's own json."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.mapping.kinds import choose_conversion
from etl.readers.jsonl import JsonLinesReader
from etl.records import ColumnType, Kind, Phase, Position, Reason, RecordBatch, Reject

Read = Callable[..., list[RecordBatch]]
BEGIN = Position()


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(content: bytes, *, name: str = "in.jsonl", start: Position = BEGIN, **options: Any) -> Any:
        (tmp_path / name).write_bytes(content)
        reader = JsonLinesReader(tmp_path / name, name, **options)
        return list(reader.batches(start, reader.schema.names))

    return read


def records(batches: list[RecordBatch]) -> dict[int, dict[str, str | None]]:
    """The cells that were given, by the number of their record, each as the source's own text."""
    return {
        number: {key: cell for key, cell in row.items() if cell is not None}
        for batch in batches
        for number, row in zip(batch.numbers.tolist(), batch.columns.to_pylist(), strict=True)
    }


def rejects(batches: list[RecordBatch]) -> list[Reject]:
    return [reject for batch in batches for reject in batch.rejects]


def refused(batches: list[RecordBatch]) -> list[tuple[int, int | None, Reason, str | None]]:
    return [(reject.record, reject.line, reject.reason, reject.raw) for reject in rejects(batches)]


def in_text_column(batch: RecordBatch, name: str) -> list[str | None]:
    column = batch.columns.column(name)
    texts: list[str | None] = choose_conversion(column.type, ColumnType(Kind.TEXT))(column).values.to_pylist()
    return texts


# Values


def test_each_value_is_its_own_text_to_the_byte(read: Read) -> None:
    line = b'{"a": 0.10, "b":1e400,"c":-0,"d":123456789012345678901234567890, "e": {"x" : [1, 2.0]}, "f":true}\n'
    assert records(read(line)) == {
        1: {
            "a": "0.10",
            "b": "1e400",
            "c": "-0",
            "d": "123456789012345678901234567890",
            "e": '{"x" : [1, 2.0]}',
            "f": "true",
        }
    }


def test_a_missing_key_and_a_null_are_null_and_an_empty_string_is_not(read: Read) -> None:
    (batch,) = read(b'{"a":null,"b":""}\n{"b":null}\n{"a":"null","b":"x"}\n')
    assert in_text_column(batch, "a") == [None, None, "null"]
    assert in_text_column(batch, "b") == ["", None, "x"]


def test_escapes_are_read_for_a_text_and_kept_for_json(read: Read) -> None:
    (batch,) = read(rb'{"a":"\u00e9\n\"\\\/ \ud83d\ude00"}' + b'\n{"a":"plain"}\n')
    assert in_text_column(batch, "a") == ['é\n"\\/ 😀', "plain"]
    assert batch.columns.column("a").to_pylist() == [r'"\u00e9\n\"\\\/ \ud83d\ude00"', '"plain"']


def test_a_text_with_an_escaped_nul_is_refused_by_the_mapper_alone(read: Read) -> None:
    (batch,) = read(b'{"a":"x\\u0000"}\n{"a":"y"}\n')
    column = batch.columns.column("a")
    converted = choose_conversion(column.type, ColumnType(Kind.TEXT))(column)
    assert converted.values.to_pylist() == [None, "y"]
    assert {place: why.reason for place, why in converted.refused.items()} == {0: Reason.ENCODING}


# Columns


def test_columns_are_the_keys_of_all_records_in_the_order_in_which_they_come(tmp_path: Path) -> None:
    lines = [b'{"b":1}'] + [b'{"a":1,"b":2}'] * 1000 + [b'{"z":1,"b":1}']
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    assert JsonLinesReader(tmp_path / "in.jsonl", "in.jsonl", block_size=64).schema.names == ["b", "a", "z"]


def test_a_line_that_is_refused_adds_no_column(read: Read) -> None:
    batches = read(b'{"a":1}\n{"b":1,"c"}\n')
    assert batches[0].columns.schema.names == ["a"]


def test_a_file_without_a_line_has_no_columns_and_no_records(read: Read) -> None:
    assert read(b"") == []
    assert read(b"\n \n\r\n") == []


def test_an_object_without_a_key_is_a_record_of_nulls_where_others_have_keys(read: Read) -> None:
    assert records(read(b'{}\n{"a":1}\n')) == {1: {}, 2: {"a": "1"}}
    assert [reject.reason for reject in rejects(read(b"{}\n"))] == [Reason.SYNTAX]


@pytest.mark.parametrize("content", [b'[{"a":1},\n{"a":2}]', b'{\n"a": 1\n}\n', b"a,b\n1,2\n", b"\xff\xfe{\x00}\x00"])
def test_a_file_without_an_object_in_a_line_is_an_error(read: Read, content: bytes) -> None:
    with pytest.raises(SourceError, match=r"No line of in\.jsonl is a JSON object\. Write one object a line"):
        read(content)


def test_more_keys_than_a_table_can_have_columns_are_an_error(read: Read) -> None:
    with pytest.raises(SourceError, match="more than 32,767 different keys"):
        read(b"\n".join(b'{"k%d":1}' % number for number in range(33_000)))


# Records and lines


@pytest.mark.parametrize("block_size", [1, 7, 1 << 20])
def test_blank_lines_are_no_records_and_lines_are_physical_ones(read: Read, block_size: int) -> None:
    batches = read(b'\xef\xbb\xbf\n{"a":1}\r\n \n{"a":2}\n\n\n  {"a":3}  ', block_size=block_size)
    assert records(batches) == {1: {"a": "1"}, 2: {"a": "2"}, 3: {"a": "3"}}
    assert [line for batch in batches for line in (batch.lines if batch.lines is not None else [])] == [2, 4, 7]


@pytest.mark.parametrize("block_size", [5, 1 << 20])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a":1', Reason.SYNTAX),
        (b'{"a":1}}', Reason.SYNTAX),
        (b'{"a":1}{"a":2}', Reason.SYNTAX),
        (b'{"a":01}', Reason.SYNTAX),
        (b'{"a":NaN}', Reason.SYNTAX),
        (b"{'a':1}", Reason.SYNTAX),
        (b'{"a":1,}', Reason.SYNTAX),
        (b"[1]", Reason.SYNTAX),
        (b"null", Reason.SYNTAX),
        (b'{"a":1,"a":2}', Reason.SYNTAX),
        (b'{"a":1,"\\u0061":1}', Reason.SYNTAX),
        (b'{"a":"\\ud800"}', Reason.SYNTAX),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", Reason.SYNTAX),
        (b'{"a":"\xff"}', Reason.ENCODING),
        (b'{"a":"\x00"}', Reason.ENCODING),
        (b'{"a":"' + b"x" * 20_000 + b'"}', Reason.TOO_LONG),
    ],
)
def test_a_bad_line_costs_itself_and_no_neighbour(read: Read, line: bytes, reason: Reason, block_size: int) -> None:
    content = b'{"a":"before"}\n' + line + b'\n{"a":"after"}\n'
    batches = read(content, block_size=block_size, max_record_bytes=15_000)
    assert records(batches) == {1: {"a": '"before"'}, 3: {"a": '"after"'}}
    (reject,) = rejects(batches)
    assert (reject.record, reject.line, reject.phase, reject.reason) == (2, 2, Phase.READ, reason)


def test_messages_say_what_is_wrong_and_show_no_value(read: Read) -> None:
    batches = read(b'{"id":1,"x":{"id":2},"id":3}\n{"pin":12x}\n{"ok":1}\n')
    assert [reject.message for reject in rejects(batches)] == [
        'gives the key "id" more than once',
        "is no valid JSON: expected ',' or '}' (byte 9)",
    ]


def test_a_key_given_twice_within_a_value_is_the_affair_of_its_column(read: Read) -> None:
    assert records(read(b'{"a":{"x":1,"x":2},"b\\"":"q\\""}\n')) == {1: {"a": '{"x":1,"x":2}', 'b"': '"q\\""'}}


def test_raw_is_the_line_with_bytes_that_are_no_text_written_out(read: Read) -> None:
    assert refused(read(b'{"a":"\xff\xc3\xa9"}\r\n{"a":"b\x00"}\n{"a":1}'))[:2] == [
        (1, 1, Reason.ENCODING, '{"a":"\\xffé"}'),
        (2, 2, Reason.ENCODING, '{"a":"b\\x00"}'),
    ]


def test_an_endless_line_is_one_reject_whose_raw_is_cut_off(read: Read) -> None:
    batches = read(b'{"a":1}\n' + b"x" * 300_000 + b'\n{"a":2}', block_size=1000, max_record_bytes=5000)
    (reject,) = rejects(batches)
    assert (reject.line, reject.reason, reject.raw) == (2, Reason.TOO_LONG, "x" * 5000)
    assert reject.message.endswith("(raw is cut off after 5000 bytes)")
    assert records(batches) == {1: {"a": "1"}, 3: {"a": "2"}}
    assert batches[-1].lines is not None
    assert batches[-1].lines.tolist() == [3]


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
@pytest.mark.parametrize("block_size", [1, 30])
def test_reading_goes_on_at_every_position(read: Read, name: str, block_size: int) -> None:
    lines = [b'\xef\xbb\xbf{"a":1}', b"", b"bad", b'{"a":"' + b"x" * 90 + b'"}', b'{"b":"\xc3\xa9"}\r', b'{"a":5}']
    content = gzip.compress(b"\n".join(lines)) if name.endswith("gz") else b"\n".join(lines)
    options = {"name": name, "block_size": block_size, "max_record_bytes": 60}
    whole = read(content, **options)
    for end in [batch.end for batch in whole]:
        rest = read(content, start=end, **options)
        assert records(rest) == {number: row for number, row in records(whole).items() if number > end.record}
        assert refused(rest) == [reject for reject in refused(whole) if reject[0] > end.record]


def test_a_file_that_is_cut_off_is_an_error(read: Read) -> None:
    with pytest.raises(SourceError, match=r"in\.jsonl\.gz cannot be read"):
        read(gzip.compress(b'{"a":1}\n' * 1000)[:-9], name="in.jsonl.gz")


@pytest.mark.long
def test_memory_stays_small_for_small_records_and_many_columns(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a":1}\n' * 200_000 + b"\n".join(b'{"k%d":1}' % number for number in range(1000)))
    tracemalloc.start()
    reader = JsonLinesReader(path, "in.jsonl")
    read = sum(batch.read for batch in reader.batches(Position(), reader.schema.names[:30]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == 201_000
    assert peak < 120 * 2**20


# Beside Python's json


_TEXTS = st.text('ab"\\/\n\té\u2028😀\ud83d', max_size=4)
_PLAIN = st.sampled_from([None, True, False, 0, -1, 2**70, 1.5, 1e-7, 0.1]) | _TEXTS
_VALUES = _PLAIN | st.lists(_PLAIN, max_size=2) | st.dictionaries(_TEXTS, _PLAIN, max_size=2)
_OBJECTS = st.dictionaries(st.text('ab"\\é', max_size=2), _VALUES, max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_OBJECTS, min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from([(", ", ": "), (",", ":"), (" ,\t", " : ")]),
)
def test_every_value_is_what_json_reads(tmp_path_factory: Any, objects: Any, ascii_only: bool, marks: Any) -> None:
    path = tmp_path_factory.mktemp("json") / "in.jsonl"
    text = "\n".join(json.dumps(item, ensure_ascii=ascii_only, separators=marks) for item in objects)
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        reader = JsonLinesReader(path, "in.jsonl", block_size=50)
    except SourceError:
        assert all("\\ud" in line or "\ud83d" in line for line in text.split("\n"))
        return
    found: dict[int, dict[str, str | None]] = {}
    for batch in reader.batches(Position(), reader.schema.names):
        found.update(zip(batch.numbers.tolist(), batch.columns.to_pylist(), strict=True))
    for number, item in enumerate(objects, 1):
        if number in found:
            given_keys = {key: json.loads(cell) for key, cell in found[number].items() if cell is not None}
            assert given_keys == {key: value for key, value in item.items() if value is not None}
        else:
            line = text.split("\n")[number - 1]
            assert not item or "\\ud" in line or "\ud83d" in line


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=25) | st.text('{}[]",:\\u0d8e1-. \t', max_size=25).map(str.encode))
def test_no_line_is_taken_that_json_refuses(tmp_path_factory: Any, line: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.jsonl"
    line = line.replace(b"\n", b" ")
    path.write_bytes(b'{"a":1}\n' + line + b'\n{"a":2}\n')
    reader = JsonLinesReader(path, "fuzzed.jsonl")
    (batch,) = reader.batches(Position(), reader.schema.names)
    own = dict(zip(batch.lines.tolist() if batch.lines is not None else [], batch.columns.to_pylist(), strict=True))
    assert own[1]["a"] == "1"
    assert own[3]["a"] == "2"
    if 2 in own:
        read = json.loads(line.decode(), parse_constant=lambda name: pytest.fail(name))
        assert {key: json.loads(cell) for key, cell in own[2].items() if cell is not None} == {
            key: value for key, value in read.items() if value is not None
        }
    else:
        assert (len(batch.rejects) == 1) == bool(line.strip(b" \t\r"))
