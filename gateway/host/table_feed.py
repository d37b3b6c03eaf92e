"""Follows the routing table in Redis, and carries the node's reports there, over one connection that heals itself.

The table is read at start, on each message of the channel and every few seconds (a message may be lost), and with it
what the control plane says is the newest; reports go out when there are any, uses of keys every ``key_use_interval``.
Redis away: back-off, nothing else changes here. A table is taken when its revision is newer than ours; an older one
only after Redis has offered nothing newer for a while (its disk, or the control plane's database, was restored),
for one glitch must not bring back a revoked key.

Started by ``node``, which gives the callbacks; never raises but for cancellation.
"""

import asyncio
import random
import time
from collections.abc import Callable

import redis.asyncio as redis
import structlog
from pydantic import ValidationError
from redis.exceptions import RedisError

from gateway.contract.report import REPORT_ENTRIES_MAX, REPORT_FIELD, REPORT_STREAM
from gateway.contract.table import NEWEST_KEPT_S, NEWEST_KEY, REVISION_CHANNEL, TABLE_KEY, RoutingTable
from gateway.host.key_uses import KeyUseFeed
from gateway.host.reports import Reports
from gateway.settings import HostSettings

_log = structlog.get_logger("table_feed")
_BACKOFF_FIRST_S = 0.1


class TableFeed:
    """``on_table(table, document)`` is called for each table to take; ``revision`` is the one in force (-1: none).

    ``on_newest(revision, seconds)``: so long ago that was the newest there was, as the control plane says.
    """

    def __init__(
        self,
        settings: HostSettings,
        reports: Reports,
        key_uses: KeyUseFeed,
        revision: int,
        on_table: Callable[[RoutingTable, bytes], None],
        on_newest: Callable[[int, float], None],
        on_connected: Callable[[], None],
    ) -> None:
        self.connected = False
        self.revision = revision
        self._settings = settings
        self._reports = reports
        self._key_uses = key_uses
        self._on_table = on_table
        self._on_newest = on_newest
        self._on_connected = on_connected
        self._document_seen: bytes | None = None
        self._older_since: float | None = None

    async def run(self) -> None:
        if self._settings.redis_url is None:
            _log.warning("REDIS_URL is not set: serving the table on disk")
            return
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                await self._follow(self._settings.redis_url)
            except* (RedisError, OSError, TimeoutError) as group:
                if self.connected or backoff_s == _BACKOFF_FIRST_S:
                    reason = str(group.exceptions[0])[:300]
                    _log.warning("Redis is away; serving on with the last table", error=reason)
            backoff_s = _BACKOFF_FIRST_S if self.connected else backoff_s * 2
            self.connected = False
            backoff_s = min(backoff_s, self._settings.redis_backoff_max.total_seconds())
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311  (nodes must not come back in step)

    async def _follow(self, url: str) -> None:
        timeout_s = self._settings.redis_timeout.total_seconds()
        client = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        async with client, client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(REVISION_CHANNEL)
            await self._read_table(client)
            self.connected = True
            _log.info("connected to Redis", revision=self.revision)
            self._on_connected()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(client, channel))
                tasks.create_task(self._send_reports(client))
                tasks.create_task(self._send_key_uses(client))

    async def _listen(self, client: "redis.Redis", channel: "redis.client.PubSub") -> None:
        poll_s = self._settings.table_poll_interval.total_seconds()
        while True:
            await channel.get_message(timeout=poll_s)
            await self._read_table(client)

    async def _send_reports(self, client: "redis.Redis") -> None:
        while True:
            await self._reports.wait()
            for report in self._reports.batch():
                fields = {REPORT_FIELD: report.model_dump_json()}
                await client.xadd(REPORT_STREAM, fields, maxlen=REPORT_ENTRIES_MAX, approximate=True)  # type: ignore[arg-type]
                self._reports.sent(report)

    async def _send_key_uses(self, client: "redis.Redis") -> None:
        while True:
            await self._key_uses.send(client)
            await asyncio.sleep(self._settings.key_use_interval.total_seconds())

    async def _read_table(self, client: "redis.Redis") -> None:
        began_s = time.monotonic()
        pipeline = client.pipeline(transaction=False)
        pipeline.get(TABLE_KEY)
        pipeline.get(NEWEST_KEY)
        pipeline.pttl(NEWEST_KEY)
        document, newest, left_ms = await pipeline.execute()
        self._take(document)
        if isinstance(newest, bytes) and newest.isdigit() and left_ms > 0:
            ago_s = NEWEST_KEPT_S - left_ms / 1000 + time.monotonic() - began_s
            self._on_newest(int(newest), max(ago_s, 0.0))

    def _take(self, document: object) -> None:
        if not isinstance(document, bytes) or (document == self._document_seen and self._older_since is None):
            return
        try:
            table = RoutingTable.model_validate_json(document)
        except ValidationError as error:
            self._document_seen = document
            _log.error("the table in Redis is not valid; serving on with the last one", error=str(error)[:1000])
            return
        self._document_seen = document
        if self._may_take(table):
            self.revision = table.revision
            self._older_since = None
            self._on_table(table, document)

    def _may_take(self, table: RoutingTable) -> bool:
        if table.revision >= self.revision:
            return True
        now = time.monotonic()
        if self._older_since is None:
            self._older_since = now
            _log.warning("Redis offers an older table; waiting", offered=table.revision, ours=self.revision)
        return now - self._older_since >= self._settings.table_older_patience.total_seconds()
