"""Alerts about usage: what tenants want to be told, what they were told, deliveries to their webhooks.

Revision ID: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_alert_settings",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("thresholds", sa.JSON(), nullable=False),
        sa.Column("emails", sa.Boolean(), nullable=False),
        sa.Column("webhook_url", sa.String(length=2000), nullable=True),
        sa.Column("webhook_secret_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_usage_alert_settings_tenant_id"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_usage_alert_settings"),
    )
    op.create_table(
        "usage_alerts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("percent", sa.BigInteger(), nullable=False),
        sa.Column("allowed", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_usage_alerts_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_usage_alerts"),
        sa.UniqueConstraint(
            "tenant_id",
            "subject",
            "period_start",
            "percent",
            "allowed",
            name="uq_usage_alerts_tenant_id_subject_period_start_percent_allowed",
        ),
    )
    op.create_index("ix_usage_alerts_tenant_id_id", "usage_alerts", ["tenant_id", "id"])
    op.create_table(
        "usage_alert_deliveries",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts_count", sa.BigInteger(), nullable=False),
        sa.Column("last_answer", sa.String(length=200), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state in ('waiting', 'delivered', 'failed')", name="ck_usage_alert_deliveries_state"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_usage_alert_deliveries_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_usage_alert_deliveries"),
    )
    op.create_index("ix_usage_alert_deliveries_state_due_at", "usage_alert_deliveries", ["state", "due_at"])
    op.create_index("ix_usage_alert_deliveries_tenant_id_id", "usage_alert_deliveries", ["tenant_id", "id"])


def downgrade() -> None:
    op.drop_table("usage_alert_deliveries")
    op.drop_table("usage_alerts")
    op.drop_table("usage_alert_settings")
