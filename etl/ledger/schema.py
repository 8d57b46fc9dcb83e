"""Making the ledger's tables, or bringing older ones up to date by Alembic's steps in ``migrations/versions``.

A new ledger is made from the models and stamped with the newest version, as Alembic's cookbook has it ("Building an Up
to Date Database from Scratch"); a test holds the models against the steps.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from etl.errors import TargetMismatch
from etl.ledger.models import Base

HEAD = "0002"  # the newest step; a test holds it against migrations/versions
VERSION_TABLE = "etl_version"

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x65746C_6C6467  # "etl" "ldg": one step at a time, whoever comes first


def ledger_version(connection: Connection, schema: str | None) -> str | None:
    """The version of the ledger in ``schema``; None where there is none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE, schema):
        return None
    table = sa.table(VERSION_TABLE, sa.column("version_num"), schema=schema)
    return connection.scalar(sa.select(table.c.version_num))


def upgrade_ledger(connection: Connection, schema: str | None) -> None:
    """Create the ledger's tables, or bring older ones up to date, in the connection's transaction.

    Raises TargetMismatch where a newer etl has been at work. Nothing is written where the ledger is up to date, so
    that a role without CREATE can go on with a ledger that somebody else has made.
    """
    if ledger_version(connection, schema) == HEAD:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if _is_made_meanwhile(connection, schema):
            return
    version = ledger_version(connection, schema)  # again: another run may have been there while we waited
    if version is not None and version > HEAD:
        raise TargetMismatch(
            f"The ledger has version {version}, this etl knows {HEAD} at most.",
            "Use the newer etl that wrote it.",
        )
    _create_schema(connection, schema)
    if sa.inspect(connection).has_table(VERSION_TABLE, schema):
        _run_steps(connection, schema)
    else:
        _create_tables(connection, schema)


def _is_made_meanwhile(connection: Connection, schema: str | None) -> bool:
    """Whether another run has made the ledger while we waited, in a transaction that cannot see it.

    From REPEATABLE READ on, a transaction reads the catalog's tables as they were when it began, while the functions
    that look a name up, and the statements that use it, find what is there now.
    """
    name = connection.dialect.identifier_preparer.format_table(sa.table(VERSION_TABLE, schema=schema))
    is_there = connection.scalar(sa.text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name})
    return bool(is_there) and not sa.inspect(connection).has_table(VERSION_TABLE, schema)


def _create_schema(connection: Connection, schema: str | None) -> None:
    """CREATE SCHEMA IF NOT EXISTS would ask for the right to create even where there is nothing to do."""
    if schema is not None and not sa.inspect(connection).has_schema(schema):
        connection.execute(sa.schema.CreateSchema(schema))


def _create_tables(connection: Connection, schema: str | None) -> None:
    column = sa.Column("version_num", sa.String(32), primary_key=True)
    versions = sa.Table(VERSION_TABLE, sa.MetaData(), column, schema=schema)
    versions.create(connection, checkfirst=False)
    Base.metadata.create_all(connection, checkfirst=False)
    connection.execute(versions.insert().values(version_num=HEAD))


def _run_steps(connection: Connection, schema: str | None) -> None:
    # Imported here: Alembic costs half a second, which only a run that has something to bring up to date needs.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes.update(connection=connection, schema=schema, version_table=VERSION_TABLE)
    command.upgrade(config, "head")
