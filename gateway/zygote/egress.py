"""Hands the listening sockets of workers with a network over to the egress, again whenever that is a new one.

Called by ``server``, which polls ``fileno`` and tells of workers that came and went. What always holds: each socket is
kept here, too, for as long as its worker lives, so a worker outlives an egress: connections wait in the socket's queue
until the next one accepts; nothing here waits for an egress that does not read.
"""

import contextlib
import os
import socket
from collections import deque
from dataclasses import asdict, dataclass

import msgspec

from gateway.contract.egress import Question
from gateway.contract.worker import SpawnSpec

AGAIN_S = 0.2
_NO_EGRESS = "The version asks for the network (limits.network = true), and this server runs no egress."
_NOT_IN_TIER = (
    "The version asks for the network (limits.network = true), and the tenant's tier gives none "
    "(network_connections_max is 0). Deploy it without, or under another tier."
)


@dataclass(frozen=True, slots=True)
class _Offer:
    question: Question
    listener_fd: int
    pidfd: int


class Egress:
    def __init__(self, path: str | None) -> None:
        """None: there is none on this node."""
        self._path = path
        self._socket: socket.socket | None = None
        self._offers: dict[int, _Offer] = {}
        """By pidfd."""
        self._unsent: deque[int] = deque()

    def refusal(self, spec: SpawnSpec) -> str | None:
        """Why a worker of it must not start."""
        if not spec.network:
            return None
        if self._path is None:
            return _NO_EGRESS
        return _NOT_IN_TIER if spec.network_connections_max == 0 else None

    def came(self, spec: SpawnSpec, pid: int, pidfd: int, listener_fd: int) -> None:
        """``listener_fd`` is ours to close, ``pidfd`` the caller's, until ``gone``."""
        question = Question(
            worker=pid,
            tenant=spec.tenant,
            function=spec.function,
            version_id=spec.version_id,
            connections_max=spec.network_connections_max,
            bytes_per_minute=spec.network_bytes_per_minute,
        )
        self._offers[pidfd] = _Offer(question, listener_fd, pidfd)
        self._unsent.append(pidfd)
        self.send()

    def gone(self, pidfd: int) -> None:
        offer = self._offers.pop(pidfd, None)
        if offer is not None:
            os.close(offer.listener_fd)

    def fileno(self) -> int | None:
        """Readable when the egress is gone; writable when more can be sent, if ``waits``."""
        return None if self._socket is None else self._socket.fileno()

    @property
    def waits(self) -> bool:
        return bool(self._unsent)

    def send(self) -> None:
        """All that is new to the egress, as far as it goes."""
        while self._unsent and (there := self._socket or self._connect()) is not None:
            offer = self._offers.get(self._unsent[0])
            if offer is not None:
                message = msgspec.json.encode(asdict(offer.question))
                try:
                    socket.send_fds(there, [message], [offer.listener_fd, offer.pidfd], socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    return
                except OSError:
                    self.lost()
                    return
            self._unsent.popleft()

    def lost(self) -> None:
        """The egress is gone. The next one is told of all."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._unsent = deque(self._offers)

    def _connect(self) -> socket.socket | None:
        """None: nobody holds the socket at ``path``, or too many wait there; to be tried again."""
        there = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        with contextlib.suppress(OSError):
            there.connect(self._path or "")
            self._socket = there
            return there
        there.close()
        return None
