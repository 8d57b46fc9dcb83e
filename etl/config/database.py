"""``[database]``: where the tables and the ledger are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from etl.config.values import Model


class Database(Model):
    """``[database]``: where the tables and the ledger are."""

    url: str = Field(
        repr=False,  # it may hold a password
        description="SQLAlchemy URL of a SQLite file or a PostgreSQL database; `postgresql://` means the driver "
        "psycopg 3. A SQLite file has to be there; `?timeout=SECONDS` is how long another writer is waited for (30). "
        "What libpq takes may be added, such as `?sslmode=verify-full` ([TLS](permissions.md#tls)) or "
        "`?options=-c%20lock_timeout%3D10s`; `connect_timeout` is 10 s, a silent connection is given up after a "
        "minute. Passwords are better kept in the environment, in `~/.pgpass` or in a service file "
        "([how](permissions.md#passwords)), and an `@` in one is `%40`",
        examples=["postgresql://db.example/shop"],
    )
    isolation_level: Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] | None = Field(
        default=None,
        description="`READ COMMITTED`, `REPEATABLE READ` or `SERIALIZABLE`, whose serialization failures are retried; "
        "PostgreSQL only",
        examples=["READ COMMITTED"],
        json_schema_extra={"x-unset": "the server's"},
    )
    db_schema: str | None = Field(
        default=None,
        alias="schema",
        description="where tables named without a schema are; PostgreSQL only",
        examples=["public"],
        json_schema_extra={"x-unset": "the search path"},
    )
    ledger_schema: str = Field(
        default="etl",
        description="where runs, files, checkpoints and rejects are kept, by a name without square brackets; it is "
        "made by the first run. SQLite has no schemas: there the tables `etl_run`, `etl_file` and `etl_reject` are "
        "beside the others",
        examples=["etl"],
    )

    @field_validator("url")
    @classmethod
    def _supported_url(cls, value: str) -> str:
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):
            # Not chained and not quoted: what could not be parsed may hold a password.
            url = URL.create("")
        if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"):
            raise ValueError("a database URL such as sqlite:///shop.db or postgresql://host/name") from None
        behind_user = value.partition("://")[2].partition(":")[2]
        if url.password is not None and behind_user.count("@") > 1:
            # What is behind the first @ of a password would be taken for the host, and shown as such.
            raise ValueError("a database URL that has an @ in the user name or password as %40")
        return value

    @field_validator("ledger_schema")
    @classmethod
    def _translatable_schema(cls, value: str) -> str:
        if not value or not {"[", "]", "\0"}.isdisjoint(value):
            raise ValueError("a schema's name without square brackets, which SQLAlchemy does not take there")
        return value

    @property
    def sqlalchemy_url(self) -> URL:
        return make_url(self.url)

    @property
    def ledger_place(self) -> str | None:
        """The schema of the ledger's tables; None on SQLite, which has no schemas."""
        return self.ledger_schema if self.sqlalchemy_url.get_backend_name() == "postgresql" else None
