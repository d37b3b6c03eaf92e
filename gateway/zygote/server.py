"""Listens, forks, reaps: the zygote's one loop, in one thread.

Called by ``__main__``. Gateways' reactors connect (one connection each) and ask for workers; each answer goes to the
connection that asked. What always holds: a worker has exactly one entry in ``_workers`` until it is reaped, and its end
is told to its connection if that still lives; when a connection ends, its workers are killed; nothing here blocks on a
gateway that does not read.
"""

import contextlib
import errno
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.cgroup.group import Group
from gateway.contract.worker import SpawnSpec
from gateway.zygote import child, protocol
from gateway.zygote.egress import AGAIN_S, Egress
from gateway.zygote.groups import Groups, may_fork, usage_s
from gateway.zygote.networks import Networks
from gateway.zygote.protocol import KIND_REFUSED, KIND_SPAWNED, KIND_TRIPWIRE, ProtocolError, Spawn
from gateway.zygote.reserved import Reserved, ReservedPlace
from gateway.zygote.spawner import Forked, Spawner
from gateway.zygote.template import Order, TemplateError

WORKERS_MAX = 4096
CONNECTIONS_MAX = 256
UNSENT_MAX = 2 * WORKERS_MAX
"""Replies that wait for a gateway to read; more, and the connection is given up."""
_TAKE_MAX = 64
"""Connections taken at a time."""
_NICE_AHEAD = 5
"""Of its workers: all tenants wait for one zygote, and a crowd that one of them starts must not take its turn."""


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    unsent: deque[tuple[bytes, list[int]]] = field(default_factory=deque)
    pidfds: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Worker:
    pid: int
    pidfd: int
    request: int
    connection: _Connection | None
    group: Group
    spec: SpawnSpec
    asks: Forked | None
    """Its word, once its user namespace is there, is still to come."""
    place: ReservedPlace | None = None
    network_fd: int | None = None
    """Of its namespace, if another worker may have that after it."""
    cpu_fd: int | None = None
    """Counts the CPU time of all its processes, of one that may have several."""


