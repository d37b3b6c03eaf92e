"""Stripe: objects made from the catalogue, events, purchases, meter events, invoices; spend caps.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stripe_objects",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("stripe_id", sa.String(length=255), nullable=False),
        sa.Column("version_id", sa.String(length=40), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_stripe_objects"),
    )
    op.create_index("ix_stripe_objects_stripe_id", "stripe_objects", ["stripe_id"])
    op.create_index("ix_stripe_objects_version_id", "stripe_objects", ["version_id"])

    op.create_table(
        "stripe_events",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=100), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state in ('stored', 'handled', 'ignored', 'failed')", name="ck_stripe_events_state"),
        sa.PrimaryKeyConstraint("id", name="pk_stripe_events"),
    )
    op.create_index("ix_stripe_events_state_received_at", "stripe_events", ["state", "received_at"])

    op.create_table(
        "purchases",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("tier_version_id", sa.String(length=40), nullable=False),
        sa.Column("add_ons", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("stripe_session_id", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state in ('started', 'offered', 'completed', 'expired', 'failed')", name="ck_purchases_state"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_purchases_tenant_id"),
        sa.ForeignKeyConstraint(["tier_version_id"], ["tier_versions.id"], name="fk_purchases_tier_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_purchases"),
        sa.UniqueConstraint("stripe_session_id", name="uq_purchases_stripe_session_id"),
    )
    op.create_index("ix_purchases_tenant_id", "purchases", ["tenant_id"])

    op.create_table(
        "invoices",
        sa.Column("stripe_id", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.String(length=100), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("total_minor", sa.BigInteger(), nullable=False),
        sa.Column("tax_minor", sa.BigInteger(), nullable=False),
        sa.Column("paid_minor", sa.BigInteger(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("pdf_url", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("stripe_id", name="pk_invoices"),
        sa.UniqueConstraint("id", name="uq_invoices_id"),
    )
    op.create_index("ix_invoices_tenant_id_id", "invoices", ["tenant_id", "id"])

    op.create_table(
        "billing_notes",
        sa.Column("stripe_id", sa.String(length=255), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reason", sa.String(length=100), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("stripe_id", name="pk_billing_notes"),
    )
    op.create_index("ix_billing_notes_tenant_id", "billing_notes", ["tenant_id"])

    op.create_table(
        "meter_events",
        sa.Column("identifier", sa.String(length=100), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("stripe_customer_id", sa.String(length=255), nullable=True),
        sa.Column("meter", sa.String(length=16), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("raw", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("sending_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state in ('new', 'sending', 'acknowledged', 'unbilled', 'ambiguous', 'refused')",
            name="ck_meter_events_state",
        ),
        sa.PrimaryKeyConstraint("identifier", name="pk_meter_events"),
    )
    op.create_index("ix_meter_events_state_hour", "meter_events", ["state", "hour"])
    op.create_index("ix_meter_events_tenant_id_hour", "meter_events", ["tenant_id", "hour"])

    op.create_table(
        "meter_carries",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("meter", sa.String(length=16), nullable=False),
        sa.Column("raw_total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "meter", name="pk_meter_carries"),
    )
    op.create_table(
        "spend_caps",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("function", sa.String(length=63), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(length=8), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("action in ('stop', 'alert')", name="ck_spend_caps_action"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_spend_caps_tenant_id"),
        sa.PrimaryKeyConstraint("tenant_id", "function", name="pk_spend_caps"),
    )


def downgrade() -> None:
    op.drop_table("spend_caps")
    op.drop_table("meter_carries")
    op.drop_table("meter_events")
    op.drop_table("billing_notes")
    op.drop_table("invoices")
    op.drop_table("purchases")
    op.drop_table("stripe_events")
    op.drop_table("stripe_objects")
