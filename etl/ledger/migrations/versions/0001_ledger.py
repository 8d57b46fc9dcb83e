"""The first ledger: runs, files with their checkpoints, rejects."""

import sqlalchemy as sa
from alembic import context, op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    prefix = f"{schema}." if schema else ""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "etl_run",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("is_rerun", sa.Boolean, nullable=False),
        sa.Column("executions", sa.Integer, nullable=False),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("finished_at", moment),
        sa.Column("error", sa.Text),
        schema=schema,
    )
    op.create_table(
        "etl_file",
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("run_id", sa.String(32), sa.ForeignKey(f"{prefix}etl_run.id", ondelete="CASCADE"), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("job", "load_name", "table_name")),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        *(sa.Column(f"position_{name}", sa.BigInteger, nullable=False) for name in ("record", "offset", "line")),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in (
                "read_count",
                "written",
                "updated",
                "unchanged",
                "duplicates",
                "rejected",
                "filtered",
            )
        ),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        schema=schema,
    )
    op.create_index("ix_etl_file_run_id", "etl_file", ["run_id"], schema=schema)
    op.create_index("ix_etl_file_sha256", "etl_file", ["sha256"], schema=schema)
    op.create_table(
        "etl_reject",
        sa.Column("id", _BIG, primary_key=True),
        sa.Column("file_id", _BIG, sa.ForeignKey(f"{prefix}etl_file.id", ondelete="CASCADE"), nullable=False),
        sa.Column("record", sa.BigInteger, nullable=False),
        sa.Column("line", sa.BigInteger),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("sqlstate", sa.String(5)),
        sa.Column("constraint_name", sa.Text),
        sa.Column("column_name", sa.Text),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("source_values", sa.JSON),
        sa.Column("raw", sa.Text),
        schema=schema,
    )
    op.create_index("ix_etl_reject_file_id", "etl_reject", ["file_id"], schema=schema)
