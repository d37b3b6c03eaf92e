"""A worker's life: output, import, adapter, ready, invocations.

Called by gateway/zygote/child.py with the loop of libzigcore behind ``Loop``. What always holds: exactly one first
word is sent, ``ready`` or ``failed``; what the tenant's import does (exit, raise anything) ends in that word.
"""

import dataclasses
import gc
import inspect
import platform
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
from tailcut import _warmup

from gateway.contract.worker import FRESH_UNAVAILABLE, Ready, SpawnSpec, StartFailed
from gateway.worker import adapter, failure, fresh, limits, loader, network, openapi, output, signature
from gateway.worker.aio import Runner

READY_BYTES_MAX = 48 * 1024
"""Bound of the ready document; an OpenAPI description that does not fit is left out."""


class Loop(Protocol):
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
    ) -> None: ...

    def prepare(self, known: list[int], random_address: int) -> str: ...

    def known(self, descriptors: list[int]) -> None: ...

    def memory(self, address: int, size: int) -> bytes: ...

    def immortalise(self) -> int: ...

    def soft_take(self) -> tuple[int, int]: ...

    def soft_say(self, traceback: bytes) -> None: ...

    def log(self, stream: int, line: bytes) -> bool: ...

    def failed(self, document: bytes) -> None: ...


def serve(spec: SpawnSpec, loop: Loop, channel_fd: int, shared_fd: int) -> bool:
    """False: the function could not start, and that has been said."""
    streams = output.install(loop.log)
    describer = failure.Describer(spec.code_path)
    collected = gc.get_count()[1:]
    started_ns = time.monotonic_ns()
    if spec.network:
        network.prepare()
    try:
        function = loader.load(spec.handler, spec.code_path)
        handler = signature.recognise(function)
        runner = Runner()
        invoke = adapter.make(handler, spec, streams, runner)
        operation, schemas = openapi.describe(handler, spec.function) if spec.describe else (None, {})
        limits.Interrupter(loop, describer, runner).activate()
        _warm_up(runner)
        if spec.network and spec.state != "warm":
            network.sever()
        is_fresh = spec.state == "fresh"
        _collect(collected)
        refresh = None
        if is_fresh:
            # The event loop exists before the checkpoint, or each invocation would make one.
            known = [channel_fd, shared_fd, *(runner.open() if handler.is_async or runner.is_open else ())]
            refresh = fresh.prepare(loop, known)
        elif spec.state == "forked" and runner.is_open:
            loop.known(runner.open())
    except fresh.FreshStateUnavailable as error:
        output.flush(streams)
        loop.failed(msgspec.json.encode(StartFailed(FRESH_UNAVAILABLE, str(error), "")))
        return False
    except BaseException as error:  # noqa: BLE001 (the tenant's import may raise anything, SystemExit too)
        failed = describer.start_failed(error)
        output.flush(streams)
        loop.failed(msgspec.json.encode(failed))
        return False
    import_us = (time.monotonic_ns() - started_ns) // 1000
    output.flush(streams)
    ready = _document(Ready(handler.style, handler.is_async, platform.python_version(), import_us, operation, schemas))
    # What the import made lives as long as the worker: the collector need not look at it again.
    if not is_fresh:
        gc.freeze()

    def describe(error: BaseException) -> bytes:
        output.flush(streams)
        return describer.block(error)

    loop.run(
        shared_fd,
        invoke,
        describe,
        ready,
        head_always=handler.head_always,
        fresh=is_fresh,
        forked=spec.state == "forked",
        refresh=refresh,
    )
    return True


def _collect(collected: tuple[int, ...]) -> None:
    """The import's garbage, if the collector has run since ``collected``: fewer objects are not worth 0.1 ms."""
    if gc.get_count()[1:] != collected:
        gc.collect()


def _warm_up(runner: Runner) -> None:
    """What the function registered with ``tailcut.warmup``."""
    for hook in _warmup._registered:
        result = hook()
        if inspect.iscoroutine(result):
            runner.run(result)


def _document(ready: Ready) -> bytes:
    document = msgspec.json.encode(ready)
    if len(document) <= READY_BYTES_MAX:
        return document
    return msgspec.json.encode(dataclasses.replace(ready, operation=None, schemas={}))
