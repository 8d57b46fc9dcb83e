"""Keys of files: which values are different, however many there are and in whatever batches they come."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.discovery.profiles import Distinct, hashes_of

VALUES = st.one_of(
    st.tuples(st.just(pa.string()), st.lists(st.text("aé\0 1", max_size=5), max_size=30)),
    st.tuples(st.just(pa.int64()), st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 20), max_size=30)),
    st.tuples(st.just(pa.date32()), st.lists(st.dates(dt.date(2024, 1, 1), dt.date(2024, 2, 1)), max_size=30)),
    st.tuples(st.just(pa.timestamp("us")), st.lists(st.datetimes(), max_size=30)),
)


def distinct(values: list[Any], type_: pa.DataType, size: int) -> bool:
    """Whether they are found to be different, handed over so many at a time."""
    seen = Distinct()
    for start in range(0, len(values), size):
        if not seen.add(hashes_of(pa.array(values[start : start + size], type_))):
            return False
    return seen.is_distinct()


@settings(max_examples=100)
@given(VALUES, st.integers(1, 31))
def test_values_are_found_different_exactly_if_they_are(typed, size):
    type_, values = typed

    assert distinct(values, type_, size) == (len(set(values)) == len(values))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 40)), st.lists(st.integers(0, 40)))
def test_values_are_found_among_others_exactly_if_they_are_there(keys, values):
    seen = Distinct()
    for key in sorted(set(keys)):
        seen.add(hashes_of(pa.array([key], pa.int64())))

    assert seen.has_all(hashes_of(pa.array(values, pa.int64()))) == (set(values) <= set(keys))


@pytest.mark.parametrize("values", [["a", "aa", "", "ab", "ba"], [f"{place:x}" for place in range(100_000)]])
def test_texts_that_differ_have_hashes_that_differ(values):
    assert len(np.unique(hashes_of(pa.array(values)))) == len(values)


def test_a_slice_has_the_hashes_of_its_values():
    texts = pa.array(["x", "abc", "d", "abc"])

    assert hashes_of(texts.slice(1, 2)).tolist() == hashes_of(pa.array(["abc", "d"])).tolist()
