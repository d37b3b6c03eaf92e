"""Carries what functions print to Redis, where the control plane reads it for `tailcut logs` and the dashboard.

Started by ``node``, which also writes every line to the files of the node. What always holds: ``add`` never waits and
never raises; the queue is bounded in lines and bytes; what finds no room is counted, and its tenant is told in a line.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable

import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

from gateway.contract.output import (
    BATCH_BYTES_MAX,
    BATCH_LINES_MAX,
    LINES_FIELD,
    NOTICE,
    OUTPUT_STREAM,
    STREAM_ENTRIES_MAX,
    Line,
    encoder,
)
from gateway.settings import HostSettings

_log = structlog.get_logger("output_feed")
_QUEUE_LINES_MAX = 20_000
_QUEUE_BYTES_MAX = 16 * 2**20
_LINE_OVERHEAD_BYTES = 200
_GATHER_S = 0.05
"""Lines that come within it go together."""


class OutputFeed:
    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self._queue: deque[Line] = deque()
        self._queued_bytes = 0
        self._lost: Counter[str] = Counter()
        """By tenant, since it was last told."""
        self._some = asyncio.Event()

    def add(self, lines: Iterable[Line]) -> None:
        if self._settings.redis_url is None:
            return
        for line in lines:
            size = len(line.text) + _LINE_OVERHEAD_BYTES
            if len(self._queue) >= _QUEUE_LINES_MAX or self._queued_bytes + size > _QUEUE_BYTES_MAX:
                self._lost[line.tenant_id] += 1
                continue
            self._queue.append(line)
            self._queued_bytes += size
        if self._queue:
            self._some.set()

    async def run(self) -> None:
        """Until cancelled; never raises."""
        if self._settings.redis_url is None:
            await asyncio.Event().wait()
            return
        timeout_s = self._settings.redis_timeout.total_seconds()
        backoff_s = 0.1
        while True:
            client = redis.Redis.from_url(
                self._settings.redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
            )
            try:
                async with client:
                    while True:
                        await self._some.wait()
                        await asyncio.sleep(_GATHER_S)
                        await self._send_all(client)
                        backoff_s = 0.1
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("output of functions waits; Redis is away", lines=len(self._queue), error=str(error)[:300])
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, self._settings.redis_backoff_max.total_seconds())

    async def flush(self, within_s: float) -> None:
        """At the end of the gateway: what functions printed last."""
        if self._settings.redis_url is None or not self._queue:
            return
        try:
            async with asyncio.timeout(within_s), redis.Redis.from_url(self._settings.redis_url) as client:
                await self._send_all(client)
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("the last output of functions was not sent", lines=len(self._queue), error=str(error)[:300])

    async def _send_all(self, client: "redis.Redis") -> None:
        """A batch leaves the queue when Redis has it. An answer that was lost makes it come twice: better than not."""
        while self._queue:
            batch, size = self._batch()
            fields = {LINES_FIELD: encoder.encode(batch)}
            await client.xadd(OUTPUT_STREAM, fields, maxlen=STREAM_ENTRIES_MAX, approximate=True)  # type: ignore[arg-type]
            for _ in batch:
                self._queue.popleft()
            self._queued_bytes -= size
            self._tell_losses()
        self._some.clear()

    def _batch(self) -> tuple[list[Line], int]:
        batch: list[Line] = []
        size = 0
        for line in self._queue:
            size_with = size + len(line.text) + _LINE_OVERHEAD_BYTES
            if batch and (len(batch) >= BATCH_LINES_MAX or size_with > BATCH_BYTES_MAX):
                break
            batch.append(line)
            size = size_with
        return batch, size

    def _tell_losses(self) -> None:
        lost, self._lost = self._lost, Counter()
        self.add(
            Line(time.time_ns(), tenant_id, "", "", "", NOTICE, f"{count} lines were lost: written faster than stored")
            for tenant_id, count in lost.items()
        )
