"""Makes the one callable that the loop calls: ``invoke(body, head)``.

Called by ``main``, once per worker; what it returns runs once per invocation, so each style has its own short function.
What always holds when ``invoke`` ends: the handler's output was sent, no task of the invocation runs on.
"""

import inspect
import time
from collections.abc import Callable
from types import CoroutineType
from typing import Any

import msgspec
from tailcut._handler import Context

from gateway.contract.worker import SpawnSpec
from gateway.worker import answer, arrived, event, head, output
from gateway.worker.aio import Runner
from gateway.worker.answer import Answer
from gateway.worker.signature import Handler
from gateway.worker.typed import Arguments

Invoke = Callable[[bytes, bytes | None], Answer]
Handle = Callable[[bytes, bytes | None], Any]
"""Calls the handler; its result, not yet an answer."""


def make(handler: Handler, spec: SpawnSpec, streams: output.Streams, runner: Runner) -> Invoke:
    out, err = streams
    run = runner.run
    is_async = handler.is_async
    match handler.style:
        case "typed":
            handle, convert = _typed(handler, spec), answer.typed
        case "request":
            handle, convert = _request(handler), answer.request
        case "event":
            handle, convert = _event(handler, spec), answer.event

    def invoke(body: bytes, raw_head: bytes | None) -> Answer:
        result = handle(body, raw_head)
        # A decorated `async def` may look like a plain function until it is called.
        if is_async or isinstance(result, CoroutineType):
            result = run(result)
        sent = convert(result)
        if out.rest or err.rest:
            output.flush(streams)
        return sent

    return invoke


def _typed(handler: Handler, spec: SpawnSpec) -> Handle:
    function = handler.function
    arguments = Arguments(handler)
    from_body, from_query, fill = arguments.from_body, arguments.from_query, arguments.fill
    as_tuple, as_dict = msgspec.structs.astuple, msgspec.structs.asdict
    positional, context_name = handler.positional, handler.context
    methods_with_query = frozenset({"GET", "HEAD"})

    def handle(body: bytes, raw_head: bytes | None) -> Any:
        # A head is there for methods without a body, or because the context needs it.
        if raw_head is not None and not body and head.method_of(raw_head) in methods_with_query:
            values = from_query(head.query_of(raw_head))
        else:
            values = from_body(body)
        if fill is not None:
            fill(as_tuple(values))
        if positional:
            return function(*as_tuple(values))
        named = as_dict(values)
        if context_name is not None and raw_head is not None:
            named[context_name] = _context(head.read(raw_head), spec)
        return function(**named)

    return handle


def _request(handler: Handler) -> Handle:
    function = handler.function
    name = next(iter(inspect.signature(function).parameters.values()))
    keyword = name.name if name.kind is inspect.Parameter.KEYWORD_ONLY else None
    make = arrived.Request

    def handle(body: bytes, raw_head: bytes | None) -> Any:
        request = make(body, raw_head)
        return function(request) if keyword is None else function(**{keyword: request})

    return handle


def _event(handler: Handler, spec: SpawnSpec) -> Handle:
    function = handler.function

    def handle(body: bytes, raw_head: bytes | None) -> Any:
        about = head.read(raw_head) if raw_head is not None else head.NONE
        return function(event.make_event(about, body, spec), _context(about, spec))

    return handle


def _context(about: head.Head, spec: SpawnSpec) -> Context:
    return Context(
        request_id=about.request_id,
        tenant=spec.tenant,
        function=spec.function,
        version=spec.version_id,
        deadline_ns=time.monotonic_ns() + about.timeout_ns,
    )
