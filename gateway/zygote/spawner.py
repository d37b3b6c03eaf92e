"""How a worker is forked: as the first process of a PID namespace, with the id maps of its user namespace written.

Called by ``server`` for each worker and at the start, to try whether the jail can be had. Two ways, for a PID namespace
takes in only what is forked after it was made:

- root: the zygote makes one, forks into it, and goes back to its own; the worker is its child as ever. The worker asks
  (one byte) for its id maps, which only a process outside may write.
- otherwise: a short-lived process between the two makes user and PID namespace and forks the worker; when it ends, the
  worker becomes the zygote's child (subreaper).

Either way the byte brings the descriptor on which forbidden calls are heard of (zigcore/src/jail/tripwire.zig), which
is for the gateway: we may end before our workers; of a version with a network, the socket of its namespace before it.
``fork`` does not wait for it, for the worker's mounts are made before: it comes on ``Forked.ear``, and ``answer``
deals with it. What always holds: ``fork`` returns the worker's pid as the zygote and the gateway see it, once it is a
child of ours.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from gateway.contract.worker import SpawnSpec, State
from gateway.core import jail as core
from gateway.core.binding import CoreError
from gateway.core.jail import JailConfig, JailError, MountKind, Part
from gateway.zygote import child
from gateway.zygote.jail import INNER_ID, Jail
from gateway.zygote.networks import entering
from gateway.zygote.template import Order, Template, decode, encode

_PR_SET_CHILD_SUBREAPER = 36
_EAR_FD_MIN = 16
_PROBE_REPORT_BYTES_MAX = 600

_STATES: tuple[State, ...] = ("warm", "fresh", "forked", "fresh")
_TRIAL = SpawnSpec("trial", "trial", "trial", str(Path(os.__file__).parent / "json"), "")
"""What a trial worker is made of: some folder as its code, nothing of it run."""

Body = Callable[[Callable[[], None]], NoReturn]
"""What the worker does; it calls its argument to enter the jail (may raise JailError), which closes descriptors."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a worker has sent along. Ours to close."""

    tripwire_fd: int | None = None
    """The gateway hears on it of a forbidden call. None: the kernel ends it then, without a word."""
    door_fd: int | None = None
    """Of a version with a network: the socket that listens in its namespace (zigcore/src/jail/network.zig)."""

    def close(self) -> None:
        for fd in (self.tripwire_fd, self.door_fd):
            if fd is not None:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class Forked:
    pid: int
    owner_id: int | None = None
    """None: it maps its ids itself."""
    ear: socket.socket | None = None
    """Readable when the worker speaks, or has ended before; none: it does not speak."""

    def answer(self) -> Word:
        """Writes the maps if that is asked; one that fails before it asks says so itself."""
        if self.ear is None:
            return Word()
        said = Word()
        # It may end meanwhile, or the id cannot be mapped: without the answer it refuses to go on.
        with self.ear, contextlib.suppress(OSError):
            word, fds, _flags, _address = socket.recv_fds(self.ear, 1, 2, socket.MSG_CMSG_CLOEXEC)
            door_fd = fds.pop(0) if word == b"n" and fds else None
            said = Word(fds[0] if fds else None, door_fd)
            if word in (b"u", b"n") and self.owner_id is not None:
                line = f"{INNER_ID} {self.owner_id} 1".encode()
                for name in ("uid_map", "gid_map"):
                    fd = os.open(f"/proc/{self.pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
                    try:
                        os.write(fd, line)
                    finally:
                        os.close(fd)
                self.ear.send(b"m")
        return said


class Spawner:
    def __init__(self, jail: Jail) -> None:
        self.jail = jail
        self.template: Template | None = None
        """None: workers are forked from this process itself."""
        self._own_pids: int | None = None
        """Our own PID namespace, to come back to."""
        if Part.PID in jail.parts:
            if jail.privileged:
                self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            else:
                ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def prepare(self) -> bool:
        """Forks the template, if workers can come from one: not those that another process has to stand between."""
        if not (self.jail.privileged or not self.jail.parts):
            return False
        try:
            self.template = Template.start(self._become, self._own_pids)
        except CoreError as error:
            sys.stderr.write(f"zygote: workers start more slowly: {error}\n")
        return self.template is not None

    def rehearse(self) -> None:
        """What each worker does first, so that CPython has learnt it."""
        for state in _STATES:
            order = Order(replace(_TRIAL, state=state), 0, 0, [], [], None, has_ear=True, has_network=True)
            order = decode(encode(order))
            core.Native(self._config(order))

    def spawn(self, order: Order, channel_fd: int, shared_fd: int, network_fd: int | None) -> Forked:
        """A worker. Raises OSError; then there is none."""
        order = replace(order, has_network=network_fd is not None)
        fds = [channel_fd, shared_fd]
        if self.template is None:
            return self.fork(self._config(order), lambda enter: self._run(order, fds, entering(network_fd, enter)))
        if not self.jail.parts:
            return Forked(self.template.fork(order, fds))
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unused, theirs:
            unused.enter_context(ours)
            fds.append(theirs.fileno())
            if network_fd is not None:
                fds.append(network_fd)
            pid = self.template.fork(replace(order, has_ear=True), fds)
            if Part.USER not in self.jail.parts:
                return Forked(pid)
            unused.pop_all()
        return Forked(pid, order.owner_id, ours)

    def _become(self, order: Order, fds: list[int]) -> NoReturn:
        """In a child of the template's."""
        try:
            native = core.Native(self._config(order))
            ear = fds[2] if order.has_ear else -1
            self._run(order, fds, entering(fds[-1] if order.has_network else None, lambda: core.enter(native, ear)))
        finally:
            os._exit(child.EXIT_BROKEN)

    def _run(self, order: Order, fds: list[int], enter: Callable[[], None]) -> NoReturn:
        child.become_worker(order, fds[0], fds[1], enter, self.jail.code_path(order.spec.code_path))

    def _config(self, order: Order) -> JailConfig:
        config = self.jail.config(order.spec, order.owner_id)
        return replace(config, parts=config.parts & ~Part.NET) if order.has_network else config

    def fork(self, config: JailConfig, body: Body) -> Forked:
        """From this process. Raises OSError; then there is no worker."""
        native = core.Native(config)
        if not self.jail.parts:
            return Forked(_forked(lambda: body(lambda: core.enter(native, -1))))
        ours, low = socket.socketpair()
        # Out of the way of those that the worker puts in their places.
        theirs = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _EAR_FD_MIN))
        low.close()
        with contextlib.ExitStack() as unused, theirs:
            unused.enter_context(ours)
            if self.jail.privileged:
                pid = self._fork_as_root(native, body, theirs.fileno())
            else:
                pid = self._fork_between(native, Part.PID in config.parts, body, theirs.fileno())
            if Part.USER not in config.parts:
                return Forked(pid)
            unused.pop_all()
        return Forked(pid, config.owner_id if self.jail.privileged else None, ours)

    def _fork_as_root(self, native: core.Native, body: Body, ear: int) -> int:
        if self._own_pids is not None:
            os.unshare(os.CLONE_NEWPID)
        try:
            return _forked(lambda: body(lambda: core.enter(native, ear)))
        finally:
            if self._own_pids is not None:
                os.setns(self._own_pids, os.CLONE_NEWPID)

    def _fork_between(self, native: core.Native, own_pids: bool, body: Body, ear: int) -> int:
        if not own_pids:
            return _forked(lambda: body(lambda: _begin_and_enter(native, ear)))
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            between = _forked(lambda: _between(native, body, write, ear))
        finally:
            os.close(write)
        text = os.read(read, 32)
        os.close(read)
        pid = int(text or b"0")
        if pid != between:
            os.waitpid(between, 0)
        if pid == 0:
            raise OSError(0, "the process between zygote and worker ended")
        return pid


