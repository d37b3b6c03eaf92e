"""Finishes the OpenAPI document: our problem document instead of FastAPI's error shapes.

Called by ``app``; ``python -m control_plane openapi`` prints the result, which is committed as docs/openapi.json.
"""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from control_plane.problems import COMPONENT, MEDIA_TYPE

_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. Further members depend on the type.",
    "required": ["type", "title", "status", "detail", "request_id", "component"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "A page that explains this kind of error"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "component": {"type": "string", "const": COMPONENT},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "reason": {"type": "string", "description": "Why a bundle was refused, in one word"},
    },
}
_PROBLEM_RESPONSE: Final[dict[str, Any]] = {
    "description": "The request was refused",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def describe(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document: dict[str, Any] = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM_SCHEMA
    for item in document["paths"].values():
        for operation in item.values():
            operation["responses"].pop("422", None)
            operation["responses"]["4XX"] = _PROBLEM_RESPONSE
            operation["responses"]["5XX"] = _PROBLEM_RESPONSE
    return document
