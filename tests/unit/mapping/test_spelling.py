"""Decimal commas, separators of thousands, words: read as the load says they are written, or refused."""

from __future__ import annotations

import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.mapping.conversion import Refused
from etl.mapping.kinds import Reading, conversion_of_texts
from etl.mapping.spelling import Spelling
from etl.records import ColumnType, Kind, Reason

INTEGER = ColumnType(Kind.INTEGER)
NUMERIC_10_2 = ColumnType(Kind.NUMERIC, precision=10, scale=2)
NUMERIC = ColumnType(Kind.NUMERIC)
DOUBLE = ColumnType(Kind.DOUBLE)
BOOLEAN = ColumnType(Kind.BOOLEAN)

COMMA = Spelling(",")
GERMAN = Spelling(",", ".")
ENGLISH = Spelling(".", ",")
SWISS = Spelling(".", "’")
FRENCH = Spelling(",", "\N{NARROW NO-BREAK SPACE}")
SPACES = Spelling(",", " ")


def convert(text: str, column: ColumnType, spelling: Spelling) -> object:
    converted = conversion_of_texts(column, Reading(spelling=spelling))(pa.array([text]))
    return converted.refused[0].reason if converted.refused else converted.values[0].as_py()


@pytest.mark.parametrize(
    ("text", "column", "spelling", "expected"),
    [
        ("1,5", NUMERIC_10_2, COMMA, Decimal("1.50")),
        ("-,5", NUMERIC_10_2, COMMA, Decimal("-0.50")),
        (" 7 ", NUMERIC_10_2, COMMA, Decimal("7.00")),
        ("1.5", NUMERIC_10_2, COMMA, Reason.TYPE),
        ("1.5,0", NUMERIC_10_2, COMMA, Reason.TYPE),
        ("1,5,0", NUMERIC_10_2, COMMA, Reason.TYPE),
        ("12,345", NUMERIC_10_2, COMMA, Decimal("12.35")),
        ("123456789,1", NUMERIC_10_2, COMMA, Reason.RANGE),
        ("1.234,5", NUMERIC_10_2, GERMAN, Decimal("1234.50")),
        ("1.234.567,89", NUMERIC_10_2, GERMAN, Decimal("1234567.89")),
        ("1234567,89", NUMERIC_10_2, GERMAN, Decimal("1234567.89")),
        ("+12.345", INTEGER, GERMAN, 12345),
        ("12.34", INTEGER, GERMAN, Reason.TYPE),
        ("12.34", NUMERIC_10_2, GERMAN, Reason.TYPE),
        ("1.2.3", INTEGER, GERMAN, Reason.TYPE),
        ("1.2.3", NUMERIC, GERMAN, Reason.TYPE),
        ("1234.567", INTEGER, GERMAN, Reason.TYPE),
        ("1.234567", INTEGER, GERMAN, Reason.TYPE),
        ("0.123", NUMERIC, GERMAN, Reason.TYPE),  # nobody groups it so: a decimal point, most likely
        ("1,234.567", NUMERIC, GERMAN, Reason.TYPE),
        (".123", INTEGER, GERMAN, Reason.TYPE),
        ("1..234", INTEGER, GERMAN, Reason.TYPE),
        ("1.234.", INTEGER, GERMAN, Reason.TYPE),
        ("3.000.000.000", INTEGER, GERMAN, Reason.RANGE),
        ("1.234,0", INTEGER, GERMAN, Reason.TYPE),
        ("1.234,5e2", DOUBLE, GERMAN, 123450.0),
        ("-Infinity", DOUBLE, GERMAN, -math.inf),
        ("1e400", DOUBLE, GERMAN, Reason.RANGE),
        ("1,234.5", DOUBLE, ENGLISH, 1234.5),
        ("1,5", DOUBLE, ENGLISH, Reason.TYPE),
        ("0x1F", INTEGER, ENGLISH, Reason.TYPE),
        ("12’345.6", NUMERIC_10_2, SWISS, Decimal("12345.60")),
        ("12\N{NARROW NO-BREAK SPACE}345,6", NUMERIC_10_2, FRENCH, Decimal("12345.60")),
        (" 12 345,6 ", NUMERIC_10_2, SPACES, Decimal("12345.60")),
        ("12  345", NUMERIC_10_2, SPACES, Reason.TYPE),
        ("1\N{ARABIC-INDIC DIGIT THREE}3", INTEGER, GERMAN, Reason.TYPE),
        ("1.234", ColumnType(Kind.TEXT), GERMAN, "1.234"),
        ("ja", BOOLEAN, Spelling(true_words=("ja", "J"), false_words=("nein",)), True),
        (" nein ", BOOLEAN, Spelling(true_words=("ja", "J"), false_words=("nein",)), False),
        ("j", BOOLEAN, Spelling(true_words=("ja", "J"), false_words=("nein",)), Reason.TYPE),
        ("true", BOOLEAN, Spelling(true_words=("ja", "J"), false_words=("nein",)), Reason.TYPE),
        ("1", INTEGER, Spelling(true_words=("0",), false_words=("1",)), 1),
    ],
)
def test_text_in_a_spelling(text: str, column: ColumnType, spelling: Spelling, expected: object) -> None:
    assert convert(text, column, spelling) == expected


def is_grouped(text: str, spelling: Spelling) -> bool:
    """By Python's own way to group: whether it would write the digits before the point so, with or without groups."""
    whole = text.lstrip("+-").split(spelling.decimal)[0]
    digits = whole.replace(spelling.thousands, "")
    return whole == digits or (digits.isdecimal() and whole == f"{int(digits):,}".replace(",", spelling.thousands))


@settings(max_examples=60)
@given(
    st.lists(
        st.decimals(-10_000_000, 10_000_000, places=2).map(lambda number: f"{number:,.2f}")
        | st.text("0123459.,.,-e", max_size=9),
        max_size=8,
    ),
    st.sampled_from([GERMAN, ENGLISH, COMMA]),
    st.sampled_from([INTEGER, NUMERIC_10_2, NUMERIC, DOUBLE]),
)
def test_number_is_what_python_groups_so_and_what_the_usual_spelling_gives(
    english: list[str], spelling: Spelling, column: ColumnType
) -> None:
    swapped = str.maketrans(".,", ",.") if spelling is not ENGLISH else {}
    texts = [text.translate(swapped) for text in english]
    usual = conversion_of_texts(column)
    converted = conversion_of_texts(column, Reading(spelling=spelling))(pa.array(texts, pa.string()))
    for place, text in enumerate(texts):
        marks = text.partition(spelling.decimal)[2]
        is_well_grouped = not spelling.thousands or (spelling.thousands not in marks and is_grouped(text, spelling))
        has_foreign_point = not spelling.thousands and "." in text
        plain = text.replace(spelling.thousands, "") if spelling.thousands else text
        expected = usual.exact(plain.replace(spelling.decimal, "."))
        if has_foreign_point or not is_well_grouped or isinstance(expected, Refused):
            assert place in converted.refused, text
        else:
            assert repr(converted.values[place].as_py()) == repr(pa.array([expected], usual.type)[0].as_py()), text


def test_refusal_says_how_numbers_are_written_and_not_what_the_cell_is() -> None:
    refused = conversion_of_texts(INTEGER, Reading(spelling=GERMAN))(pa.array(["98.76"])).refused[0]
    assert refused.message == (
        "not a number as [load.csv] says they are written: ',' before the decimals, "
        "'.' between all groups of three digits or none"
    )
