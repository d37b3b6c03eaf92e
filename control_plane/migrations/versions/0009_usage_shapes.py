"""Percentiles and outcomes of usage by the hour and the day, and a tenant's minutes.

Revision ID: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_shapes",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("span", sa.String(length=8), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("cold", sa.BigInteger(), nullable=False),
        sa.Column("shape", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("span in ('hour', 'day')", name="ck_usage_shapes_span"),
        sa.PrimaryKeyConstraint("tenant_id", "span", "start", "function", "version_id", name="pk_usage_shapes"),
    )
    op.create_index("ix_usage_shapes_span_start", "usage_shapes", ["span", "start"])
    op.create_table(
        "usage_minutes",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("minutes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "hour", name="pk_usage_minutes"),
    )
    op.create_index("ix_usage_minutes_hour", "usage_minutes", ["hour"])


def downgrade() -> None:
    op.drop_table("usage_minutes")
    op.drop_table("usage_shapes")
