"""`transform`: what a user's function may do with records, and what it is told when it does something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import etl
from etl.errors import ConfigError, TransformError
from etl.mapping.transforms import Transform, plan_transform
from etl.records import Position, Reason, RecordBatch

Function = Callable[[pa.RecordBatch], Any]


def records(*names: str, first: int = 5) -> RecordBatch:
    columns = pa.RecordBatch.from_pydict({"name": pa.array(names, pa.string())})
    numbers = np.arange(first, first + len(names), dtype=np.int64)
    return RecordBatch(columns, numbers, numbers + 1, (), Position(first + len(names) - 1), 0)


def planned(function: Function) -> Transform:
    return plan_transform("m:f", function, records().columns.schema, "in/a.csv")


def apply(function: Function, *names: str) -> Any:
    return planned(function).apply(records(*names))


def test_columns_may_be_changed_and_added_and_records_left_out() -> None:
    def function(given: pa.RecordBatch) -> pa.RecordBatch:
        longer = given.filter(pc.greater(pc.utf8_length(given["name"]), 1))
        return longer.append_column("length", pc.utf8_length(longer["name"]))

    result = apply(function, "ab", "c", "def")
    assert result.records.columns.to_pylist() == [{"name": "ab", "length": 2}, {"name": "def", "length": 3}]
    assert result.records.numbers.tolist() == [5, 7]
    assert result.records.lines.tolist() == [6, 8]
    assert not result.refused
    assert planned(function).schema == pa.schema([("name", pa.string()), ("length", pa.int32())])


def test_the_order_of_columns_does_not_matter() -> None:
    result = apply(lambda given: given.select(["etl_record", "name"]), "a")
    assert result.records.columns.to_pylist() == [{"name": "a"}]


def test_records_that_it_names_are_refused_and_it_is_called_again_with_the_others() -> None:
    calls: list[list[int]] = []

    def function(given: pa.RecordBatch) -> pa.RecordBatch:
        calls.append(given["etl_record"].to_pylist())
        bad = given.filter(pc.equal(given["name"], "bad"))
        if bad.num_rows:
            raise etl.RecordErrors(dict.fromkeys(bad["etl_record"].to_pylist(), "no name\x00"))
        return given

    result = apply(function, "a", "bad", "b", "bad")
    assert calls == [[], [5, 6, 7, 8], [5, 7]]
    assert result.records.numbers.tolist() == [5, 7]
    assert {number: (why.reason, why.message) for number, why in result.refused.items()} == {
        6: (Reason.TRANSFORM, "no name\\x00"),
        8: (Reason.TRANSFORM, "no name\\x00"),
    }


def test_all_records_may_be_refused() -> None:
    def function(given: pa.RecordBatch) -> pa.RecordBatch:
        if given.num_rows:
            raise etl.RecordErrors(dict.fromkeys(given["etl_record"].to_pylist(), "no"))
        return given

    result = apply(function, "a", "b")
    assert (result.records.columns.num_rows, sorted(result.refused)) == (0, [5, 6])


def failing(what: Callable[[pa.RecordBatch], Any]) -> Function:
    """It does ``what`` with records, and is well without them."""
    return lambda given: what(given) if given.num_rows else given


def raise_(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda given: raise_(ValueError("secret")), "raised ValueError in <lambda> (test_transforms.py, line "),
        (lambda given: raise_(SystemExit(3)), "raised SystemExit"),
        (lambda given: raise_(etl.RecordErrors({99: "x"})), "raised RecordErrors for records that it was not given"),
        (lambda given: raise_(etl.RecordErrors({})), "raised RecordErrors for records that it was not"),
        (lambda given: None, "returned NoneType and no pyarrow.RecordBatch"),
        (lambda given: pa.Table.from_batches([given]), "returned pyarrow.lib.Table and no pyarrow.RecordBatch"),
        (lambda given: given.drop_columns(["etl_record"]), 'returned no column "etl_record" with the numbers'),
        (lambda given: given.drop_columns(["name"]), 'returned no column "name", as it did when it was called without'),
        (lambda given: given.append_column("more", given["name"]), 'returned a column "more", which it did not when'),
        (lambda given: given.append_column("name", given["name"]), "returned two columns of one name"),
        (lambda given: given.set_column(0, "name", given["etl_record"]), 'column "name" as int64, but as string when'),
        (lambda given: given.take([0, 0]), "returned a record twice, or records in another order,"),
        (lambda given: given.take([1, 0]), "records in another order,"),
        (lambda given: given.set_column(1, "etl_record", pa.array([1, 2])), 'a number in "etl_record" that it was not'),
        (lambda given: given.set_column(1, "etl_record", pa.nulls(2, pa.int64())), 'a number in "etl_record" that'),
    ],
)  # fmt: skip
def test_what_fails_for_records_names_function_and_records_and_no_data(what: Function, told: str) -> None:
    with pytest.raises(TransformError) as caught:
        apply(failing(what), "a", "b")
    message = str(caught.value)
    assert message.startswith('transform = "m:f" ')
    assert told in message
    assert "for records 5 to 6 of in/a.csv; the open transaction was rolled back." in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda given: raise_(KeyError("x")), "called without records to learn its columns, raised KeyError in "),
        (lambda given: 3, "called without records to learn its columns, returned int and no pyarrow.RecordBatch"),
        (lambda given: given.select(["name"]), 'returned no column "etl_record" with the numbers of the records'),
    ],
)
def test_a_function_that_fails_without_records_is_a_config_error(function: Function, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(function)
    assert told in str(caught.value)


def test_a_source_cannot_have_a_column_of_the_numbers_name() -> None:
    with pytest.raises(ConfigError, match='a column "etl_record", which transform adds by itself'):
        plan_transform("m:f", lambda given: given, pa.schema([("etl_record", pa.string())]), "a.csv")


def test_memory_that_is_not_there_is_told_as_that() -> None:
    with pytest.raises(MemoryError):
        apply(failing(lambda given: raise_(MemoryError())), "a")
