"""Around every request: its id, a bound on its body, the last net for exceptions, one line in the log.

Plain ASGI, outermost in ``app``. The log has the route's pattern, not the path's values' meaning: no key, no query,
no body ever reaches it.
"""

import time
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.ids import new_id
from control_plane.problems import REQUEST_ID_HEADER, Problem, render
from control_plane.settings import Settings

log = structlog.get_logger(__name__)

_UPLOAD_OVERHEAD_BYTES: Final = 2**20
"""Around an archive, so generous that the upload's own bound, which explains itself better, is met first."""
_SECURITY_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    # Not no-referrer: with it browsers send `Origin: null` with our own forms, which the dashboard refuses.
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        # No inline script or style anywhere; connect-src is for htmx, which loads pages of ours.
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class RequestFrame:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        scope["tailcut_request_id"] = request_id
        began_ns = time.monotonic_ns()
        exchange = _Exchange(scope, receive, send, request_id, self._bytes_max(scope))
        exchange.is_https = self._settings.is_https
        try:
            await self._app(scope, exchange.receive, exchange.send)
            if exchange.refusal is not None and not exchange.status:
                await self._refuse(exchange, exchange.refusal)
        except Exception as error:
            problem = exchange.refusal or error
            if not isinstance(problem, Problem):
                log.error("request-failed", request_id=request_id, exc_info=error)
                problem = Problem("internal", f"The control plane failed; the operator's log has {request_id}.")
            if exchange.status:
                raise  # the answer has begun: only closing the connection tells the client that it is not whole
            await self._refuse(exchange, problem)
        finally:
            route = scope.get("route")
            log.info(
                "request",
                request_id=request_id,
                method=scope["method"],
                route=getattr(route, "path", None),
                status=exchange.status,
                duration_us=(time.monotonic_ns() - began_ns) // 1000,
                tenant=scope.get("tailcut_tenant"),
            )

    async def _refuse(self, exchange: "_Exchange", problem: Problem) -> None:
        exchange.refusal = None
        response = render(problem, public_url=self._settings.public_url, request_id=exchange.request_id)
        await response(exchange.scope, exchange.receive, exchange.send)

    def _bytes_max(self, scope: Scope) -> int:
        is_upload = scope["method"] == "POST" and scope["path"].endswith("/versions")
        if is_upload:
            return self._settings.archive_bytes_max + _UPLOAD_OVERHEAD_BYTES
        return self._settings.request_bytes_max


class _Exchange:
    """One request's receive and send, counted and marked."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str, bytes_max: int) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.request_id = request_id
        self._bytes_max = bytes_max
        self._received_bytes = 0
        self.status = 0
        self.is_https = False
        self.refusal: Problem | None = None
        """Raised while the body was read. The application may have made something else of it: it is not sent."""

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes > self._bytes_max:
                self.refusal = Problem(
                    "content-too-large",
                    f"The body has more than the {self._bytes_max} bytes allowed here.",
                    headers={"Connection": "close"},
                    allowed_bytes=self._bytes_max,
                )
                raise self.refusal
        return message

    async def send(self, message: Message) -> None:
        if self.refusal is not None and not self.status:
            return
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers: list[Any] = list(message.get("headers", []))
            headers.append((REQUEST_ID_HEADER.lower().encode(), self.request_id.encode()))
            headers.extend(_SECURITY_HEADERS)
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                is_static = self.scope["path"].startswith("/static/")
                # A static file's address has its content's hash as query (dashboard.pages.static_url).
                forever = b"public, max-age=31536000, immutable" if self.scope["query_string"] else b"no-cache"
                headers.append((b"cache-control", forever if is_static else b"no-store"))
            if self.is_https:
                headers.append((b"strict-transport-security", b"max-age=31536000"))
            message = {**message, "headers": headers}
        await self._send(message)
