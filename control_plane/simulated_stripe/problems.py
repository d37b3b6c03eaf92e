"""Refusals in Stripe's form. Raised by everything below, answered by ``server``."""

from typing import Any


class ApiError(Exception):
    """``kind`` (their ``type``) and ``code`` are Stripe's words: https://docs.stripe.com/api/errors"""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "invalid_request_error", code: str | None = None,
        param: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"type": kind, "message": message}
        if code is not None:
            self.body["code"] = code
        if param is not None:
            self.body["param"] = param


def missing(kind: str, object_id: str) -> ApiError:
    return ApiError(f"No such {kind}: '{object_id}'", status=404, code="resource_missing", param="id")
