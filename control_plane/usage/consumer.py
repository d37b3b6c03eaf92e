"""Books usage: reads what nodes sent to Redis, writes it to SQL once, says how far it has come.

A task of ``app``. One transaction per run of records: rows, hours, and the watermark of the stream move together or not
at all, so a crash at any moment books nothing twice and nothing never. The watermark lies in SQL, which is why this
needs no consumer group: reading begins behind it, whatever Redis believes was delivered (docs/decisions/0020).

A run that does not continue the watermark is a hole (Redis lost something): the stream is deleted there, and its node
sends everything behind the watermark again. A record that cannot be booked goes to ``usage_dead_letters``.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.context import Context
from control_plane.models import UsageVersion, now
from control_plane.usage import floors, hourly, repository, rollup
from gateway.contract.usage import (
    FINAL_KEY,
    PREVIOUS_FIELD,
    RECORDS_FIELD,
    SELF_CHECK_VERSION_ID,
    SLOT_BYTES,
    STREAMS_KEY,
    WATERMARKS_KEY,
    CorruptSlotError,
    Position,
    UsageRecord,
    decode,
    slots,
    stream_key,
)

log = structlog.get_logger(__name__)

IDLE_S: Final = 0.25
RUNS_MAX: Final = 4
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_LAST_S: Final = 10.0
OWNERS_MAX: Final = 50_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class UsageConsumer:
    def __init__(self, context: Context, redis: Redis) -> None:
        self._context = context
        self._redis: Any = redis
        self._owners: dict[str, UsageVersion | None] = {}
        self._floors = floors.Floors(context, redis)

    async def run(self) -> None:
        """Until cancelled."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                await self._publish_watermarks()
                while True:
                    if not await self.round():
                        await self._floors.publish()
                        await asyncio.sleep(IDLE_S)
                    backoff_s = BACKOFF_FIRST_S
            except (RedisError, OSError, SQLAlchemyError) as error:
                self._owners.clear()  # rows of a transaction that was rolled back cannot be read any more
                log.warning("usage-failed", error=type(error).__name__, message=str(error)[:200], retry_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_LAST_S)

    async def round(self) -> bool:
        """One run of each stream. False: there was nothing."""
        found = False
        names = sorted(name.decode() for name in await self._redis.smembers(STREAMS_KEY))
        for name in names:
            found |= await self._read(name)
        await self._finish(names)
        return found

    async def _read(self, stream: str) -> bool:
        async with self._context.reading() as session:
            booked = await repository.watermark(session, stream)
        entries = await self._redis.xrange(stream_key(stream), min=f"({booked}", count=RUNS_MAX)
        for identifier, fields in entries:
            end, previous = Position.parse(identifier), Position.parse(fields.get(PREVIOUS_FIELD, b"0-0"))
            if previous != booked:
                log.warning("usage-hole", stream=stream, booked=str(booked), previous=str(previous), found=str(end))
                await self._redis.delete(stream_key(stream))
                return False
            await self._book(stream, booked, end, fields.get(RECORDS_FIELD, b""))
            booked = end
            await self._redis.hset(WATERMARKS_KEY, stream, str(booked))
            await self._redis.xtrim(stream_key(stream), minid=f"{booked.number}-{booked.offset + 1}", approximate=False)
        return bool(entries)

    async def _book(self, stream: str, after: Position, end: Position, records: bytes) -> None:
        """Everything in one transaction: the rows, the hours, the watermark."""
        first = end.offset - len(records)
        async with self._context.writing() as session:
            if not await repository.move_watermark(session, stream, after, end):
                return  # another control plane was faster
            owners = await self._owners_of(session, records)
            rows: list[dict[str, Any]] = []
            dead: list[dict[str, Any]] = []
            for index, slot in enumerate(slots(records)):
                place = {"stream": stream, "segment": end.number, "offset": first + index * SLOT_BYTES}
                try:
                    record = decode(slot)
                except CorruptSlotError as error:
                    dead.append(place | {"slot": slot, "reason": str(error)[:200], "noted_at": now()})
                    continue
                if record.version_id == SELF_CHECK_VERSION_ID:
                    continue
                owner = owners.get(record.version_id)
                if owner is None:
                    reason = f"no tenant ever had the version {record.version_id[:40]!r}"
                    dead.append(place | {"slot": slot, "reason": reason, "noted_at": now()})
                    continue
                rows.append(place | _row(record, owner))
            inserted = await repository.insert_records(session, rows)
            await repository.insert_dead(session, dead)
            await hourly.add(session, _hours(inserted))
            await rollup.add(session, inserted)
        touched = {row["tenant_id"] for row in inserted}
        self._floors.touch(touched)
        self._context.usage_touched |= touched
        if dead:
            log.error("usage-dead-letters", stream=stream, count=len(dead), reason=dead[0]["reason"])

    async def _owners_of(self, session: AsyncSession, records: bytes) -> dict[str, UsageVersion | None]:
        wanted = {slot[96:].rstrip(b"\0").decode("ascii", "replace") for slot in slots(records)}
        missing = wanted - self._owners.keys()
        if missing:
            if len(self._owners) > OWNERS_MAX:
                self._owners.clear()
                missing = wanted
            found = await repository.owners(session, missing)
            self._owners |= found  # those that are not found are asked for again
        return {one: self._owners.get(one) for one in wanted}

    async def _publish_watermarks(self) -> None:
        """Redis may have lost them, and nodes keep their journals until they hear."""
        async with self._context.reading() as session:
            known = await repository.watermarks(session)
        if known:
            await self._redis.hset(WATERMARKS_KEY, mapping={stream: str(place) for stream, place in known.items()})

    async def _finish(self, streams: Sequence[str]) -> None:
        """Streams whose gateway has ended leave Redis once they are booked to their end."""
        finals = {name.decode(): Position.parse(end) for name, end in (await self._redis.hgetall(FINAL_KEY)).items()}
        for stream, end in finals.items():
            async with self._context.reading() as session:
                booked = await repository.watermark(session, stream)
            if booked < end:
                continue
            try:
                await self._redis.delete(stream_key(stream))
                await self._redis.srem(STREAMS_KEY, stream)
                await self._redis.hdel(FINAL_KEY, stream)
            except ResponseError as error:
                log.warning("usage-stream-kept", stream=stream, message=str(error)[:200])


