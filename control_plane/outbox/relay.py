"""Carries the state from SQL to Redis: the whole routing table, whenever it has changed or Redis has lost it.

A task of ``app``'s lifespan. It is woken after each commit that gateways must learn of, and looks every
``relay_interval`` by itself, since another control plane may have committed or Redis may have lost its data.

Each round says which revision is the newest (``NEWEST_KEY``): nodes that hold it know that nothing is kept from them.
What always holds: a script in Redis compares and sets, so an older table never replaces a newer one, however many
relays run; with Redis away nothing is lost, because the truth is SQL and the next round writes it whole.
"""

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth import repository as auth
from control_plane.context import Context
from control_plane.models import now
from control_plane.outbox import repository as outbox
from control_plane.outbox.table import build_table
from control_plane.people import repository as people
from gateway.contract.table import NEWEST_KEPT_S, NEWEST_KEY, REVISION_CHANNEL, TABLE_KEY

log = structlog.get_logger(__name__)

HELD_REVISION_KEY: Final = "tailcut:table:revision"
"""Beside the table, so that comparing does not mean parsing it."""
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_LAST_S: Final = 3.0
SWEEP_INTERVAL: Final = timedelta(minutes=10)

_PUBLISH: Final = """
local held = tonumber(redis.call('GET', KEYS[2]) or '-1')
if redis.call('EXISTS', KEYS[1]) == 0 then held = -1 end
if held >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1
"""


class Relay:
    def __init__(self, context: Context, redis: Redis) -> None:
        self._context = context
        self._redis = redis
        self._publish = redis.register_script(_PUBLISH)
        self._swept_at = now() - SWEEP_INTERVAL

    async def run(self) -> None:
        """Until cancelled."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                await self.round()
            except (RedisError, OSError, SQLAlchemyError) as error:
                log.warning("relay-failed", error=type(error).__name__, message=str(error)[:200], retry_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_LAST_S)
                continue
            backoff_s = BACKOFF_FIRST_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._context.settings.relay_interval.total_seconds()):
                    await self._context.relay_bell.wait()

    async def round(self) -> None:
        """Publish if Redis holds less than SQL. The bell is cleared first: what rings meanwhile gets a round."""
        self._context.relay_bell.clear()
        began_s = time.monotonic()
        async with self._context.reading() as session:
            revision = await outbox.current_revision(session)
        if await self._held_revision() < revision:
            revision = await self._publish_table()
        # True as of the round's beginning, however long it took: what was committed meanwhile gets the next one.
        left_ms = int((NEWEST_KEPT_S - (time.monotonic() - began_s)) * 1000)
        await self._redis.set(NEWEST_KEY, revision, px=max(left_ms, 1))
        await self._settle(revision)

    async def _held_revision(self) -> int:
        # The stubs of redis do not tell bytes from str here.
        pipeline: Any = self._redis.pipeline(transaction=False)
        pipeline.exists(TABLE_KEY)
        pipeline.get(HELD_REVISION_KEY)
        exists, held = await pipeline.execute()
        return int(held) if exists and held is not None else -1

    async def _publish_table(self) -> int:
        async with self._context.reading() as session:
            settings = self._context.settings
            table = await build_table(
                session,
                self._context.sealer,
                newest_count=settings.versions_in_table_max,
                upgrade_url=settings.upgrade_url,
            )
        document = table.model_dump_json()
        written = await self._publish(
            keys=[TABLE_KEY, HELD_REVISION_KEY], args=[table.revision, document, REVISION_CHANNEL]
        )
        if written:
            log.info("table-published", revision=table.revision, document_bytes=len(document))
        return table.revision

    async def _settle(self, revision: int) -> None:
        """Redis has ``revision`` or a later one: tick off the outbox, and now and then remove what is old."""
        settings = self._context.settings
        async with self._context.reading() as session:
            pending = await outbox.has_pending(session, revision)
        if pending:
            async with self._context.writing() as session:
                await outbox.mark_relayed(session, revision, now())
        if now() - self._swept_at >= SWEEP_INTERVAL:
            self._swept_at = now()
            async with self._context.writing() as session:
                await outbox.sweep(session, now() - settings.outbox_retention)
                await self._sweep_people(session)

    async def _sweep_people(self, session: AsyncSession) -> None:
        settings = self._context.settings
        at = now()
        await auth.sweep(
            session,
            at=at,
            idle_before=at - settings.session_idle_timeout,
            records_before=at - settings.idempotency_retention,
            now_s=int(at.timestamp()),
        )
        await people.delete_links_before(session, at)
