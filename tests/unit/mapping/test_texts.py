"""Texts that stay texts, or nearly."""

from __future__ import annotations

import json
import uuid

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.mapping.kinds import conversion_of_texts
from etl.mapping.texts import parse_uuid, sound_texts, uuids_of_bytes
from etl.records import ColumnType, Kind, Reason

CANONICAL = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def convert(text: str, column: ColumnType) -> object:
    converted = conversion_of_texts(column)(pa.array([text]))
    return converted.refused[0].reason if converted.refused else converted.values[0].as_py()


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.CHAR])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", "abc"),
        ("äöü", "äöü"),
        (" a ", " a "),
        ("", ""),
        ("abcd", Reason.TOO_LONG),
        ("abc ", Reason.TOO_LONG),
    ],
)
def test_text_is_never_trimmed_and_counted_in_characters(kind: Kind, text: str, expected: object) -> None:
    assert convert(text, ColumnType(kind, length=3)) == expected


def test_text_that_fits_is_not_copied() -> None:
    texts = pa.array(["a", None, "b"])
    values = conversion_of_texts(ColumnType(Kind.TEXT, length=3))(texts).values
    assert values.buffers()[2].address == texts.buffers()[2].address


@pytest.mark.parametrize(("text", "expected"), [("new", "new"), ("New", Reason.TYPE), (" new", Reason.TYPE)])
def test_enum_takes_its_labels_to_the_letter(text: str, expected: object) -> None:
    assert convert(text, ColumnType(Kind.ENUM, labels=("new", "done"))) == expected


@pytest.mark.parametrize("text", ["", " x ", "{1,2}", "(1,2)"])
def test_other_is_left_to_the_database(text: str) -> None:
    assert convert(text, ColumnType(Kind.OTHER)) == text


@pytest.mark.parametrize(
    "text",
    [
        CANONICAL,
        CANONICAL.upper(),
        f"  {CANONICAL} ",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
    ],
)
def test_uuids_become_canonical(text: str) -> None:
    assert convert(text, ColumnType(Kind.UUID)) == CANONICAL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        CANONICAL[:-1],
        "{" + CANONICAL,
        CANONICAL + "}",
        "a0-eebc999c0b4ef8bb6d6bb9bd380a11",
        CANONICAL + "-",
    ],
)
def test_no_uuid(text: str) -> None:
    assert convert(text, ColumnType(Kind.UUID)) is Reason.TYPE


@given(ids=st.lists(st.uuids()), write=st.sampled_from([str, lambda i: i.hex, lambda i: str(i).upper()]))
def test_uuids_of_any_form_and_of_bytes(ids: list[uuid.UUID], write: object) -> None:
    assert callable(write)
    expected = [str(i) for i in ids]
    texts = pa.array([None, *map(write, ids)], pa.string())[1:]
    assert conversion_of_texts(ColumnType(Kind.UUID))(texts).values.to_pylist() == expected
    cells = pa.array([None, *(i.bytes for i in ids)], pa.binary(16))
    assert uuids_of_bytes(cells).values.to_pylist() == [None, *expected]
    assert uuids_of_bytes(cells[1:]).values.to_pylist() == expected
    assert [parse_uuid(write(i)) for i in ids] == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2.50, -0, 1e999, null, true]}',
        "1" * 5000,
        ' {"a":1, "a":2} ',
        '"\\ud83d\\ude00 \\\\u0000 \\\\ud800"',
        '"\N{GRINNING FACE}"',
        "null",
    ],
)
def test_json_is_kept_to_the_byte(text: str) -> None:
    assert convert(text, ColumnType(Kind.JSON)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NaN",
        "[Infinity]",
        "{'a': 1}",
        "[1,]",
        "01",
        "1 2",
        '"\t"',
        '"\\u0000"',
        '"\\ud800"',
        '"\\ude00\\ud83d"',
        "[" * 100_000,
        "\ufeff1",
    ],
)
def test_no_json(text: str) -> None:
    assert convert(text, ColumnType(Kind.JSON)) is Reason.TYPE


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé\\u\"'/\n"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab\\"), inner),
    max_leaves=8,
)


@given(value=JSON_VALUES, ascii_only=st.booleans())
def test_whatever_json_writes_is_json(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert convert(text, ColumnType(Kind.JSON)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", b"abc"),
        ("é", b"\xc3\xa9"),
        ("", b""),
        ("\\x", b""),
        ("\\x00fF", b"\x00\xff"),
        ("\\x 00 \nff\t", b"\x00\xff"),
        ("a\\\\b\\001c\\377", b"a\\b\x01c\xff"),
        ("\\x0", Reason.TYPE),
        ("\\x0 0", Reason.TYPE),
        ("\\x0g", Reason.TYPE),
        ("\\X00", Reason.TYPE),
        ("\\400", Reason.TYPE),
        ("\\12", Reason.TYPE),
        ("a\\", Reason.TYPE),
        (" \\x00", Reason.TYPE),
    ],
)
def test_bytes(text: str, expected: object) -> None:
    assert convert(text, ColumnType(Kind.BYTES)) == expected


@given(data=st.binary())
def test_bytes_survive_both_notations(data: bytes) -> None:
    assert convert("\\x" + data.hex(), ColumnType(Kind.BYTES)) == data
    assert convert("".join(f"\\{byte:03o}" for byte in data), ColumnType(Kind.BYTES)) == data


def test_texts_that_no_database_takes_are_refused_one_by_one() -> None:
    cells = pa.array([b"good", b"a\0b", b"\xff", None, b"good too"]).view(pa.string())
    sound = sound_texts(cells)
    assert sound.values.to_pylist() == ["good", None, None, None, "good too"]
    assert {place: why.reason for place, why in sound.refused.items()} == {
        1: Reason.ENCODING,
        2: Reason.ENCODING,
    }


def test_bytes_under_a_null_and_outside_a_slice_do_no_harm() -> None:
    cells = pa.array([b"\xff", b"ok", b"\0"]).view(pa.string())[1:2]
    assert sound_texts(cells).refused == {}
    assert sound_texts(cells).values.to_pylist() == ["ok"]
