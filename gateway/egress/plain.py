"""One plain HTTP request (absolute-form) carried to where it goes, and its answer back. Both are written anew by h11.

Called by ``proxy``. One request per connection: the answer says ``Connection: close``, so no client can send the next
one, for another host perhaps, down the same way. What always holds: the worker gets a whole answer, or its connection
ends in the middle and it can tell.
"""

import asyncio
import contextlib
import re
from asyncio import StreamReader

import h11

from gateway.egress.head import Target, headers_on
from gateway.egress.refusal import Refused
from gateway.egress.relay import PIECE_BYTES, Activity, Count, Side, put

_VIA = (b"via", b"1.1 tailcut")
_ANSWER_HEAD_BYTES_MAX = 64 * 1024
_SWITCHING = 101
HEAD_LINES_MAX = 128
"""Of a request and of an answer; Python's own http.client reads no more than 100."""
HEAD_TOO_LARGE = 431
_INFORMATIONAL_MAX = 16
_CHUNKS_AT_ONCE = 16
"""Read without a pause: as much work as a new connection is."""
_END_OF_HEAD = re.compile(rb"\n\r?\n")


async def forward(
    request: h11.Request,
    target: Target,
    near: h11.Connection,
    worker: Side,
    outside: Side,
    sent: Count,
    received: Count,
    activity: Activity,
) -> None:
    """``near``: has read the request's head from the worker. Raises Refused while nothing is answered; OSError."""
    far = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ANSWER_HEAD_BYTES_MAX)
    headers = [(b"host", target.authority), *headers_on(request), _VIA, (b"connection", b"close")]
    head = far.send(h11.Request(method=request.method, target=target.path, headers=headers))
    await put(outside, head or b"", sent, activity)
    upload = asyncio.create_task(_upload(near, far, worker, outside, sent, activity))
    try:
        await _answer(near, far, worker, outside, received, activity)
    finally:
        upload.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError, h11.ProtocolError):
            await upload


async def next_head(
    connection: h11.Connection, reader: StreamReader, piece_bytes: int = PIECE_BYTES
) -> h11.Event | type[h11.PAUSED]:
    """h11 bounds the bytes of a head that is incomplete. Its lines are counted here, before it reads them: each costs
    as much as a hundred bytes of a body. Raises h11.RemoteProtocolError."""
    read, searched = bytearray(connection.trailing_data[0]), 0
    while True:
        end = _END_OF_HEAD.search(read, searched)
        if read.count(b"\n", 0, len(read) if end is None else end.end()) > HEAD_LINES_MAX:
            raise h11.RemoteProtocolError(f"more than {HEAD_LINES_MAX} lines", error_status_hint=HEAD_TOO_LARGE)
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event  # type: ignore[return-value]
        searched = max(0, len(read) - 2)
        piece = await reader.read(piece_bytes)
        connection.receive_data(piece)
        read += piece


async def _body(connection: h11.Connection, reader: StreamReader) -> tuple[bytes, object]:
    """What has come of the body, in one, and what came behind it, or None: chunks of a byte each must neither be passed
    on one by one nor keep everybody else waiting. Raises h11.RemoteProtocolError."""
    data, chunks = bytearray(), 0
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            data += event.data
            chunks += 1
            if chunks % _CHUNKS_AT_ONCE == 0:
                await asyncio.sleep(0)
        elif event is not h11.NEED_DATA:
            return bytes(data), event
        elif data:
            return bytes(data), None
        else:
            connection.receive_data(await reader.read(PIECE_BYTES))


async def _upload(
    near: h11.Connection, far: h11.Connection, worker: Side, outside: Side, sent: Count, activity: Activity
) -> None:
    event = None
    while event is None:
        data, event = await _body(near, worker.reader)
        if data:
            await put(outside, far.send(h11.Data(data=data)) or b"", sent, activity)
    if isinstance(event, h11.EndOfMessage):
        await put(outside, far.send(h11.EndOfMessage()) or b"", sent, activity)
    # Else the worker has gone.


async def _answer(
    near: h11.Connection, far: h11.Connection, worker: Side, outside: Side, received: Count, activity: Activity
) -> None:
    try:
        for _ in range(_INFORMATIONAL_MAX):
            event: object = await next_head(far, outside.reader)
            data = near.send(_onward(event))
            if isinstance(event, h11.Response):
                break
            await put(worker, data or b"", received, activity)
        else:
            raise h11.RemoteProtocolError("no end of informational answers")
    except h11.ProtocolError as error:
        raise Refused("bad-answer") from error
    await put(worker, data or b"", received, activity)
    event = None
    while event is None:
        try:
            body, event = await _body(far, outside.reader)
            data = near.send(h11.Data(data=body)) if body else b""
            if event is not None:
                data = (data or b"") + (near.send(_onward(event)) or b"")
        except h11.ProtocolError as error:
            raise OSError(f"the answer broke off: {error}") from error
        await put(worker, data or b"", received, activity)


def _onward(event: object) -> h11.Event:
    """Raises h11.RemoteProtocolError."""
    match event:
        case h11.InformationalResponse() if event.status_code != _SWITCHING:
            return h11.InformationalResponse(status_code=event.status_code, headers=headers_on(event))
        case h11.Response():
            headers = [*headers_on(event), _VIA, (b"connection", b"close")]
            return h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
        case h11.EndOfMessage():
            return h11.EndOfMessage()
    raise h11.RemoteProtocolError("the connection ended before the answer did")
