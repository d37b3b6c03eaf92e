"""Carries bytes both ways between a worker and the outside, counts them, and ends what nobody uses.

Called by ``proxy`` (tunnels) and ``plain``. What always holds: no more than one piece is held per direction beside the
sockets' buffers, of asyncio's at most two; a tenant over its bytes per minute waits, it alone; a connection on which
nothing moves is ended.
"""

import asyncio
import contextlib
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PIECE_BYTES = 64 * 1024
_FLUSH_S = 20.0
Count = Callable[[int, float], float]
"""Bytes and the time; seconds to wait."""


@dataclass(slots=True)
class Side:
    reader: StreamReader
    writer: StreamWriter

    def abort(self) -> None:
        self.writer.transport.abort()

    def close(self) -> None:
        """What is written is sent first. ``flushed`` waits for that."""
        self.writer.close()


async def side(connected: socket.socket) -> Side:
    """``connected`` is the side's from now on. Raises OSError; then it is still the caller's."""
    reader, writer = await asyncio.open_connection(sock=connected, limit=PIECE_BYTES // 2)
    # It reads 256 KiB at a time else, and goes on to read until it has more than twice the limit.
    writer.transport.max_size = PIECE_BYTES  # type: ignore[attr-defined]
    return Side(reader, writer)


async def flushed(sides: Sequence[Side]) -> None:
    """Until what was written to sides that are closed is sent, or nobody has taken it for a while. A cancellation does
    not hasten it: the worker may be gone, its last bytes are on their way."""
    full = [side for side in sides if side.writer.transport.get_write_buffer_size()]
    if full:
        waiting = asyncio.ensure_future(asyncio.wait([asyncio.ensure_future(_flushed(side)) for side in full]))
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await waiting
            raise


async def _flushed(side: Side) -> None:
    try:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_FLUSH_S):
                await side.writer.wait_closed()
    finally:
        side.abort()


class Activity:
    """Ends both sides when nothing has moved for too long. One timer, however often something moves."""

    def __init__(self, sides: tuple[Side, Side], idle_s: float, half_open_s: float) -> None:
        self._sides = sides
        self._idle_s = idle_s
        self._half_open_s = half_open_s
        self._last_s = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(idle_s, self._look)

    def touch(self, ahead_s: float = 0.0) -> None:
        """``ahead_s``: nothing will move before, and that is meant."""
        self._last_s = max(self._last_s, time.monotonic() + ahead_s)

    def half_open(self) -> None:
        self._idle_s = min(self._idle_s, self._half_open_s)
        self.touch()
        self._timer.cancel()
        self._look()

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left_s = self._last_s + self._idle_s - time.monotonic()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
            return
        for side in self._sides:
            side.abort()


async def tunnel(worker: Side, outside: Side, sent: Count, received: Count, activity: Activity) -> None:
    """Until both sides have said that nothing more comes, or one of them is gone."""
    ways = {
        asyncio.create_task(_carry(worker, outside, sent, activity)),
        asyncio.create_task(_carry(outside, worker, received, activity)),
    }
    try:
        done, _waiting = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        for way in done:
            with contextlib.suppress(OSError):
                way.result()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(source: Side, sink: Side, count: Count, activity: Activity) -> None:
    """Raises OSError when a side is gone."""
    while piece := await source.reader.read(PIECE_BYTES):
        await put(sink, piece, count, activity)
    if sink.writer.can_write_eof():
        sink.writer.write_eof()
    activity.half_open()


async def put(sink: Side, piece: bytes, count: Count, activity: Activity) -> None:
    """What is over the minute's bytes is waited for first: who ends the connection instead has moved nothing."""
    wait_s = count(len(piece), time.monotonic())
    if wait_s > 0:
        activity.touch(wait_s)
        await asyncio.sleep(wait_s)
    activity.touch()
    sink.writer.write(piece)
    await sink.writer.drain()
