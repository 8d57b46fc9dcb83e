"""A source as it is mapped: filtered and transformed, for who has to see its values before there is a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from etl.mapping.plan import Plan
from etl.mapping.rows import taken_records
from etl.records import Position, Reader, RecordBatch


@dataclass(frozen=True, slots=True)
class TakingReader:
    """Reads the records that ``plan`` takes, with the columns that its transform returns."""

    reader: Reader
    plan: Plan

    @property
    def schema(self) -> pa.Schema:
        return self.reader.schema if self.plan.transform is None else self.plan.transform.schema

    def batches(self, start: Position, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """As a reader does. Raises TransformError too, where the transform fails."""
        needed = self.plan.source_columns
        if self.plan.transform is None:
            needed = tuple(dict.fromkeys((*columns, *needed)))
        for records in self.reader.batches(start, needed):
            yield taken_records(records, self.plan)
