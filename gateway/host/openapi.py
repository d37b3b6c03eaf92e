"""A tenant's typed functions as OpenAPI 3.1, served at ``/{tenant}/-/openapi.json``.

Two documents per tenant: of the public functions for anybody, of all for callers with one of its keys. Operations
and schemas come from workers, which had run tenant code when they sent them: they are embedded as data and bounded,
never interpreted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

DOCUMENT_BYTES_MAX = 2**20
"""Of one tenant; above it operations are listed without their schemas."""

_REF_PREFIX = "#/components/schemas/"
_PROBLEM_REF = {"$ref": _REF_PREFIX + "Problem"}
_PROBLEMS = {
    "400": "Not a well-formed request",
    "401": "No key, or a wrong one",
    "403": "The key may not invoke",
    "413": "The request is larger than allowed",
    "422": "Arguments that do not fit the signature; each is named",
    "429": "Over the concurrency of the tenant; not executed",
    "500": "The function failed",
    "503": "Overloaded or not ready; not executed",
    "504": "The function ran into its time limit and was ended",
}
_PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "request_id", "component"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "component": {"enum": ["gateway", "function", "control-plane"]},
    },
}


@dataclass(frozen=True, slots=True)
class TypedFunction:
    name: str
    public: bool
    version_id: str
    operation: bytes
    """JSON object."""
    schemas: bytes
    """JSON object: name → schema."""


type _Asked = tuple[str, tuple[TypedFunction, ...]]


class Documents:
    """What each tenant's functions look like, public and all, rendered when they have changed.

    Only what the last call asked for is kept: each deployment makes a new document, with all functions in it.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], tuple[_Asked, str]] = {}

    def of(self, server_url: str, tenants: Mapping[str, Sequence[TypedFunction]]) -> dict[str, tuple[str, str]]:
        """Tenant's name → its document of public functions and that of all, as JSON text."""
        kept: dict[tuple[str, bool], tuple[_Asked, str]] = {}
        for tenant, functions in tenants.items():
            ordered = sorted(functions, key=lambda function: function.name)
            for public in (True, False):
                asked = server_url, tuple(one for one in ordered if one.public or not public)
                last = self._kept.get((tenant, public))
                same = last is not None and last[0] == asked
                kept[tenant, public] = last if last is not None and same else (asked, _document(tenant, *asked))
        self._kept = kept
        return {tenant: (kept[tenant, True][1], kept[tenant, False][1]) for tenant in tenants}


def _document(tenant: str, server_url: str, functions: tuple[TypedFunction, ...]) -> str:
    text = _render(tenant, server_url, functions, with_schemas=True)
    if len(text) > DOCUMENT_BYTES_MAX:
        text = _render(tenant, server_url, functions, with_schemas=False)
    return text.decode()


def _render(tenant: str, server_url: str, functions: tuple[TypedFunction, ...], *, with_schemas: bool) -> bytes:
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM_SCHEMA}
    for function in functions:
        operation: dict[str, Any] = {}
        if with_schemas:
            own_schemas = msgspec.json.decode(function.schemas)
            names = {f"{_REF_PREFIX}{name}": f"{_REF_PREFIX}{function.name}.{name}" for name in own_schemas}
            operation = _renamed(msgspec.json.decode(function.operation), names)
            schemas |= {f"{function.name}.{name}": _renamed(schema, names) for name, schema in own_schemas.items()}
        paths[f"/{tenant}/{function.name}"] = {"post": _operation(function, operation)}
    version = functions[0].version_id if len(functions) == 1 else str(len(functions))
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": f"Functions of {tenant}", "version": version},
            "servers": [{"url": server_url}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "tck_…"}},
            },
        }
    )


def _operation(function: TypedFunction, operation: dict[str, Any]) -> dict[str, Any]:
    given = operation.get("responses")
    responses: dict[str, Any] = (
        dict(given) if isinstance(given, dict) and given else {"200": {"description": "The result"}}
    )
    for status, description in _PROBLEMS.items():
        if function.public and status in ("401", "403"):
            continue
        content = {"application/problem+json": {"schema": _PROBLEM_REF}}
        responses.setdefault(status, {"description": description, "content": content})
    return {
        "operationId": function.name,
        **operation,
        "responses": responses,
        "security": [] if function.public else [{"key": []}],
        "x-tailcut-version": function.version_id,
    }


def _renamed(node: Any, names: dict[str, str]) -> Any:
    """``node`` with each ``$ref`` to a function's own schema pointing to its name in the tenant's document.

    Recursion is bounded: the decoder that made ``node`` refuses deep nesting.
    """
    if isinstance(node, dict):
        return {
            key: names.get(value, value) if key == "$ref" and isinstance(value, str) else _renamed(value, names)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_renamed(item, names) for item in node]
    return node
