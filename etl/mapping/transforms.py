"""``transform``: a function of the user's between source and mapping, for what a config cannot say.

It gets and returns Arrow record batches. A column ``etl_record`` has the number of each record and goes with the rows
through whatever Arrow does to them, so that it is known afterwards which were left out.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.errors import ConfigError, RecordErrors, TransformError
from etl.mapping.conversion import Refused
from etl.records import Reason, RecordBatch

NUMBERS = "etl_record"

Function = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Transformed:
    """What is left of a record batch: ``refused`` has the numbers of the records that the function refuses."""

    records: RecordBatch
    refused: Mapping[int, Refused]


@dataclass(frozen=True, slots=True)
class Transform:
    """A user's function, called ``name`` in the config, for a source at ``path``; ``schema`` is what it returns."""

    name: str
    path: str
    function: Function
    schema: pa.Schema

    def apply(self, records: RecordBatch) -> Transformed:
        """The records as the function returns them.

        A RecordErrors refuses the records that it names, and the function is called again with the others. Raises
        TransformError for any other exception, and for a result that is not what was planned.
        """
        given = records.columns.append_column(NUMBERS, pa.array(records.numbers, pa.int64()))
        refused: dict[int, Refused] = {}
        while given.num_rows:
            try:
                returned = self.function(given)
            except RecordErrors as errors:
                named = self._named(given, errors)
                refused |= named
                numbers = given.column(NUMBERS).to_numpy()
                given = given.filter(pa.array(~np.isin(numbers, list(named))))
            except MemoryError:
                raise
            except (Exception, SystemExit) as error:
                raise self._failed(given, f"raised {_shown(error)}") from error
            else:
                return Transformed(self._records(records, given, returned), refused)
        return Transformed(_chosen(records, _no_records(self.schema), np.empty(0, np.int64)), refused)

    def _named(self, given: pa.RecordBatch, errors: RecordErrors) -> dict[int, Refused]:
        numbers = set(given.column(NUMBERS).to_pylist())
        if not errors.messages or not numbers.issuperset(errors.messages):
            raise self._failed(given, "raised RecordErrors for records that it was not given")
        return {number: Refused(Reason.TRANSFORM, _storable(message)) for number, message in errors.messages.items()}

    def _records(self, records: RecordBatch, given: pa.RecordBatch, returned: object) -> RecordBatch:
        problem = _problem(returned, self.schema) or _numbers_problem(given, returned)
        if problem:
            raise self._failed(given, problem)
        assert isinstance(returned, pa.RecordBatch)
        return _chosen(records, returned.select(self.schema.names), returned.column(NUMBERS).to_numpy())

    def _failed(self, given: pa.RecordBatch, what: str) -> TransformError:
        first, last = given.column(NUMBERS)[0].as_py(), given.column(NUMBERS)[-1].as_py()
        which = f"record {first:,}" if first == last else f"records {first:,} to {last:,}"
        return TransformError(
            f'transform = "{self.name}" {what} for {which} of {self.path}; the open transaction was rolled back.',
            "Mend the function, or let it raise etl.RecordErrors to refuse single records, "
            "and run the same command again.",
        )


def plan_transform(name: str, function: Function, source: pa.Schema, path: str) -> Transform:
    """What the function returns for a source, learnt by calling it without records.

    Raises ConfigError if that fails, or returns no record batch with the numbers of the records.
    """
    if NUMBERS in source.names:
        raise ConfigError(f'the source has a column "{NUMBERS}", which transform adds by itself', "Rename it.")
    given = source.append(pa.field(NUMBERS, pa.int64()))
    what = f'transform = "{name}", called without records to learn its columns,'
    try:
        returned = function(_no_records(given))
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{what} raised {_shown(error)}", "Mend the function.") from error
    problem = _problem(returned, None)
    if problem:
        raise ConfigError(f"{what} {problem}", "Mend the function.")
    schema = pa.schema([field for field in returned.schema if field.name != NUMBERS])
    return Transform(name, path, function, schema)


def _problem(returned: object, planned: pa.Schema | None) -> str | None:
    """Why what the function returned cannot be taken, as the end of a sentence."""
    if not isinstance(returned, pa.RecordBatch):
        return f"returned {_name_of(type(returned))} and no pyarrow.RecordBatch"
    names = returned.schema.names
    if len(set(names)) < len(names):
        return "returned two columns of one name"
    if NUMBERS not in names or returned.schema.field(NUMBERS).type != pa.int64():
        return f'returned no column "{NUMBERS}" with the numbers of the records (int64)'
    return None if planned is None else _difference(returned.schema, planned)


def _difference(returned: pa.Schema, planned: pa.Schema) -> str | None:
    for name in returned.names:
        if name not in planned.names and name != NUMBERS:
            return f'returned a column "{name}", which it did not when it was called without records,'
    for field in planned:
        if field.name not in returned.names:
            return f'returned no column "{field.name}", as it did when it was called without records,'
        found = returned.field(field.name).type
        if found != field.type:
            return (
                f'returned the column "{field.name}" as {found}, but as {field.type} when it was called without '
                "records (name the type, as in pyarrow.array(values, pyarrow.string())),"
            )
    return None


def _numbers_problem(given: pa.RecordBatch, returned: pa.RecordBatch) -> str | None:
    numbers, known = returned.column(NUMBERS), given.column(NUMBERS).to_numpy()
    if numbers.null_count or not np.isin(numbers.to_numpy(), known).all():
        return f'returned a number in "{NUMBERS}" that it was not given'
    if (np.diff(numbers.to_numpy()) <= 0).any():
        return "returned a record twice, or records in another order,"
    try:
        returned.validate()
    except pa.ArrowInvalid:
        return "returned a record batch that is damaged"
    return None


def _no_records(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def _chosen(records: RecordBatch, columns: pa.RecordBatch, numbers: NDArray[np.int64]) -> RecordBatch:
    """The records with these numbers and columns."""
    places = np.searchsorted(records.numbers, numbers)
    lines = None if records.lines is None else records.lines[places]
    return replace(records, columns=columns, numbers=numbers, lines=lines)


def _shown(error: BaseException) -> str:
    """The exception without its words, which may show data, and the line of the user's file that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
    place = f" in {frames[0].name} ({frames[0].filename.rpartition('/')[2]}, line {frames[0].lineno})" if frames else ""
    return f"{_name_of(type(error))}{place}"


def _name_of(type_: type) -> str:
    return type_.__name__ if type_.__module__ == "builtins" else f"{type_.__module__}.{type_.__name__}"


def _storable(message: object) -> str:
    return str(message).encode(errors="backslashreplace").decode().replace("\0", "\\x00")
