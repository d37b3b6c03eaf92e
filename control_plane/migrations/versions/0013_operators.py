"""people.operator_since, sessions.has_second_factor, operator_entries (append-only), reconciliations.

Who is signed in when this runs has given no code as far as it knows: operators sign in once more.

Revision ID: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("people", sa.Column("operator_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sessions", sa.Column("has_second_factor", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "operator_entries",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("actor_id", sa.String(length=40), nullable=False),
        sa.Column("actor", sa.String(length=254), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=254), nullable=False),
        sa.Column("about_tenant_id", sa.String(length=40), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=40), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_operator_entries"),
    )
    op.create_index("ix_operator_entries_actor_id", "operator_entries", ["actor_id"])
    op.create_index("ix_operator_entries_about_tenant_id", "operator_entries", ["about_tenant_id"])
    op.create_table(
        "reconciliations",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("asked_by", sa.String(length=254), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("differences", sa.JSON(), nullable=False),
        sa.Column("differences_count", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_reconciliations"),
    )
    _make_append_only()


def _make_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER operator_entries_no_{verb.lower()} BEFORE {verb} ON operator_entries "
                "BEGIN SELECT RAISE(ABORT, 'operator_entries is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION operator_entries_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'operator_entries is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER operator_entries_append_only BEFORE UPDATE OR DELETE ON operator_entries "
        "FOR EACH ROW EXECUTE FUNCTION operator_entries_append_only()"
    )


def downgrade() -> None:
    op.drop_table("reconciliations")
    op.drop_table("operator_entries")  # its triggers go with it
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION operator_entries_append_only()")
    op.drop_column("sessions", "has_second_factor")
    op.drop_column("people", "operator_since")
