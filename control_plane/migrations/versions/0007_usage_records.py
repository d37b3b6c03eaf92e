"""Usage records, the watermarks of nodes' journals, and whose a version is or was.

Revision ID: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_records",
        sa.Column("stream", sa.String(length=32), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("invocation_id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("billed", sa.Boolean(), nullable=False),
        sa.Column("cold", sa.Boolean(), nullable=False),
        sa.Column("deadline", sa.Boolean(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in (
                "queue_us",
                "start_us",
                "wall_us",
                "cpu_us",
                "memory_bytes",
                "mib_us",
                "request_bytes",
                "response_bytes",
                "log_bytes",
            )
        ),
        sa.PrimaryKeyConstraint("stream", "segment", "offset", name="pk_usage_records"),
    )
    op.create_index("ix_usage_records_tenant_id_arrived_at", "usage_records", ["tenant_id", "arrived_at"])
    op.create_index("ix_usage_records_invocation_id", "usage_records", ["invocation_id"])
    op.create_table(
        "usage_streams",
        sa.Column("stream", sa.String(length=32), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_usage_streams"),
    )
    op.create_table(
        "usage_versions",
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name="pk_usage_versions"),
    )
    op.create_index("ix_usage_versions_tenant_id", "usage_versions", ["tenant_id"])
    op.execute(
        "INSERT INTO usage_versions (version_id, tenant_id, function) "
        "SELECT versions.id, versions.tenant_id, functions.name FROM versions "
        "JOIN functions ON functions.id = versions.function_id"
    )
    op.create_table(
        "usage_dead_letters",
        sa.Column("stream", sa.String(length=32), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("stream", "segment", "offset", name="pk_usage_dead_letters"),
    )


def downgrade() -> None:
    for table in ("usage_dead_letters", "usage_versions", "usage_streams", "usage_records"):
        op.drop_table(table)
