"""Every refusal of the control plane, as RFC 9457 problem documents.

A service raises a ``Problem``; ``app`` turns it into an answer. The table below is all there is: slug, status and
title belong together, and each slug has a page at ``/errors/{slug}``.
"""

from collections.abc import Mapping
from typing import Any, Final

from fastapi.responses import JSONResponse

COMPONENT: Final = "control-plane"
MEDIA_TYPE: Final = "application/problem+json"
REQUEST_ID_HEADER: Final = "Tailcut-Request-Id"

KINDS: Final[dict[str, tuple[int, str]]] = {
    "bad-request": (400, "The request is malformed"),
    "bundle-refused": (422, "The bundle was refused"),
    "confirmation-required": (403, "Give your password again first"),
    "conflict": (409, "That contradicts the present state"),
    "forbidden": (403, "This may not be done with this key or role"),
    "gateway-away": (502, "The gateway does not answer"),
    "idempotency-conflict": (409, "The Idempotency-Key was used for another request"),
    "internal": (500, "The control plane failed"),
    "invalid-request": (422, "The request is not valid"),
    "method-not-allowed": (405, "This resource has no such method"),
    "not-found": (404, "Not found"),
    "nothing-to-roll-back": (409, "There is no earlier version to go back to"),
    "overloaded": (503, "The control plane is busy; nothing was done"),
    "payment-failed": (402, "The payment failed; nothing was changed"),
    "payment-provider-away": (503, "The payment provider does not answer"),
    "request-timeout": (408, "The request took too long to arrive"),
    "content-too-large": (413, "The request is too large"),
    "second-factor-required": (401, "A second factor is needed"),
    "tenant-suspended": (403, "The tenant is suspended"),
    "tier-limit": (402, "The tier does not allow more"),
    "too-many-attempts": (429, "Too many attempts"),
    "unauthorized": (401, "No valid key"),
    "unsupported-media-type": (415, "The content type is not accepted here"),
}


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """``detail`` says what, with which value, the allowed range and the likely fix."""

    def __init__(self, slug: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.slug = slug
        self.status, self.title = KINDS[slug]
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members


def render(problem: Problem, *, public_url: str, request_id: str, status: int | None = None) -> JSONResponse:
    status = status or problem.status
    body = {
        "type": f"{public_url}/errors/{problem.slug}",
        "title": problem.title,
        "status": status,
        "detail": problem.detail,
        "request_id": request_id,
        "component": COMPONENT,
        **problem.members,
    }
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=problem.headers)


def not_found(what: str, name: str) -> Problem:
    return Problem("not-found", f"There is no {what} {name!r} of this tenant.")
