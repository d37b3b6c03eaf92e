"""Books what functions print: reads the stream that gateways fill, writes rows, keeps within bounds.

A task of ``app``. One transaction per run of entries, with the position of the reader in it: nothing comes twice, and
two control planes take turns. What always holds: a tenant that prints without end costs its own lines and nothing else
(``Allowance``; ``log_lines_per_tenant_max``), and is told what is missing; what is older than its tier keeps goes.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from control_plane.context import Context
from control_plane.function_logs import repository
from control_plane.models import now
from control_plane.tiers import service as tiers
from gateway.contract.output import LINES_FIELD, NOTICE, OUTPUT_STREAM, Line, decoder

log = structlog.get_logger(__name__)

ENTRIES_MAX: Final = 20
"""Read at once."""
BLOCK_MS: Final = 1_000
SWEEP_INTERVAL: Final = timedelta(minutes=1)
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_LAST_S: Final = 10.0
START: Final = "0-0"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT_MAX: Final = 8 * 1024
_LINE_BYTES: Final = 200
"""What a row costs beside its text."""


class LogConsumer:
    def __init__(self, context: Context, redis: Redis) -> None:
        self._context = context
        self._redis: Any = redis
        self._allowance = Allowance(
            context.settings.log_bytes_per_minute_max, context.settings.log_bytes_burst_max, time.monotonic
        )
        self._touched: set[str] = set()
        self._swept_at = now()

    async def run(self) -> None:
        """Until cancelled."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                while True:
                    if not await self.round():
                        await self._sweep()
                    backoff_s = BACKOFF_FIRST_S
            except (RedisError, OSError, SQLAlchemyError) as error:
                log.warning("logs-failed", error=type(error).__name__, message=str(error)[:200], retry_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_LAST_S)

    async def round(self) -> bool:
        """One run of entries. False: there was nothing."""
        async with self._context.reading() as session:
            position = await repository.position(session, OUTPUT_STREAM)
        entries = await self._read(position or START)
        if not entries:
            return False
        rows: list[dict[str, Any]] = []
        for identifier, fields in entries:
            rows += self._rows(identifier.decode(), fields.get(LINES_FIELD, b""))
        last = entries[-1][0].decode()
        async with self._context.writing() as session:
            if not await repository.move(session, OUTPUT_STREAM, position, last):
                return True  # another control plane was faster
            await repository.insert(session, rows)
        await self._redis.xtrim(OUTPUT_STREAM, minid=last, approximate=False)
        self._touched |= {row["tenant_id"] for row in rows}
        self._context.log_bell.ring()
        return True

    async def _read(self, position: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        streams = await self._redis.xread({OUTPUT_STREAM: position}, count=ENTRIES_MAX, block=BLOCK_MS)
        if not streams:
            return []
        if isinstance(streams, dict):  # redis-py answers a list (RESP 2) or a dict (RESP 3) of streams
            return [entry for batches in streams.values() for batch in batches for entry in batch]
        return [entry for _, batch in streams for entry in batch]

    def _rows(self, identifier: str, content: bytes) -> list[dict[str, Any]]:
        try:
            lines = decoder.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("log-batch-unreadable", entry=identifier, bytes=len(content), error=str(error)[:200])
            return []
        refused: defaultdict[str, int] = defaultdict(int)
        kept: list[Line] = []
        for line in lines:
            if self._allowance.take(line.tenant_id, len(line.text) + _LINE_BYTES):
                kept.append(line)
            else:
                refused[line.tenant_id] += 1
        kept += [self._refusal(tenant_id, count) for tenant_id, count in refused.items()]
        return [_row(line, line_id(identifier, index)) for index, line in enumerate(kept)]

    def _refusal(self, tenant_id: str, count: int) -> Line:
        rate = self._context.settings.log_bytes_per_minute_max // 1024
        text = f"{count} lines were not kept: this tenant's functions print more than {rate} KiB a minute"
        return Line(time.time_ns(), tenant_id, "", "", "", NOTICE, text)

    async def _sweep(self) -> None:
        """What is too old, and what is too much of tenants that have printed lately."""
        if now() - self._swept_at < SWEEP_INTERVAL:
            return
        self._swept_at = now()
        touched, self._touched = self._touched, set()
        async with self._context.reading() as session:
            kept_for = {
                tenant_id: timedelta(days=held.admission.log_retention_days)
                for tenant_id, (_, held) in (await tiers.entitlements_of_all(session)).items()
            }
            tenants = await repository.tenants_with_lines(session)
        for tenant_id in tenants:
            async with self._context.writing() as session:
                await repository.delete_before(session, tenant_id, now() - kept_for.get(tenant_id, timedelta(0)))
                if tenant_id in touched:
                    await repository.keep_newest(session, tenant_id, self._context.settings.log_lines_per_tenant_max)


class Allowance:
    """A bucket of bytes for each tenant: ``burst`` at once, then ``per_minute``."""

    TENANTS_MAX: Final = 50_000

    def __init__(self, per_minute: int, burst: int, clock: Callable[[], float]) -> None:
        self._per_s = per_minute / 60
        self._burst = float(burst)
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, tenant_id: str, count: int) -> bool:
        at = self._clock()
        left, since = self._left.get(tenant_id, (self._burst, at))
        left = min(self._burst, left + (at - since) * self._per_s)
        if len(self._left) >= self.TENANTS_MAX and tenant_id not in self._left:
            self._left.clear()
        self._left[tenant_id] = (left - count if left >= count else left, at)
        return left >= count


def line_id(entry: str, index: int) -> str:
    """Sorts as the stream does: milliseconds, sequence number, place in the batch."""
    milliseconds, _, sequence = entry.partition("-")
    return f"{int(milliseconds):012x}{int(sequence) & 0xFFFFFF:06x}{index:05x}"


def _row(line: Line, identifier: str) -> dict[str, Any]:
    return {
        "tenant_id": line.tenant_id[:40],
        "id": identifier,
        "function": line.function[:63],
        "version_id": line.version_id[:40],
        "request_id": line.request_id[:32],
        "stream": line.stream[:8],
        "at": _EPOCH + timedelta(microseconds=line.time_ns // 1000),
        "text": line.text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:_TEXT_MAX],
    }
