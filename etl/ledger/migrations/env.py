"""Alembic's environment: the steps run on the connection, and in the transaction, that etl hands over."""

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    version_table_schema=attributes["schema"],
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
