"""What functions print, how far it was read, functions' secrets, and who deployed a version.

Revision ID: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("deployed_by", sa.String(254), nullable=True))
    op.create_table(
        "log_lines",
        sa.Column("id", sa.String(24), nullable=False),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("function", sa.String(63), nullable=False),
        sa.Column("version_id", sa.String(40), nullable=False),
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("stream", sa.String(8), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_log_lines"),
    )
    op.create_index("ix_log_lines_tenant_id_request_id", "log_lines", ["tenant_id", "request_id"])
    op.create_index("ix_log_lines_at", "log_lines", ["at"])
    op.create_table(
        "log_readers",
        sa.Column("stream", sa.String(40), nullable=False),
        sa.Column("position", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_log_readers"),
    )
    op.create_table(
        "secrets",
        sa.Column("function_id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(254), nullable=False),
        sa.ForeignKeyConstraint(["function_id"], ["functions.id"], name="fk_secrets_function_id_functions"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_secrets_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("function_id", "name", name="pk_secrets"),
    )
    op.create_index("ix_secrets_tenant_id", "secrets", ["tenant_id"])


def downgrade() -> None:
    op.drop_table("secrets")
    op.drop_table("log_readers")
    op.drop_table("log_lines")
    op.drop_column("versions", "deployed_by")
