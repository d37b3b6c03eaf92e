"""Takes workers' sockets from zygotes, accepts on each, and lets go of it when its worker has ended.

Called by ``__main__``; one thread, one loop. What always holds: a worker's socket is kept exactly as long as its
process lives (its pidfd tells), for the socket keeps its network namespace alive; when that process ends, so does every
connection of its; who has all it may have waits in its own socket's queue and costs nothing.
"""

import asyncio
import contextlib
import os
import socket
import time
from dataclasses import dataclass, field

import msgspec

from gateway.contract.egress import DESCRIPTORS, MESSAGE_BYTES_MAX, Question
from gateway.egress.allowance import Bucket, Tenant, Version
from gateway.egress.log import Log
from gateway.egress.proxy import Proxy
from gateway.egress.settings import EgressSettings

_PEERS_MAX = 64
"""Zygotes and gateways that are connected."""
_ACCEPTS_AT_ONCE = 16
_REFUSING_MAX = 16
"""Connections of a version beyond its bound that may be open to be told so; more wait."""
_AGAIN_S = 0.1
_TELL_S = 2.0
_TENANTS_PER_ANSWER = 100
_TENANTS_MAX = 10_000
"""Whose counters are kept although they have no worker."""
_decode = msgspec.json.Decoder(Question).decode


@dataclass(slots=True, eq=False)
class _Worker:
    listener: socket.socket
    pidfd: int
    version: Version
    connections: set[asyncio.Task[None]] = field(default_factory=set)
    again: asyncio.TimerHandle | None = None
    """When it is looked at once more, if that is known."""

    @property
    def inode(self) -> int:
        return os.fstat(self.listener.fileno()).st_ino


