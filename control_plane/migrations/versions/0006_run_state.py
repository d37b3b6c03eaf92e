"""versions.state, state_reason: what the workers of a version really do, and why if it is not what was asked for.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("state", sa.String(16), nullable=True))
    op.add_column("versions", sa.Column("state_reason", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("versions", "state_reason")
    op.drop_column("versions", "state")
