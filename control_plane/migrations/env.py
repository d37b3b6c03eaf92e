"""Alembic's entry: connects as ``migrate`` says and runs the migrations in one transaction."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from control_plane.database import make_engine
from control_plane.models import Base

_ADVISORY_LOCK = 7_461_696_311
"""Any number; the same in every process."""


def _run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def _run_async() -> None:
    engine = make_engine(context.config.attributes["database_url"])
    async with engine.begin() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_run_async())
