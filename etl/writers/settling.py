"""Finding the verdict of each row of a piece on the server: the row loop's INSERTs, without a round trip for each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg import Cursor, sql

from etl.database import SKIPPED, CatalogEntry, Duplicates, Target, reason_of
from etl.database.copying import BINARY_TYPES, copy_in, emptied, quoted
from etl.records import Cause, Refused
from etl.writers.upsert import OLD, conflict_clause

# Staged as what they are: nothing that the mapper lets through can fail on the way in. The others are staged as text,
# so that what the server refuses to read is refused in the loop, for its own row.
_STAGED_AS_THEY_ARE = BINARY_TYPES - {"text", "character varying", "bpchar", "citext", "json", "jsonb"}

_FUNCTION = """
CREATE FUNCTION {}() RETURNS TABLE (etl_place int, etl_state text, etl_constraint text, etl_column text,
                                    etl_message text) LANGUAGE plpgsql AS {}
"""
# The EXCEPTION clause names categories: class 23 and class 22 of the SQLSTATEs. Whatever else happens ends the load.
_LOOP = """
#variable_conflict use_column
DECLARE etl_row record;
BEGIN
    FOR etl_row IN SELECT * FROM {stage} ORDER BY etl_ordinal LOOP
        BEGIN
            INSERT INTO {target} AS {old} ({columns}) VALUES ({values}) {conflict};
        EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
            GET STACKED DIAGNOSTICS etl_state = RETURNED_SQLSTATE, etl_constraint = CONSTRAINT_NAME,
                                    etl_column = COLUMN_NAME, etl_message = MESSAGE_TEXT;
            etl_place := etl_row.etl_ordinal;
            RETURN NEXT;
        END;
    END LOOP;
END
"""
_BY_CAUSE = """
SELECT array_agg(etl_place ORDER BY etl_place), etl_state, etl_constraint, etl_column, etl_message
FROM {}() GROUP BY 2, 3, 4, 5
"""


@dataclass(frozen=True, slots=True)
class ServerSettler:
    """Settles pieces of ``target`` in a loop on the server, a subtransaction for each row."""

    target: Target
    catalog: CatalogEntry
    duplicates: Duplicates = SKIPPED

    def settle(self, cursor: Cursor[Any], rows: pa.RecordBatch) -> tuple[Refused, ...]:
        """Insert ``rows`` in order; those that are refused, by their place in ``rows``.

        The piece is staged in a temporary table, so that a refused row leaves nothing in the target but, where the
        table had taken it before an index refused it, one dead tuple.
        """
        names = rows.schema.names
        stage = sql.Identifier("pg_temp", _stage_name(self.target.name, names, self.duplicates))
        self._make_stage(cursor, stage, names)
        ordinals = pa.array(np.arange(rows.num_rows, dtype=np.int32))
        staged = pa.RecordBatch.from_arrays([ordinals, *rows.columns], names=["etl_ordinal", *_staged_names(names)])
        copy_in(cursor, stage, staged, ["integer", *self._staged_types(names)])
        return tuple(
            Refused(np.array(places), Cause(reason_of(state), message, state, constraint or None, column or None))
            for places, state, constraint, column, message in cursor.execute(sql.SQL(_BY_CAUSE).format(stage))
        )

    def _make_stage(self, cursor: Cursor[Any], stage: sql.Identifier, names: Sequence[str]) -> None:
        """Empty the stage, or make it with its function; both go with the session, or with a rollback."""
        if emptied(cursor, stage):
            return
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_))
            for name, type_ in zip(_staged_names(names), self._staged_types(names), strict=True)
        )
        cursor.execute(sql.SQL("CREATE TEMP TABLE {} (etl_ordinal int, {})").format(stage, columns))
        loop = sql.SQL(_LOOP).format(
            stage=stage,
            target=quoted(self.target.table),
            old=sql.Identifier(OLD),
            conflict=sql.SQL(self._conflict(names)),
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
            values=sql.SQL(", ").join(map(self._value, _staged_names(names), names)),
        )
        # As a literal: a name may hold any text, so also whatever tag a dollar quote would have.
        cursor.execute(sql.SQL(_FUNCTION).format(stage, sql.Literal(loop.as_string(cursor))))

    def _conflict(self, names: Sequence[str]) -> str:
        return conflict_clause(self.target, self.duplicates, names) if self.duplicates.is_updating else ""

    def _staged_types(self, names: Sequence[str]) -> list[str]:
        return [self.catalog.types[name] if self._is_staged_as_it_is(name) else "text" for name in names]

    def _is_staged_as_it_is(self, name: str) -> bool:
        return self.catalog.types[name] in _STAGED_AS_THEY_ARE

    def _value(self, staged: str, name: str) -> sql.Composable:
        """The staged value; a text is read as the column's type, whose length the assignment then checks."""
        value = sql.SQL("etl_row.{}").format(sql.Identifier(staged))
        if self._is_staged_as_it_is(name):
            return value
        return sql.SQL("CAST({} AS {})").format(value, sql.SQL(self.catalog.types[name]))


def _stage_name(target: str, names: Sequence[str], duplicates: Duplicates) -> str:
    """One for each target, choice of columns, and what becomes of a duplicate."""
    facts = repr((target, *names, sorted(duplicates.changed(names)), duplicates.newer_by, duplicates.is_updating))
    facts += repr(duplicates.key.name if duplicates.key else None)
    return f"etl_piece_{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def _staged_names(names: Sequence[str]) -> list[str]:
    return [f"etl_{number}" for number in range(len(names))]
