"""The process that workers are forked from, and what it is told of each: zigcore/src/runtime/template.zig.

Started by ``warm`` when the zygote's heap is quiet, asked by ``spawner``. Why: the zygote runs Python between two
forks, and what it writes meanwhile would be copied by it after each fork and be part of each worker's memory, other
tenants' documents included. What always holds: one order, one answer; a template that is gone ends the zygote, which
the supervisor then starts again.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from gateway.contract.worker import SpawnSpec
from gateway.core import zygote_memory
from gateway.core.binding import CoreError

_ANSWER_S = 30.0
"""A fork takes milliseconds; who does not answer for so long is stopped."""
Become = Callable[["Order", list[int]], NoReturn]
"""In the worker; the descriptors are its own to close."""


@dataclass(frozen=True, slots=True)
class Order:
    """All that a worker is made of but its descriptors: channel, shared memory, its ear if it has one, and the network
    namespace if it is to have another's."""

    spec: SpawnSpec
    cpu: int
    owner_id: int
    entrances: list[str]
    """Files of its control group that take it in."""
    reserved_entrances: list[str]
    """Of the place on a reserved CPU."""
    refusal: str | None
    """Why it may not have the network that it asks for."""
    has_ear: bool = False
    has_network: bool = False


encode: Callable[[Order], bytes] = msgspec.msgpack.Encoder().encode
decode: Callable[[bytes], Order] = msgspec.msgpack.Decoder(Order).decode


class TemplateError(Exception):
    """The template is gone."""


@dataclass(slots=True)
class Template:
    pid: int
    orders: socket.socket

    @classmethod
    def start(cls, become: Become, processes_fd: int | None) -> "Template":
        """The last thing before the first fork. ``processes_fd``: our PID namespace, if each worker is to have one
        of its own. Raises CoreError where there can be no template; then nothing has changed."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        places = {zygote_memory.ORDERS_FD: theirs.fileno()}
        if processes_fd is not None:
            places[zygote_memory.PROCESSES_FD] = processes_fd
        for place, fd in places.items():
            os.dup2(fd, place, inheritable=False)
        try:
            pid, order, fds = zygote_memory.template(jailed=processes_fd is not None)
            if pid == 0:
                # Its descriptors are others than ours: nothing below may close what has the same number there.
                become(decode(order), fds)
        except CoreError:
            ours.close()
            raise
        finally:
            for place in places:
                os.close(place)
        theirs.close()
        ours.settimeout(_ANSWER_S)
        return cls(pid, ours)

    def fork(self, order: Order, fds: list[int]) -> int:
        """Raises OSError: there is no worker; TemplateError: there will be none."""
        try:
            socket.send_fds(self.orders, [encode(order)], fds)
            answer = self.orders.recv(4)
        except ConnectionError as error:
            raise TemplateError(f"process {self.pid}, which forks workers, is gone") from error
        except TimeoutError as error:
            message = f"process {self.pid}, which forks workers, has not answered for {_ANSWER_S:.0f} s"
            raise TemplateError(message) from error
        if len(answer) != 4:
            raise TemplateError(f"process {self.pid}, which forks workers, is gone")
        pid = int.from_bytes(answer, "little", signed=True)
        if pid < 0:
            raise OSError(11, "no process could be made")
        return pid
