"""The connection to SQL: SQLite (WAL) by default, PostgreSQL by URL.

Called by ``app`` (one ``Database`` per process) and the migrations. ``reading()`` sees one snapshot; ``writing()`` is
one transaction that commits at its end. On SQLite a writer takes the lock at its start (BEGIN IMMEDIATE), so that it
waits in line instead of failing half-way with "database is locked".
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

BUSY_TIMEOUT_MS: Final = 10_000
_BEGIN_OPTION: Final = "tailcut_sqlite_begin"


class Database:
    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        is_sqlite = self.engine.dialect.name == "sqlite"
        # PostgreSQL's default (READ COMMITTED) would show two SELECTs of one reader different states.
        reading = {} if is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reading = self.engine.execution_options(**reading)
        self._writing = self.engine.execution_options(**{_BEGIN_OPTION: "BEGIN IMMEDIATE"})

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        async with AsyncSession(self._reading, expire_on_commit=False, autoflush=False) as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        async with AsyncSession(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    async def close(self) -> None:
        await self.engine.dispose()


def insert_into(session: AsyncSession, model: Any) -> Any:
    """The dialect's own INSERT: ON CONFLICT is not in the SQL that both share."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    return (sqlite if is_sqlite else postgresql).insert(model)


def make_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver must not open transactions by itself: it would do so only before the first write, and then deferred.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN_OPTION, "BEGIN"))