class Server:
    def __init__(self, listener: socket.socket, settings: EgressSettings, proxy: Proxy, log: Log) -> None:
        self._listener = listener
        self._settings = settings
        self._proxy = proxy
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._workers: dict[int, _Worker] = {}
        """By their socket's inode: a zygote whose connection broke off sends all it has once more."""
        self._tenants: dict[str, Tenant] = {}
        self._versions: dict[tuple[str, str], Version] = {}
        """By tenant and id; also without a worker until its bucket is full again: a new worker is no new allowance."""
        self._names: dict[str, asyncio.Semaphore] = {}
        self._paused: set[_Worker] = set()
        self._peers: set[socket.socket] = set()
        self._answers: set[asyncio.Task[None]] = set()
        self._open = 0

    def start(self) -> None:
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._meet)

    # -- zygotes and gateways --------------------------------------------------------------------------------------

    def _meet(self) -> None:
        try:
            peer, _address = self._listener.accept()
        except OSError:
            return
        if len(self._peers) >= _PEERS_MAX:
            peer.close()
            return
        peer.setblocking(False)
        self._peers.add(peer)
        self._loop.add_reader(peer, self._hear, peer)

    def _hear(self, peer: socket.socket) -> None:
        try:
            message, fds, flags, _address = socket.recv_fds(
                peer, MESSAGE_BYTES_MAX, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            message, fds, flags = b"", [], 0
        question = None
        if message and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            with contextlib.suppress(msgspec.MsgspecError):
                question = _decode(message)
        if question is None:
            self._part(peer, fds)
        elif question.worker and len(fds) == DESCRIPTORS:
            self._take(question, *fds)
        else:
            self._loop.remove_reader(peer)
            task = self._loop.create_task(self._tell(peer, fds))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _tell(self, peer: socket.socket, fds: list[int]) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_TELL_S):
                for part in self.counters():
                    await self._loop.sock_sendall(peer, part)
        self._part(peer, fds)

    def _part(self, peer: socket.socket, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        self._loop.remove_reader(peer)
        self._peers.discard(peer)
        peer.close()

    def counters(self) -> list[bytes]:
        """Of all tenants, in datagrams."""
        documents = [tenant.document() for tenant in self._tenants.values()]
        starts = range(0, len(documents), _TENANTS_PER_ANSWER)
        return [msgspec.json.encode(documents[at : at + _TENANTS_PER_ANSWER]) for at in starts]

    def tenants(self) -> list[Tenant]:
        return list(self._tenants.values())

    # -- workers ---------------------------------------------------------------------------------------------------

    def _take(self, question: Question, listener_fd: int, pidfd: int) -> None:
        listener = socket.socket(fileno=listener_fd)
        listener.setblocking(False)
        inode = os.fstat(listener_fd).st_ino
        if inode in self._workers:
            listener.close()
            os.close(pidfd)
            return
        version = self._version(question, time.monotonic())
        worker = self._workers[inode] = _Worker(listener, pidfd, version)
        version.workers += 1
        version.tenant.workers += 1
        self._loop.add_reader(pidfd, self._ended, worker)
        self._resume(worker)

    def _version(self, question: Question, now_s: float) -> Version:
        tenant = self._tenants.get(question.tenant)
        if tenant is None:
            self._forget_tenants()
            rate = self._settings.accepts_per_s
            tenant = self._tenants[question.tenant] = Tenant(question.tenant, Bucket.full(rate, rate, now_s))
            self._names[question.tenant] = asyncio.Semaphore(self._settings.names_at_once_max)
        key = (question.tenant, question.version_id)
        version = self._versions.get(key)
        most = max(1, question.bytes_per_minute)
        if version is None:
            self._forget_versions(now_s)
            bucket = Bucket.of_minute(most, now_s)
            version = Version(tenant, question.version_id, question.function, question.connections_max, bucket)
            self._versions[key] = version
        elif version.bytes.most != most:
            version.bytes = Bucket.of_minute(most, now_s)
        # One without workers may have outlived its tenant's counters.
        version.tenant = tenant
        version.connections_max = question.connections_max
        return version

    def _forget_versions(self, now_s: float) -> None:
        for key, version in list(self._versions.items()):
            if not version.workers and not version.connections and version.bytes.is_full(now_s):
                del self._versions[key]

    def _forget_tenants(self) -> None:
        for name in [name for name, tenant in self._tenants.items() if not tenant.workers and not tenant.connections]:
            if len(self._tenants) < _TENANTS_MAX:
                return
            del self._tenants[name], self._names[name]

    def _ended(self, worker: _Worker) -> None:
        """The worker's process is gone, and nobody may hold its namespace or go on in its name."""
        self._loop.remove_reader(worker.pidfd)
        del self._workers[worker.inode]
        os.close(worker.pidfd)
        self._pause(worker)
        self._paused.discard(worker)
        if worker.again is not None:
            worker.again.cancel()
        worker.listener.close()
        for connection in worker.connections:
            connection.cancel()
        worker.version.workers -= 1
        worker.version.tenant.workers -= 1

    # -- connections -----------------------------------------------------------------------------------------------

    def _accept(self, worker: _Worker) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            tenant = worker.version.tenant
            if (wait_s := tenant.accepts.debt_s(time.monotonic())) > 0:
                self._pause(worker, wait_s)
                return
            if not self._has_room(worker):
                self._pause(worker)
                return
            try:
                accepted, _address = worker.listener.accept()
            except BlockingIOError:
                return
            except OSError:
                # Descriptors are short, or the connection was given up before we looked.
                self._pause(worker, _AGAIN_S)
                return
            accepted.setblocking(False)
            tenant.accepts.spend(1, time.monotonic())
            worker.version.connections += 1
            tenant.connections += 1
            tenant.connections_total += 1
            self._open += 1
            # Eagerly: a task that is cancelled before its first step would never give back what it was counted for.
            task = asyncio.Task(self._serve(accepted, worker), loop=self._loop, eager_start=True)
            worker.connections.add(task)
            task.add_done_callback(worker.connections.discard)

    def _has_room(self, worker: _Worker) -> bool:
        """A tenant may have as many as are free, so the last ones are for who has few: n that take all they can get
        have an n + 1st part each, and leave one."""
        version = worker.version
        free = self._settings.connections_max - self._open
        return version.connections < version.connections_max + _REFUSING_MAX and version.tenant.connections < min(
            self._settings.connections_per_tenant_max, free
        )

    def _pause(self, worker: _Worker, again_s: float | None = None) -> None:
        """``again_s``: else it goes on when a connection ends."""
        self._loop.remove_reader(worker.listener)
        if again_s is None:
            self._paused.add(worker)
        elif worker.again is None:
            worker.again = self._loop.call_later(again_s, self._resume, worker)

    def _resume(self, worker: _Worker) -> None:
        worker.again = None
        self._paused.discard(worker)
        self._loop.add_reader(worker.listener, self._accept, worker)

    async def _serve(self, accepted: socket.socket, worker: _Worker) -> None:
        version = worker.version
        try:
            refused = await self._proxy.serve(accepted, version, self._names[version.tenant.name])
            if refused is not None:
                self._log.refused(version, refused)
        finally:
            version.connections -= 1
            version.tenant.connections -= 1
            self._open -= 1
            if self._paused:
                for waiting in [one for one in self._paused if self._has_room(one)]:
                    self._resume(waiting)
