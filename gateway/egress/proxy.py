"""One connection of a worker: reads what it wants, judges where that leads, connects there, carries.

Called by ``server`` for each accepted connection. What always holds: what is connected to is the address that was
judged; a refusal says by which rule; the worker's end of the connection is closed when this returns.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass

import h11

from gateway.egress import plain
from gateway.egress.allowance import Version
from gateway.egress.head import HeadError, Target, target_of
from gateway.egress.policy import Address, Policy
from gateway.egress.refusal import Refused, answer
from gateway.egress.relay import PIECE_BYTES, Activity, Side, flushed, put, side, tunnel
from gateway.egress.resolver import Resolver
from gateway.egress.settings import EgressSettings

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_HEAD_PIECE_BYTES = 1024
_LINGER_S = 1.0
_LINGER_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Proxy:
    settings: EgressSettings
    policy: Policy
    resolver: Resolver
    problem_base_url: str

    async def serve(self, accepted: socket.socket, version: Version, names: asyncio.Semaphore) -> Refused | None:
        """Returns how it was refused. ``accepted`` is closed, also when this is cancelled."""
        try:
            worker = await side(accepted)
        except BaseException:
            accepted.close()
            raise
        sides = [worker]
        try:
            await self._serve(sides, version, names)
        except Refused as refused:
            version.tenant.refused_total[refused.rule] += 1
            with contextlib.suppress(OSError, TimeoutError):
                await self._refuse(worker, refused)
            return refused
        except OSError:
            pass  # one of the two is gone: the other finds out by the end of its connection
        except asyncio.CancelledError:
            worker.abort()
            raise
        finally:
            worker.close()
            # It counts as open until then: who reads nothing must not get around the bounds.
            await flushed(sides)
        return None

    async def _serve(self, sides: list[Side], version: Version, names: asyncio.Semaphore) -> None:
        """``sides``: the worker's; the one outside is put to it."""
        worker = sides[0]
        near = h11.Connection(h11.SERVER, max_incomplete_event_size=self.settings.header_bytes_max)
        request = await self._head(near, worker)
        if request is None:
            return
        try:
            target = target_of(request)
        except HeadError as error:
            raise Refused("bad-request", str(error)) from error
        if version.connections > version.connections_max:
            text = f"Open: {version.connections}, allowed to this version on a node: {version.connections_max}."
            raise Refused("connections", text, target.host, target.port)
        try:
            outside = await self._connect(target, names)
        except Refused as refused:
            raise Refused(refused.rule, refused.detail, target.host, target.port) from None
        sides.append(outside)
        settings = self.settings
        activity = Activity(
            (worker, outside), settings.idle_timeout.total_seconds(), settings.half_open_timeout.total_seconds()
        )
        try:
            if target.is_tunnel:
                worker.writer.write(_ESTABLISHED)
                # What came behind the head, in the same packet, is the tunnel's.
                await put(outside, near.trailing_data[0], version.sent, activity)
                await tunnel(worker, outside, version.sent, version.received, activity)
            else:
                await plain.forward(request, target, near, worker, outside, version.sent, version.received, activity)
        finally:
            activity.stop()
            outside.close()

    async def _head(self, near: h11.Connection, worker: Side) -> h11.Request | None:
        """None: nothing was asked. Raises Refused."""
        try:
            async with asyncio.timeout(self.settings.header_timeout.total_seconds()):
                event = await plain.next_head(near, worker.reader, _HEAD_PIECE_BYTES)
        except TimeoutError:
            raise Refused("head-timeout") from None
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == plain.HEAD_TOO_LARGE:
                allowed = f"Allowed: {self.settings.header_bytes_max} bytes, {plain.HEAD_LINES_MAX} lines."
                raise Refused("head-too-large", allowed) from error
            raise Refused("bad-request", str(error)) from error
        return event if isinstance(event, h11.Request) else None

    async def _connect(self, target: Target, names: asyncio.Semaphore) -> Side:
        """Raises Refused."""
        if not self.policy.may_use(target.port):
            raise Refused("port", f"Allowed: {', '.join(map(str, self.policy.ports))}.")
        try:
            async with asyncio.timeout(self.settings.connect_timeout.total_seconds()):
                addresses = await self.resolver.addresses(target.host, names)
                return await self._first_of(addresses, target.port)
        except TimeoutError:
            raise Refused("connect-timeout") from None

    async def _first_of(self, addresses: list[Address], port: int) -> Side:
        """The first of the allowed ones that answers. Raises Refused."""
        rules = [self.policy.refusal(address, port) for address in addresses]
        allowed = [address for address, rule in zip(addresses, rules, strict=True) if rule is None]
        if not allowed:
            rule = rules[0] or "connect-failed"
            raise Refused(rule, f"Allowed: {', '.join(map(str, self.policy.ports))}." if rule == "port" else "")
        for address in allowed:
            with contextlib.suppress(OSError):
                return await _connected(address, port)
        raise Refused("connect-failed")

    async def _refuse(self, worker: Side, refused: Refused) -> None:
        worker.writer.write(answer(refused, self.problem_base_url))
        async with asyncio.timeout(_LINGER_S):
            await worker.writer.drain()
            worker.writer.write_eof()
            # Closed over bytes that nobody has read, the connection would be reset, and the answer with it.
            left = _LINGER_BYTES_MAX
            while left > 0 and (piece := await worker.reader.read(PIECE_BYTES)):
                left -= len(piece)


async def _connected(address: Address, port: int) -> Side:
    """Raises OSError."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    outside = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Who does not read out there has the kernel keep this for it, not megabytes.
        outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, PIECE_BYTES)
        await asyncio.get_running_loop().sock_connect(outside, (str(address), port))
        return await side(outside)
    except BaseException:
        outside.close()
        raise
