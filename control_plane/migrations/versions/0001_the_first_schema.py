"""The first schema.

Revision ID: 0001
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotency_records",
        sa.Column("owner", sa.String(length=40), nullable=False),
        sa.Column("idempotency_key", sa.String(length=128), nullable=False),
        sa.Column("caller", sa.String(length=40), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("salt", sa.LargeBinary(length=16), nullable=False),
        sa.Column("sealed_answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "idempotency_key", name="pk_idempotency_records"),
    )
    op.create_index("ix_idempotency_records_created_at", "idempotency_records", ["created_at"])

    counter = op.create_table(
        "revision_counter",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_revision_counter"),
    )
    op.bulk_insert(counter, [{"id": 1, "revision": time.time_ns() // 1_000_000}])
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("concurrency_max", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sa.UniqueConstraint("name", name="uq_tenants_name"),
    )
    op.create_table(
        "functions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_functions_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_functions"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_functions_tenant_id_name"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("last_four", sa.String(length=4), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_keys_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("sha256", name="uq_keys_sha256"),
    )
    op.create_index("ix_keys_tenant_id", "keys", ["tenant_id"])

    op.create_table(
        "outbox",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("change", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("relayed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_outbox_tenant_id"),
        sa.PrimaryKeyConstraint("revision", name="pk_outbox"),
    )
    op.create_index("ix_outbox_relayed_at", "outbox", ["relayed_at"])

    op.create_table(
        "sessions",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("csrf_token", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name="fk_sessions_key_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_sessions_tenant_id"),
        sa.PrimaryKeyConstraint("sha256", name="pk_sessions"),
    )
    op.create_index("ix_sessions_tenant_id", "sessions", ["tenant_id"])

    op.create_table(
        "versions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("function_id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bundle_bytes", sa.BigInteger(), nullable=False),
        sa.Column("handler", sa.String(length=300), nullable=False),
        sa.Column("env", sa.JSON(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("lock", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("style", sa.String(length=16), nullable=True),
        sa.Column("start_us", sa.BigInteger(), nullable=True),
        sa.Column("operation", sa.JSON(), nullable=True),
        sa.Column("schemas", sa.JSON(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status in ('preparing', 'ready', 'failed')", name="ck_versions_status"),
        sa.ForeignKeyConstraint(["function_id"], ["functions.id"], name="fk_versions_function_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_versions_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("function_id", "sha256", name="uq_versions_function_id_sha256"),
    )
    op.create_index("ix_versions_tenant_id_id", "versions", ["tenant_id", "id"])

    op.create_table(
        "alias_moves",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("function_id", sa.String(length=40), nullable=False),
        sa.Column("alias", sa.String(length=63), nullable=False),
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("parent_id", sa.String(length=40), nullable=True),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["function_id"], ["functions.id"], name="fk_alias_moves_function_id"),
        sa.ForeignKeyConstraint(["parent_id"], ["alias_moves.id"], name="fk_alias_moves_parent_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_alias_moves_tenant_id"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_alias_moves_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_alias_moves"),
    )
    op.create_index("ix_alias_moves_function_id_alias", "alias_moves", ["function_id", "alias", "id"])

    op.create_table(
        "node_reports",
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("node", sa.String(length=200), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_node_reports_version_id"),
        sa.PrimaryKeyConstraint("version_id", "node", name="pk_node_reports"),
    )
    op.create_table(
        "aliases",
        sa.Column("function_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("move_id", sa.String(length=40), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["function_id"], ["functions.id"], name="fk_aliases_function_id"),
        sa.ForeignKeyConstraint(["move_id"], ["alias_moves.id"], name="fk_aliases_move_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_aliases_tenant_id"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_aliases_version_id"),
        sa.PrimaryKeyConstraint("function_id", "name", name="pk_aliases"),
    )
    op.create_index("ix_aliases_tenant_id", "aliases", ["tenant_id"])


def downgrade() -> None:
    op.drop_table("aliases")
    op.drop_table("node_reports")
    op.drop_table("alias_moves")
    op.drop_table("versions")
    op.drop_table("sessions")
    op.drop_table("outbox")
    op.drop_table("keys")
    op.drop_table("functions")
    op.drop_table("tenants")
    op.drop_table("revision_counter")
    op.drop_table("idempotency_records")
