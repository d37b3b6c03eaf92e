"""billing_turns: who is changing a tenant's subscription at Stripe, and until when.

Revision ID: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "billing_turns",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.String(length=40), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_billing_turns"),
    )


def downgrade() -> None:
    op.drop_table("billing_turns")
