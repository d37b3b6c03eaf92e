"""One real invocation, before a gateway accepts connections: one that cannot serve must not replace another.

A revision with a single function of our own (``check/main.py``) is applied, and that function is called over HTTP on a
socket pair instead of a listening socket: parser, key, route, admission, zygote, worker and answer are those of every
invocation. Functions of tenants are not called: what they do may not be ours to do.

Called by ``node`` at each start that has a table; the first revision of the table takes the place of this one. Raises
SelfCheckFailed.
"""

import asyncio
import hashlib
import secrets
import socket
import time
from pathlib import Path

import msgspec

from gateway.contract.revision import KeyRow, Revision, RouteRow, TenantRow, VersionRow
from gateway.contract.usage import SELF_CHECK_VERSION_ID
from gateway.contract.worker import SpawnSpec
from gateway.core.binding import CoreError
from gateway.core.data_plane import DataPlane
from gateway.host import routing
from gateway.host.indexes import Indexes

_TENANT = "tailcut"
_FUNCTION = "check"
_CODE = Path(__file__).with_name("check")
_INVOCATION_TIMEOUT_MS = 5_000
_AGAIN_S = 0.1
_ANSWER_BYTES_MAX = 16 * 1024


class SelfCheckFailed(Exception):  # noqa: N818 - named after what happened
    """This gateway cannot serve an invocation."""


async def run(data_plane: DataPlane, indexes: Indexes, timeout_s: float) -> None:
    """Returns once an invocation succeeded; overloaded and not ready (503) are tried again until ``timeout_s``."""
    token = f"tck_{secrets.token_hex(32)}"
    try:
        revision = _revision(indexes.of(SELF_CHECK_VERSION_ID, time.monotonic()), token)
        await asyncio.to_thread(data_plane.apply, routing.encode(revision))
        async with asyncio.timeout(timeout_s):
            answer = await _call(data_plane, token)
            while answer.startswith(b"HTTP/1.1 503 "):
                await asyncio.sleep(_AGAIN_S)
                answer = await _call(data_plane, token)
    except TimeoutError:
        raise SelfCheckFailed(f"no invocation succeeded within {timeout_s:g} s") from None
    except (CoreError, OSError) as error:
        raise SelfCheckFailed(str(error)) from error
    finally:
        indexes.release(SELF_CHECK_VERSION_ID, time.monotonic())
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise SelfCheckFailed(f"an invocation was answered with {answer.decode(errors='replace')[:2000]}")


async def _call(data_plane: DataPlane, token: str) -> bytes:
    """The whole answer. Raises SelfCheckFailed when a 200 holds another value than was sent."""
    number = secrets.randbelow(10**9)
    body = b'{"number":%d}' % number
    ours, theirs = socket.socketpair()
    try:
        data_plane.serve(theirs.fileno())
    except CoreError:
        theirs.close()
        ours.close()
        raise
    theirs.detach()  # the data plane's now
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        writer.write(
            f"POST /{_TENANT}/{_FUNCTION} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        answer = b""
        while (piece := await reader.read(_ANSWER_BYTES_MAX)) and len(answer) < _ANSWER_BYTES_MAX:
            answer += piece
    finally:
        writer.close()
    if answer.startswith(b"HTTP/1.1 200 ") and not answer.endswith(b"\r\n\r\n%d" % number):
        raise SelfCheckFailed(f"{number} was sent, the answer is {answer.decode(errors='replace')[:2000]}")
    return answer


def _revision(index: int, token: str) -> Revision:
    spec = SpawnSpec(_TENANT, _FUNCTION, SELF_CHECK_VERSION_ID, str(_CODE), "main:check")
    version = VersionRow(
        index=index,
        id=SELF_CHECK_VERSION_ID,
        tenant=0,
        function=_FUNCTION,
        spawn=msgspec.json.encode(spec).decode(),
        timeout_ms=_INVOCATION_TIMEOUT_MS,
        concurrency_max=1,
        workers_min=0,
        request_bytes_max=1024,
        output_bytes_max=1024,
        log_bytes_max=1024,
        probe=False,
    )
    return Revision(
        revision=0,
        tenants=[TenantRow(_TENANT, concurrency_max=1, openapi_public="{}", openapi_all="{}")],
        keys=[KeyRow(hashlib.sha256(token.encode()).hexdigest(), tenant=0, invoke=True, expires_at_s=0, id="check")],
        versions=[version],
        routes=[RouteRow(tenant=0, function=_FUNCTION, qualifier="live", version=index, public=False)],
    )