def probe(spawner: Spawner, *, network: bool = False) -> str | None:
    """Tries the jail on a process that does nothing: None, or what was refused. ``network``: of a version with one."""
    read, write = os.pipe2(os.O_CLOEXEC)
    trees = [one.target for one in spawner.jail.mounts if one.kind is MountKind.TREE]
    trees = trees if Part.MOUNT in spawner.jail.parts else []

    def body(enter: Callable[[], None]) -> NoReturn:
        try:
            # Where a worker's descriptors are; numbers above belong to nobody in a jail.
            os.dup2(write, 3)
            enter()
            for path in trees:
                next(Path(path).iterdir(), None)
            os.write(3, b"ok")
        except JailError as error:
            os.write(3, str(error).encode()[:_PROBE_REPORT_BYTES_MAX])
        except OSError as error:
            text = f"{error.filename} cannot be read by the user of a worker ({error.strerror}): chmod -R o+rX it"
            os.write(3, text.encode()[:_PROBE_REPORT_BYTES_MAX])
        finally:
            os._exit(0)

    try:
        jail = spawner.jail
        forked = spawner.fork(jail.config(replace(_TRIAL, network=network), jail.next_owner()), body)
    except OSError as error:
        os.close(read)
        return f"fork into a PID namespace: {error.strerror}"
    finally:
        os.close(write)
    word = forked.answer()
    report = os.read(read, _PROBE_REPORT_BYTES_MAX).decode(errors="replace")
    os.close(read)
    word.close()
    _pid, status = os.waitpid(forked.pid, 0)
    return None if report == "ok" else report or f"the trial worker ended with status {status}"


def partial_spawner(jail: Jail) -> tuple[Spawner, dict[Part, str]]:
    """All parts that work together, taken in one by one, and why the others do not."""
    missing: dict[Part, str] = {}
    kept = Part(0)
    for part in Part:
        spawner = Spawner(replace(jail, parts=kept | part))
        refusal = probe(spawner)
        if refusal is None:
            kept |= part
        else:
            missing[part] = refusal
    return Spawner(replace(jail, parts=kept)), missing


def _forked(run: Callable[[], NoReturn]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(1)
    return pid


def _begin_and_enter(native: core.Native, ear: int) -> None:
    core.begin(native)
    core.enter(native, ear)


def _between(native: core.Native, body: Body, write: int, ear: int) -> NoReturn:
    try:
        core.begin(native)
    except JailError as error:
        os.write(write, str(os.getpid()).encode())
        body(_raiser(error))
    pid = _forked(lambda: body(lambda: core.enter(native, ear)))
    os.write(write, str(pid).encode())
    os._exit(0)


def _raiser(error: JailError) -> Callable[[], None]:
    def enter() -> None:
        raise error

    return enter
