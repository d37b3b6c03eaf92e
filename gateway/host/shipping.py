"""Carries the journal to Redis, where the control plane reads it: nothing is lost, nothing comes twice.

Started by ``node``; never raises but for cancellation. Each stream of the journal goes into a stream of the same name
in Redis, in runs of whole records whose ids are positions (``contract.usage``). The journal is the truth: what Redis
loses is sent again from the control plane's watermark, and a segment is deleted only when that has passed it.
"""

import asyncio
import time
from typing import Any

import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError, ResponseError

from gateway.contract.usage import (
    FINAL_KEY,
    HEADER_BYTES,
    PREVIOUS_FIELD,
    RECORDS_FIELD,
    SLOT_BYTES,
    START,
    STREAMS_KEY,
    WATERMARKS_KEY,
    Position,
    slots,
    stream_key,
)
from gateway.core.data_plane import valid_slots
from gateway.host.journal import Journal, Segment
from gateway.settings import HostSettings

_log = structlog.get_logger("shipping")
_TICK_S = 0.2
_LOOK_S = 1.0
"""How often Redis is asked what it has and what is booked."""
_RUN_BYTES_MAX = 256 * 1024
_RUNS_MAX = 16
"""Of one stream, between two looks at the others."""
_STREAM_ENTRIES_MAX = 256
"""Runs that may wait in Redis unbooked; then they wait in the journal."""


class Shipping:
    def __init__(self, settings: HostSettings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._sent: dict[str, Position] = {}
        """What Redis has, by stream."""
        self._booked: dict[str, Position] = {}
        self._ends: dict[str, Position] = {}
        """Streams of gateways that have ended."""
        self.unbooked_bytes = 0
        """In the journal and not yet booked: the usage lag."""

    async def run(self) -> None:
        if self._settings.redis_url is None:
            await asyncio.Event().wait()  # the journal keeps everything until there is a Redis
            return
        timeout_s = self._settings.redis_timeout.total_seconds()
        backoff_s = _TICK_S
        while True:
            client = redis.Redis.from_url(
                self._settings.redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
            )
            try:
                async with client:
                    await self._ship(client)
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("usage is kept in the journal; Redis is away", error=str(error)[:300])
            self._sent.clear()
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, self._settings.redis_backoff_max.total_seconds())

    async def flush(self, within_s: float) -> None:
        """At a drain: what was served last goes out now. What does not is sent by the next gateway."""
        if self._settings.redis_url is None:
            return
        try:
            async with asyncio.timeout(within_s), redis.Redis.from_url(self._settings.redis_url) as client:
                await self._look(client)
                await self._send_all(client)
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("the last usage was not sent; the next gateway does it", error=str(error)[:300])

    async def _ship(self, client: Any) -> None:
        looked_s = 0.0
        while True:
            if time.monotonic() - looked_s >= _LOOK_S:
                self._ends |= await asyncio.to_thread(self._journal.recover)
                await self._look(client)
                await asyncio.to_thread(self._tidy)
                looked_s = time.monotonic()
            await self._send_all(client)
            await asyncio.sleep(_TICK_S)

    async def _look(self, client: Any) -> None:
        """Redis' word on what it has, never our memory of it: it may have been emptied or set back."""
        streams = {*self._journal.segments(), *self._journal.streams()}
        watermarks = await client.hgetall(WATERMARKS_KEY)
        self._booked = {name.decode(): Position.parse(value) for name, value in watermarks.items()}
        for stream in streams:
            booked = self._booked.get(stream, START)
            try:
                newest = Position.parse((await client.xinfo_stream(stream_key(stream)))["last-generated-id"])
            except ResponseError:
                newest = START  # there is no such stream
            self._sent[stream] = max(booked, newest)
        if streams:
            await client.sadd(STREAMS_KEY, *streams)
        for stream, end in self._ends.items():
            if stream in streams:
                await client.hset(FINAL_KEY, stream, str(end))
            else:
                await client.hdel(WATERMARKS_KEY, stream)
        self._ends = {stream: end for stream, end in self._ends.items() if stream in streams}

    async def _send_all(self, client: Any) -> None:
        unbooked = 0
        for stream, segments in (await asyncio.to_thread(self._journal.segments)).items():
            if stream in self._sent:
                unbooked += await self._send(client, stream, segments)
        self.unbooked_bytes = unbooked

    async def _send(self, client: Any, stream: str, segments: list[Segment]) -> int:
        """→ bytes that are not booked"""
        booked, unbooked, runs = self._booked.get(stream, START), 0, 0
        for segment in segments:
            committed, _ = segment.committed()
            if segment.number >= booked.number:
                from_offset = booked.offset if segment.number == booked.number else HEADER_BYTES
                unbooked += max(committed - from_offset, 0)
            sent = self._sent[stream]
            if segment.number < sent.number:
                continue
            offset = sent.offset if segment.number == sent.number else HEADER_BYTES
            while offset < committed and runs < _RUNS_MAX:
                if runs == 0 and await client.xlen(stream_key(stream)) >= _STREAM_ENTRIES_MAX:
                    return unbooked
                end = min(committed, offset + _RUN_BYTES_MAX)
                records = await asyncio.to_thread(segment.read, offset, end)
                if valid_slots(records) < len(records):
                    records = _marked(records, segment.path.name, offset)
                runs += 1
                await self._add(client, stream, Position(segment.number, end), records)
                offset = end
        return unbooked

    async def _add(self, client: Any, stream: str, position: Position, records: bytes) -> None:
        fields = {RECORDS_FIELD: records, PREVIOUS_FIELD: str(self._sent[stream])}
        try:
            await client.xadd(stream_key(stream), fields, id=str(position))
        except ResponseError as error:
            if "equal or smaller" not in str(error):
                raise  # else: it came through before, only the answer was lost
        self._sent[stream] = position

    def _tidy(self) -> None:
        for stream, booked in self._booked.items():
            end = self._ends.get(stream)
            try:
                self._journal.remove(stream, booked, ended=end is not None and booked >= end)
            except (OSError, ValueError) as error:
                _log.error("a booked segment could not be removed", stream=stream, error=str(error))


def _marked(records: bytes, segment: str, offset: int) -> bytes:
    """The disk's fault: slots with a wrong checksum lose their kind, so that the control plane sets them aside."""
    out = []
    for at, slot in enumerate(slots(records)):
        if valid_slots(slot):
            out.append(slot)
        else:
            _log.error("a usage record is corrupt", segment=segment, offset=offset + at * SLOT_BYTES)
            out.append(slot[:4] + b"\xff\xff\xff\xff" + slot[8:])
    return b"".join(out)