def _row(record: UsageRecord, owner: UsageVersion) -> dict[str, Any]:
    return {
        "invocation_id": record.invocation_id,
        "tenant_id": owner.tenant_id,
        "function": owner.function,
        "version_id": record.version_id,
        "arrived_at": _EPOCH + timedelta(microseconds=record.arrived_unix_ns // 1000),
        "outcome": record.outcome,
        "status": record.status,
        "billed": record.billed,
        "cold": record.cold,
        "deadline": record.deadline,
        "queue_us": record.queue_ns // 1000,
        "start_us": record.start_ns // 1000,
        "wall_us": record.wall_ns // 1000,
        "cpu_us": record.cpu_us,
        "memory_bytes": record.memory_bytes,
        "mib_us": record.mib_us,
        "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes,
        "log_bytes": record.log_bytes,
    }


def _hours(rows: Sequence[dict[str, Any]]) -> list[hourly.Usage]:
    sums: defaultdict[tuple[str, str, str, datetime], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for row in rows:
        if not row["billed"]:
            continue
        hour = row["arrived_at"].replace(minute=0, second=0, microsecond=0)
        into = sums[row["tenant_id"], row["function"], row["version_id"], hour]
        into[0] += 1
        into[1] += not 200 <= row["status"] < 400
        into[2] += row["cpu_us"]
        into[3] += row["mib_us"]
    return [hourly.Usage(*key, *values) for key, values in sums.items()]
