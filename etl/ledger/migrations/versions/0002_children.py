"""The counts of children, for loads with nested records."""

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.add_column("etl_file", sa.Column("child_counts", sa.JSON), schema=schema)
