"""Books usage: reads what nodes sent to Redis, writes it to SQL once, says how far it has come.

Run by ``process``, beside the control plane. One transaction for thousands of records: rows, hours, and the watermark
of the stream move together or not at all, so a crash at any moment books nothing twice and nothing never. The
watermark lies in SQL, which is why this needs no consumer group: reading begins behind it, whatever Redis believes was
delivered (docs/decisions/0020). Several control planes may do this at once: whose watermark has moved meanwhile, does
nothing.

A run that does not continue the watermark is a hole (Redis lost something): the stream is deleted there, and its node
sends everything behind the watermark again. A record that cannot be booked goes to ``usage_dead_letters``.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy.exc import SQLAlchemyError

from control_plane.database import Database
from control_plane.usage import booking, floors, hourly, repository, rollup, touched
from control_plane.usage.booking import Owner
from control_plane.usage.courtesy import Courtesy
from control_plane.usage.repository import Stream
from gateway.contract.usage import (
    DEAD_LETTERS_KEY,
    FINAL_KEY,
    HEADER_BYTES,
    PREVIOUS_FIELD,
    RECORDS_FIELD,
    SLOT_BYTES,
    STREAMS_KEY,
    WATERMARKS_KEY,
    Position,
    slots,
    stream_key,
)

log = structlog.get_logger(__name__)

IDLE_S: Final = 0.25
"""Between two looks. What came meanwhile is one transaction, so this is also what keeps commits few."""
RECORDS_MAX: Final = 4096
"""Of one transaction, unless one run has more: SQLite's other writers wait for it."""
_RUNS_MAX: Final = 64
_PUBLISH_S: Final = 5.0
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_LAST_S: Final = 10.0
OWNERS_MAX: Final = 50_000


class _Run(NamedTuple):
    """Entries of Redis that continue the watermark, put together. ``segment`` is where all of it lies."""

    begin: Position
    end: Position
    records: bytes


