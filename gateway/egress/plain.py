"""One plain HTTP request (absolute-form) carried to where it goes, and its answer back. Both are written anew by h11.

Called by ``proxy``. One request per connection: the answer says ``Connection: close``, so no client can send the next
one, for another host perhaps, down the same way. What always holds: the worker gets a whole answer, or its connection
ends in the middle and it can tell.
"""

import asyncio
import contextlib
from asyncio import StreamReader

import h11

from gateway.egress.head import Target, headers_on
from gateway.egress.refusal import Refused
from gateway.egress.relay import PIECE_BYTES, Activity, Count, Side, put

_VIA = (b"via", b"1.1 tailcut")
_ANSWER_HEAD_BYTES_MAX = 64 * 1024
_SWITCHING = 101


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


async def next_event(
    connection: h11.Connection, reader: StreamReader, piece_bytes: int = PIECE_BYTES
) -> h11.Event | type[h11.PAUSED]:
    """h11 bounds what is incomplete: a head of one piece is whole, however large. Raises h11.RemoteProtocolError."""
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(piece_bytes))
    return event  # type: ignore[return-value]


async def _upload(
    near: h11.Connection, far: h11.Connection, worker: Side, outside: Side, sent: Count, activity: Activity
) -> None:
    while True:
        event = await next_event(near, worker.reader)
        if isinstance(event, h11.Data):
            await put(outside, far.send(h11.Data(data=event.data)) or b"", sent, activity)
        elif isinstance(event, h11.EndOfMessage):
            await put(outside, far.send(h11.EndOfMessage()) or b"", sent, activity)
            return
        else:
            return  # the worker has gone


async def _answer(
    near: h11.Connection, far: h11.Connection, worker: Side, outside: Side, received: Count, activity: Activity
) -> None:
    begun = False
    while True:
        try:
            event = await next_event(far, outside.reader)
            data = near.send(_onward(event))
        except h11.ProtocolError as error:
            if begun:
                raise OSError(f"the answer broke off: {error}") from error
            raise Refused("bad-answer") from error
        begun = begun or isinstance(event, h11.Response)
        await put(worker, data or b"", received, activity)
        if isinstance(event, h11.EndOfMessage):
            return


def _onward(event: object) -> h11.Event:
    """Raises h11.RemoteProtocolError."""
    match event:
        case h11.InformationalResponse() if event.status_code != _SWITCHING:
            return h11.InformationalResponse(status_code=event.status_code, headers=headers_on(event))
        case h11.Response():
            headers = [*headers_on(event), _VIA, (b"connection", b"close")]
            return h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
        case h11.Data():
            return h11.Data(data=event.data)
        case h11.EndOfMessage():
            return h11.EndOfMessage()
    raise h11.RemoteProtocolError("the connection ended before the answer did")
