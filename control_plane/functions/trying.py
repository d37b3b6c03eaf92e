"""Calls a function for somebody signed in: the "try it" of the dashboard. The call goes through the gateway like any
other, is limited and billed like any other, and carries a key that no browser and no person ever sees.

That key is not in the database. It is derived from the control plane's sealing key for each tenant (``token_of``), may
only invoke, and stands as a hash in the routing table of tenants that have members (``outbox.table``); the control
plane's own interface does not know it. Called by ``dashboard.try_pages``.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from control_plane.auth.sealing import Sealer
from control_plane.auth.tokens import KEY_PREFIX
from control_plane.problems import Problem

KEY_ID: Final = "key_dashboard"
ANSWER_BYTES_MAX: Final = 512 * 1024
"""Read of an answer; the rest is not fetched."""
WAIT_MORE_S: Final = 30.0
"""Beyond the function's own time limit: for the queue and a cold start."""
METHODS: Final = ("POST", "GET", "PUT", "PATCH", "DELETE", "HEAD")
_PURPOSE: Final = "dashboard call"


@dataclass(frozen=True, slots=True)
class Tried:
    """An answer as it came, or its beginning."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    content: bytes
    is_cut: bool
    duration_us: int
    """As the control plane measured it, with the way to the gateway."""

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


def token_of(sealer: Sealer, tenant_id: str) -> str:
    return KEY_PREFIX + sealer.derive(_PURPOSE, tenant_id).hex()


async def call(
    url: str, token: str, *, method: str, headers: Mapping[str, str], content: bytes | None, limit_s: float
) -> Tried:
    """``limit_s``: the function's own. Raises Problem when the gateway does not answer."""
    timeout = httpx.Timeout(limit_s + WAIT_MORE_S, connect=5.0)
    began_ns = time.monotonic_ns()
    try:
        async with (
            httpx.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client,
            client.stream(
                method, url, headers={**headers, "Authorization": f"Bearer {token}"}, content=content
            ) as answer,
        ):
            pieces, size = [], 0
            async for piece in answer.aiter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > ANSWER_BYTES_MAX:
                    break
    except httpx.InvalidURL as error:
        raise Problem("invalid-request", f"The path or the query cannot be sent: {error}.") from None
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise Problem(
            "gateway-away", f"The gateway at {httpx.URL(url).netloc.decode()} gave no answer: {reason}."
        ) from None
    body = b"".join(pieces)
    return Tried(
        status=answer.status_code,
        headers={name.lower(): value for name, value in answer.headers.items()},
        content=body[:ANSWER_BYTES_MAX],
        is_cut=len(body) > ANSWER_BYTES_MAX,
        duration_us=(time.monotonic_ns() - began_ns) // 1000,
    )
