"""A worker's start and its first invocations, played in the zygote with a stage of its own, before the first fork.

Called by ``warm``. Why: CPython does much on first use and writes it where the code lies (caches of types and of
attributes, specialised instructions, the parser's tables, the linker's). Done here it is done once; done in a worker it
costs a page fault and a page of memory each, in every worker. What always holds: no tenant code runs; what the play
changes in the interpreter (modules, paths, streams) is put back.
"""

import asyncio
import gc
import importlib
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gateway.contract.worker import SpawnSpec
from gateway.core.worker_loop import memory_of_this_process
from gateway.worker import main
from gateway.zygote import child
from gateway.zygote.template import Order

_ROUNDS = 4
"""CPython specialises an instruction after a few runs, and gives up on one that changes after some more."""
_NOWHERE_FD = -1
_MODULE = "rehearsed"
_SOURCE = '''
"""A function of each kind."""

from dataclasses import dataclass

from tailcut import Request


@dataclass
class Order:
    item: str
    count: int = 1


def typed(name: str, count: int = 1, tags: list[str] | None = None) -> dict[str, str]:
    """Sample."""
    print(name)
    return {"greeting": f"Hello, {name}!"}


def nested(order: Order, much: float | None = None) -> Order:
    return order


async def waited(name: str) -> str:
    return name


def asked(request: Request) -> bytes:
    return request.body


def event(event, context):
    return {"statusCode": 200, "body": "x"}


def failing(name: str) -> str:
    raise ValueError(name)


def generic(data: dict) -> dict:
    return data
'''
_BODIES = (b'{"name": "x"}', b'{"order": {"item": "x"}}', b'{"data": {}}', b"{", b'{"nam": 1}')
_HEAD = bytes(64)


def whole_start() -> None:
    """Of a worker, in a process of its own, which is of no use afterwards: descriptors, signals, scope, first calls."""
    with _bundle() as folder:
        spec = SpawnSpec("a", "b", "c", folder, f"{_MODULE}:typed", {})
        ours, theirs = socket.socketpair()
        cpu = min(os.sched_getaffinity(0))
        order = Order(spec, cpu, 0, [], [], None)
        child.arrange(order, ours.fileno(), theirs.fileno(), lambda: None, folder)
        main.serve(spec, Loop(), _NOWHERE_FD, _NOWHERE_FD)
        main.serve(replace(spec, state="fresh"), Loop(), _NOWHERE_FD, _NOWHERE_FD)


@contextmanager
def _bundle() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tailcut-rehearsal-") as folder:
        (Path(folder) / f"{_MODULE}.py").write_text(_SOURCE)
        yield folder


def rehearse() -> None:
    "x".encode("idna")
    with _bundle() as folder:
        for number in range(_ROUNDS):
            for name in ("typed", "nested", "waited", "asked", "event", "failing", "generic"):
                with _stage():
                    _play(SpawnSpec("a", "b", "c", folder, f"{_MODULE}:{name}", {}, describe=number % 2 == 0))
    asyncio.set_event_loop(None)


@contextmanager
def _stage() -> Iterator[None]:
    """What a worker changes for good is changed for a moment."""
    modules, paths, finders, arguments = dict(sys.modules), sys.path[:], sys.meta_path[:], sys.argv[:]
    originals = sys.orig_argv[:]
    streams = sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__
    try:
        yield
    finally:
        sys.modules.clear()
        sys.modules.update(modules)
        sys.path[:], sys.meta_path[:], sys.argv[:], sys.orig_argv[:] = paths, finders, arguments, originals
        sys.stdin, sys.stdout, sys.stderr = streams[:3]
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams[3:]  # type: ignore[misc]
        sys.path_importer_cache.clear()
        importlib.invalidate_caches()
        gc.unfreeze()


def _play(spec: SpawnSpec) -> None:
    child.import_scope(spec.code_path)
    main.serve(replace(spec), Loop(), _NOWHERE_FD, _NOWHERE_FD)


class Loop:
    """In place of libzigcore's: calls the handler with a few bodies, and forgets the answers."""

    def run(
        self,
        shared_fd: int,
        invoke: Callable[[bytes, bytes | None], bytes | tuple[int, bytes, bytes]],
        failure: Callable[[BaseException], bytes],
        ready: bytes,
        *,
        head_always: bool,
        fresh: bool,
        forked: bool,
        refresh: Callable[[], None] | None,
    ) -> None:
        for body in _BODIES:
            try:
                invoke(body, _HEAD if head_always else None)
            except Exception as error:  # noqa: BLE001 (some bodies are wrong on purpose)
                failure(error)

    def known(self, descriptors: list[int]) -> None:
        pass

    def prepare(self, known: list[int], random_address: int) -> str:
        return ""

    def memory(self, address: int, size: int) -> bytes:
        return memory_of_this_process(address, size)

    def immortalise(self) -> int:
        return 0

    def soft_take(self) -> tuple[int, int]:
        return 0, 0

    def soft_say(self, traceback: bytes) -> None:
        raise RuntimeError("nobody interrupts the rehearsal")

    def log(self, stream: int, line: bytes) -> bool:
        return True

    def failed(self, document: bytes) -> None:
        raise RuntimeError(f"the rehearsal's own function does not start: {document.decode()}")