class UsageConsumer:
    def __init__(self, database: Database, redis: Redis) -> None:
        self._database = database
        self._redis: Any = redis
        self._owners: dict[bytes, Owner] = {}
        """By the id as it is in the journal. Those that are not found are asked for again."""
        self._floors = floors.Floors(database, redis)
        self._published_s = float("-inf")
        self._courtesy = Courtesy()
        self._lag_s = 0.0
        """How old the last record was when it was booked."""

    async def run(self) -> None:
        """Until cancelled."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                more = await self.round()
                await self._floors.publish()
                backoff_s = BACKOFF_FIRST_S
                await asyncio.sleep(self._courtesy.pause_s(self._lag_s) if more else IDLE_S)
            except (RedisError, OSError, SQLAlchemyError) as error:
                self._owners.clear()  # rows of a transaction that was rolled back cannot be read any more
                log.warning("usage-failed", error=type(error).__name__, message=str(error)[:200], retry_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_LAST_S)

    async def round(self) -> bool:
        """One transaction for each stream. Whether there may be more at once."""
        names = sorted(name.decode() for name in await self._redis.smembers(STREAMS_KEY))
        known = await self._streams(names)
        await self._publish(known)
        more = False
        for name in names:
            more |= await self._read(name, known[name])
        await self._finish()
        return more

    async def _streams(self, names: Collection[str]) -> dict[str, Stream]:
        async with self._database.reading() as session:
            known = await repository.streams(session, names)
        missing = set(names) - known.keys()
        if missing:
            async with self._database.writing() as session:
                await repository.add_streams(session, missing)
                known |= await repository.streams(session, missing)
        return known

    async def _read(self, name: str, stream: Stream) -> bool:
        entries = await self._redis.xrange(stream_key(name), min=f"({stream.booked}", count=_RUNS_MAX)
        if not entries:
            return False
        run, used = _join(stream.booked, entries)
        if run is None:
            log.warning("usage-hole", stream=name, booked=str(stream.booked), found=entries[0][0].decode())
            await self._redis.delete(stream_key(name))
            return False
        if not await self._book(name, stream, run):
            return True  # another control plane was faster: look again from where it has come to
        await self._redis.hset(WATERMARKS_KEY, name, str(run.end))
        await self._redis.xtrim(stream_key(name), minid=f"{run.end.number}-{run.end.offset + 1}", approximate=False)
        return used < len(entries) or len(entries) == _RUNS_MAX

    async def _book(self, name: str, stream: Stream, run: _Run) -> bool:
        """Everything in one transaction: the watermark, the rows, the hours. False: the watermark was elsewhere."""
        await self._learn_owners(run.records)
        booked = booking.book(stream.number, run.begin, run.records, self._owners)
        async with self._database.writing() as session:
            if not await repository.move_watermark(session, stream.number, stream.booked, run.end):
                return False
            inserted = await repository.insert_records(session, booked.rows)
            await repository.insert_dead(session, name, booked.dead)
            await hourly.add(session, booking.hours_of(inserted))
            await rollup.add(session, inserted)
        if booked.rows:
            self._lag_s = time.time() - booked.rows[-1].arrived_unix_us / 1e6
        tenant_ids = {row.tenant_id for row in inserted}
        self._floors.touch(tenant_ids)
        await touched.note(self._redis, tenant_ids)
        if booked.dead:
            log.error("usage-dead-letters", stream=name, count=len(booked.dead), reason=booked.dead[0].reason)
            self._published_s = float("-inf")
        return True

    async def _learn_owners(self, records: bytes) -> None:
        missing = {booking.version_of(slot) for slot in slots(records)} - self._owners.keys()
        if not missing:
            return
        if len(self._owners) + len(missing) > OWNERS_MAX:
            self._owners.clear()
        texts = {one.rstrip(b"\0").decode("ascii", "replace"): one for one in missing}
        async with self._database.reading() as session:
            found = await repository.owners(session, texts.keys())
        self._owners |= {texts[version_id]: owner for version_id, owner in found.items()}

    async def _publish(self, known: dict[str, Stream]) -> None:
        """Redis may have lost the watermarks, and nodes keep their journals until they hear."""
        if time.monotonic() - self._published_s < _PUBLISH_S:
            return
        async with self._database.reading() as session:
            dead = await repository.dead_letters_count(session)
        await self._redis.set(DEAD_LETTERS_KEY, dead)
        if known:
            places = {name: str(stream.booked) for name, stream in known.items()}
            await self._redis.hset(WATERMARKS_KEY, mapping=places)
        self._published_s = time.monotonic()

    async def _finish(self) -> None:
        """Streams whose gateway has ended leave Redis once they are booked to their end."""
        finals = {name.decode(): Position.parse(end) for name, end in (await self._redis.hgetall(FINAL_KEY)).items()}
        if not finals:
            return
        async with self._database.reading() as session:
            known = await repository.streams(session, finals.keys())
        for name, end in finals.items():
            stream = known.get(name)
            if stream is None or stream.booked < end:
                continue
            try:
                await self._redis.delete(stream_key(name))
                await self._redis.srem(STREAMS_KEY, name)
                await self._redis.hdel(FINAL_KEY, name)
            except ResponseError as error:
                log.warning("usage-stream-kept", stream=name, message=str(error)[:200])


def _join(booked: Position, entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> tuple[_Run | None, int]:
    """→ what continues ``booked``, from one segment, and how many entries that took. None: the first one does not."""
    parts: list[bytes] = []
    size = 0
    at = booked
    for identifier, fields in entries:
        end, records = Position.parse(identifier), fields.get(RECORDS_FIELD, b"")
        begin = Position(end.number, end.offset - len(records))
        continues = Position.parse(fields.get(PREVIOUS_FIELD, b"0-0")) == at and _touches(at, begin)
        if not continues or not records or len(records) % SLOT_BYTES:
            break
        if parts and (end.number != at.number or size + len(records) > RECORDS_MAX * SLOT_BYTES):
            break
        parts.append(records)
        size += len(records)
        at = end
    if not parts:
        return None, 0
    return _Run(Position(at.number, at.offset - size), at, b"".join(parts)), len(parts)


def _touches(at: Position, begin: Position) -> bool:
    """Whether nothing lies between: the same place, or the beginning of a later segment."""
    return begin == at or (begin.number > at.number and begin.offset == HEADER_BYTES)
