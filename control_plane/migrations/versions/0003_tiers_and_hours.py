"""Tiers as versions, what each tenant has of them, and usage by the hour.

A tenant's ``concurrency_max`` is its tier's from now on; an operator who had set another one sets it again as an
override of the subscription.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tier_versions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tier", sa.String(length=63), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tier_versions"),
        sa.UniqueConstraint("tier", "number", name="uq_tier_versions_tier_number"),
    )
    op.create_table(
        "add_on_versions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("add_on", sa.String(length=63), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_add_on_versions"),
        sa.UniqueConstraint("add_on", "number", name="uq_add_on_versions_add_on_number"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("tier_version_id", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("overrides", sa.JSON(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_at_period_end", sa.Boolean(), nullable=False),
        sa.Column("past_due_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("stripe_customer_id", sa.String(length=255), nullable=True),
        sa.Column("stripe_subscription_id", sa.String(length=255), nullable=True),
        sa.Column("sync_number", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status in ('active', 'past_due', 'unpaid', 'canceled')", name="ck_subscriptions_status"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_subscriptions_tenant_id"),
        sa.ForeignKeyConstraint(["tier_version_id"], ["tier_versions.id"], name="fk_subscriptions_tier_version_id"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_subscriptions"),
        sa.UniqueConstraint("stripe_customer_id", name="uq_subscriptions_stripe_customer_id"),
    )
    op.create_table(
        "subscription_add_ons",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("add_on_version_id", sa.String(length=40), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["add_on_version_id"], ["add_on_versions.id"], name="fk_subscription_add_ons_add_on_version_id"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["subscriptions.tenant_id"], name="fk_subscription_add_ons_tenant_id"),
        sa.PrimaryKeyConstraint("tenant_id", "add_on_version_id", name="pk_subscription_add_ons"),
    )

    op.create_table(
        "usage_hours",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("open_revision", sa.BigInteger(), nullable=False),
        sa.Column("dirty", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "hour", name="pk_usage_hours"),
    )
    op.create_index("ix_usage_hours_dirty", "usage_hours", ["dirty"])

    op.create_table(
        "usage_hourly",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("invocations", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cpu_us", sa.BigInteger(), nullable=False),
        sa.Column("mib_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "function", "version_id", "hour", "revision", name="pk_usage_hourly"),
    )
    op.create_index("ix_usage_hourly_tenant_id_hour", "usage_hourly", ["tenant_id", "hour"])

    # Not as a batch: on SQLite that would replace the table, and all others point to it.
    op.drop_column("tenants", "concurrency_max")


def downgrade() -> None:
    op.add_column("tenants", sa.Column("concurrency_max", sa.BigInteger(), nullable=False, server_default="64"))
    op.drop_table("usage_hourly")
    op.drop_table("usage_hours")
    op.drop_table("subscription_add_ons")
    op.drop_table("subscriptions")
    op.drop_table("add_on_versions")
    op.drop_table("tier_versions")
