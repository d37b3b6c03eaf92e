"""sessions.confirmed_at (the password was given again) and who made an invitation, by id.

Invitations that are on their way keep their inviter where the name tells it: a person by the e-mail address, the
operator by the word, unless a key bears it. The others can no longer be accepted; somebody invites again.

Revision ID: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("sessions") as table:
        table.add_column(sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("invitations") as table:
        table.add_column(sa.Column("inviter_id", sa.String(length=40), nullable=False, server_default=""))
        table.add_column(sa.Column("is_by_operator", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(
        "UPDATE invitations SET inviter_id = (SELECT id FROM people WHERE email = invited_by)"
        " WHERE EXISTS (SELECT 1 FROM people WHERE email = invited_by)"
    )
    op.execute(
        "UPDATE invitations SET inviter_id = 'operator', is_by_operator = true WHERE invited_by = 'the operator'"
        " AND tenant_id NOT IN (SELECT tenant_id FROM keys WHERE name = 'the operator')"
    )
    with op.batch_alter_table("invitations") as table:
        table.alter_column("inviter_id", server_default=None)
        table.create_index("ix_invitations_inviter_id", ["inviter_id"])


def downgrade() -> None:
    with op.batch_alter_table("invitations") as table:
        table.drop_index("ix_invitations_inviter_id")
        table.drop_column("is_by_operator")
        table.drop_column("inviter_id")
    with op.batch_alter_table("sessions") as table:
        table.drop_column("confirmed_at")