class Server:
    def __init__(
        self, listener: socket.socket, spawner: Spawner, groups: Groups, reserved: Reserved, egress: Egress
    ) -> None:
        self._networks = Networks.of(spawner.jail)
        self._listener = listener
        self._spawner = spawner
        self._groups = groups
        self._reserved = reserved
        self._egress = egress
        self._egress_fd: int | None = None
        """As it is being polled."""
        self._poll = select.poll()
        self._connections: dict[int, _Connection] = {}
        self._workers: dict[int, _Worker] = {}
        """By pidfd."""
        self._asking: dict[int, _Worker] = {}
        """By the descriptor of their ear."""
        self._cpus = os.sched_getaffinity(0)
        self._ending = False

    def serve(self) -> None:
        """Until SIGTERM or SIGINT. Raises TemplateError."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        self._listener.setblocking(False)
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(wake_read, select.POLLIN)
        if self._spawner.template is not None:
            # It speaks only when it is asked, and is heard then.
            self._poll.register(self._spawner.template.orders, select.POLLHUP)
        while not self._ending:
            again_s = self._reserved.tick()
            if self._follow_egress():
                again_s = AGAIN_S if again_s is None else min(again_s, AGAIN_S)
            for fd, events in self._poll.poll(None if again_s is None else again_s * 1000):
                self._handle(fd, events)

    def _end(self, number: int, frame: object) -> None:
        self._ending = True

    def _handle(self, fd: int, events: int) -> None:
        if fd == self._listener.fileno():
            self._accept()
        elif (worker := self._workers.get(fd)) is not None:
            self._reap(worker)
        elif (worker := self._asking.get(fd)) is not None:
            self._answer(worker)
        elif self._spawner.template is not None and fd == self._spawner.template.orders.fileno():
            raise TemplateError("the process that workers are forked from has ended")
        elif fd == self._egress_fd:
            self._hear_egress(events)
        elif (connection := self._connections.get(fd)) is not None:
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._receive(connection)
            if events & select.POLLOUT and fd in self._connections:
                self._flush(connection)

    def _accept(self) -> None:
        for _ in range(_TAKE_MAX):
            try:
                accepted, _address = self._listener.accept()
            except OSError:
                # Nobody waits any more, or descriptors are short for the moment: poll tells again.
                return
            if len(self._connections) >= CONNECTIONS_MAX:
                accepted.close()
                continue
            accepted.setblocking(False)
            self._connections[accepted.fileno()] = _Connection(accepted)
            self._poll.register(accepted, select.POLLIN)

    def _receive(self, connection: _Connection) -> None:
        try:
            frame, fds, flags, _address = socket.recv_fds(
                connection.socket, protocol.FRAME_BYTES_MAX, protocol.SPAWN_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        try:
            if not frame:
                self._close(connection)
                return
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(fds) != protocol.SPAWN_DESCRIPTORS:
                raise ProtocolError(f"{len(fds)} descriptors came along, a spawn has {protocol.SPAWN_DESCRIPTORS}")
            self._spawn(connection, protocol.decode_spawn(frame), fds[0], fds[1])
        except ProtocolError as error:
            self._refuse(connection, protocol.spawn_request(frame), errno.EINVAL, str(error))
        finally:
            for fd in fds:
                os.close(fd)

    def _spawn(self, connection: _Connection, spawn: Spawn, channel_fd: int, shared_fd: int) -> None:
        if len(self._workers) >= WORKERS_MAX:
            self._refuse(connection, spawn.request, errno.EAGAIN, f"{WORKERS_MAX} workers run already")
            return
        if not spawn.reserved_cpu and spawn.cpu not in self._cpus:
            text = f"CPU {spawn.cpu} is not one of ours: {sorted(self._cpus)}"
            self._refuse(connection, spawn.request, errno.EINVAL, text)
            return
        try:
            group, place = self._room(spawn)
        except OSError as error:
            self._refuse(connection, spawn.request, error.errno or errno.EAGAIN, f"control group: {error}")
            return
        jail = self._spawner.jail
        spec = replace(spawn.spec, network=jail.separates_network(spawn.spec))
        order = Order(
            spec=spec,
            cpu=spawn.cpu,
            owner_id=jail.next_owner(),
            entrances=group.entrances(),
            reserved_entrances=place.entrances() if place is not None else [],
            refusal=self._egress.refusal(spec),
        )
        network_fd = self._networks.take(spec)
        try:
            forked = self._spawner.spawn(order, channel_fd, shared_fd, network_fd)
        except OSError as error:
            self._vacate(group, place)
            self._networks.give(network_fd)
            self._refuse(connection, spawn.request, error.errno or errno.EAGAIN, f"fork: {error.strerror}")
            return
        pid = forked.pid
        try:
            pidfd, memory_fd, cpu_fd = _handles(pid, group, counted=may_fork(spec))
        except OSError as error:
            # Without them it could neither be watched nor killed safely.
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._vacate(group, place)
            self._networks.give(network_fd)
            if forked.ear is not None:
                forked.ear.close()
            self._refuse(connection, spawn.request, error.errno or errno.EMFILE, f"its descriptors: {error.strerror}")
            return
        if place is not None:
            place.pid = pid
        made = self._workers[pidfd] = _Worker(
            pid, pidfd, spawn.request, connection, group, spec, forked, place, network_fd, cpu_fd
        )
        if forked.ear is not None:
            self._asking[forked.ear.fileno()] = made
            self._poll.register(forked.ear, select.POLLIN)
        connection.pidfds.add(pidfd)
        self._poll.register(pidfd, select.POLLIN)
        try:
            fds = [pidfd]
            if memory_fd is not None:
                fds += [memory_fd] if cpu_fd is None else [memory_fd, cpu_fd]
            self._send(connection, protocol.reply(KIND_SPAWNED, spawn.request, pid, int(jail.limits_movable)), fds)
        finally:
            if memory_fd is not None:
                os.close(memory_fd)

    def _room(self, spawn: Spawn) -> tuple[Group, ReservedPlace | None]:
        """Its control group, and its place on a reserved CPU. Raises OSError: there is neither."""
        place = self._reserved.place(spawn.cpu) if spawn.reserved_cpu else None
        try:
            return self._groups.make(spawn.spec, place), place
        except OSError:
            if place is not None:
                self._reserved.gone(place)
            raise

    def _vacate(self, group: Group, place: ReservedPlace | None) -> None:
        if place is not None:
            self._reserved.gone(place)
        self._groups.remove(group)

    def _answer(self, worker: _Worker) -> None:
        forked = worker.asks
        if forked is None or forked.ear is None:
            return
        try:
            forked.ear.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except OSError:
            # Told of another's ear, which had the same number a moment ago.
            return
        worker.asks = None
        del self._asking[forked.ear.fileno()]
        self._poll.unregister(forked.ear)
        word = forked.answer()
        if word.door_fd is not None:
            self._egress.came(worker.spec, worker.pid, worker.pidfd, word.door_fd)
        if word.tripwire_fd is None:
            return
        # It has left our namespace: that came before this word.
        if worker.network_fd is None:
            worker.network_fd = self._networks.of_worker(worker.pid, worker.spec)
        # The gateway's from here on: it outlives us, and so does the worker.
        try:
            if worker.connection is not None:
                frame = protocol.reply(KIND_TRIPWIRE, worker.request, worker.pid, 0)
                self._send(worker.connection, frame, [word.tripwire_fd])
        finally:
            os.close(word.tripwire_fd)

    def _hear_egress(self, events: int) -> None:
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            # It never speaks: it has ended, and so has what it was given.
            self._forget_egress()
            self._egress.lost()
        self._egress.send()

    def _follow_egress(self) -> bool:
        """Polls the connection to the egress that there is now; whether there should be one and is none."""
        if self._egress.waits:
            self._egress.send()
        fd = self._egress.fileno()
        if fd != self._egress_fd:
            self._forget_egress()
        if fd is not None:
            self._poll.register(fd, select.POLLIN | (select.POLLOUT if self._egress.waits else 0))
            self._egress_fd = fd
        return fd is None and self._egress.waits

    def _forget_egress(self) -> None:
        if self._egress_fd is not None:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._egress_fd)
            self._egress_fd = None

    def _refuse(self, connection: _Connection, request: int, number: int, text: str) -> None:
        self._send(connection, protocol.reply(KIND_REFUSED, request, 0, number, text))

    def _reap(self, worker: _Worker) -> None:
        pid, status, used = os.wait4(worker.pid, os.WNOHANG)
        if pid == 0:
            return
        # It may have ended without asking; its pid names somebody else from now on.
        if (forked := worker.asks) is not None and forked.ear is not None:
            del self._asking[forked.ear.fileno()]
            self._poll.unregister(forked.ear)
            forked.ear.close()
        self._egress.gone(worker.pidfd)
        self._poll.unregister(worker.pidfd)
        del self._workers[worker.pidfd]
        if (connection := worker.connection) is not None:
            connection.pidfds.discard(worker.pidfd)
            # A reply that still waits with this pidfd keeps a copy of its own.
            oom_kills, peak_bytes = worker.group.oom_kills(), worker.group.memory_peak_bytes()
            cpu_s = used.ru_utime + used.ru_stime
            if worker.cpu_fd is not None:
                # Somebody may have removed the group.
                with contextlib.suppress(OSError):
                    cpu_s = usage_s(worker.cpu_fd)
            self._send(connection, protocol.exited(worker.request, worker.pid, status, oom_kills, peak_bytes, cpu_s))
        os.close(worker.pidfd)
        if worker.cpu_fd is not None:
            os.close(worker.cpu_fd)
        self._vacate(worker.group, worker.place)
        self._networks.give(worker.network_fd)

    def _send(self, connection: _Connection, frame: bytes, fds: Sequence[int] = ()) -> None:
        if connection.socket.fileno() < 0:
            return
        if not connection.unsent and self._send_now(connection, frame, fds):
            return
        if connection.socket.fileno() < 0:
            return
        if len(connection.unsent) >= UNSENT_MAX:
            self._close(connection)
            return
        connection.unsent.append((frame, [os.dup(fd) for fd in fds]))
        self._poll.modify(connection.socket, select.POLLIN | select.POLLOUT)

    def _send_now(self, connection: _Connection, frame: bytes, fds: Sequence[int]) -> bool:
        """False: not yet, or never (then the connection is closed)."""
        try:
            if fds:
                socket.send_fds(connection.socket, [frame], list(fds), socket.MSG_NOSIGNAL)
            else:
                connection.socket.send(frame, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError:
            self._close(connection)
            return False
        return True

    def _flush(self, connection: _Connection) -> None:
        while connection.unsent:
            frame, fds = connection.unsent[0]
            if not self._send_now(connection, frame, fds):
                return
            connection.unsent.popleft()
            for fd in fds:
                os.close(fd)
        self._poll.modify(connection.socket, select.POLLIN)

    def _close(self, connection: _Connection) -> None:
        """The gateway is gone: nobody could use or end its workers any more."""
        fd = connection.socket.fileno()
        if fd < 0:
            return
        self._poll.unregister(fd)
        del self._connections[fd]
        connection.socket.close()
        for _frame, waiting in connection.unsent:
            for fd in waiting:
                os.close(fd)
        connection.unsent.clear()
        for pidfd in connection.pidfds:
            self._workers[pidfd].connection = None
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        connection.pidfds.clear()


def _handles(pid: int, group: Group, *, counted: bool) -> tuple[int, int | None, int | None]:
    """A worker's pidfd, the folder of its memory's group, and the file that counts its CPU if it is ``counted``. Raises
    OSError: none is open."""
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, pidfd := os.pidfd_open(pid))
        if (memory_fd := group.memory_folder_fd()) is not None:
            opened.callback(os.close, memory_fd)
        cpu_fd = group.cpu_usage_fd() if counted else None
        opened.pop_all()
    return pidfd, memory_fd, cpu_fd


def go_first() -> None:
    """Before what workers are forked from is, which must not wait either."""
    with contextlib.suppress(PermissionError):  # an ordinary user's is one among its workers
        os.setpriority(os.PRIO_PROCESS, 0, child.nice() - _NICE_AHEAD)
