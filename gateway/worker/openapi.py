"""The OpenAPI operation of a typed function, from its signature.

Called by ``main``; the host puts operations together to a tenant's document. What always holds: references point to
``#/components/schemas/{function}.{name}``, so that the schemas of two functions never collide.
"""

import inspect
from typing import Any

from gateway.worker import convert, typed
from gateway.worker.signature import Handler

SUMMARY_CHARACTERS_MAX = 200
DESCRIPTION_CHARACTERS_MAX = 4_000


def describe(handler: Handler, function: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Operation object and component schemas; None for the other styles, whose bodies are anything."""
    if handler.style != "typed":
        return None, {}
    arguments = typed.make_struct(handler)
    template = f"#/components/schemas/{function}.{{name}}"
    (body,), components = convert.schemas([arguments], template)
    result: dict[str, Any] = {}
    try:
        (result,), more = convert.schemas([handler.returns], template)
        components = {**components, **more}
    except Exception:  # noqa: BLE001 (a result's annotation binds nobody; without a schema it is any JSON)
        result = {}
    operation: dict[str, Any] = {
        "operationId": function,
        **_texts(handler),
        "responses": {
            "200": {"description": "The function's result", "content": {"application/json": {"schema": result}}},
            "422": {"description": "Bad arguments", "content": {"application/problem+json": {}}},
            "default": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {}}},
        },
    }
    if handler.arguments:
        operation["requestBody"] = {
            "required": any(each.default is inspect.Parameter.empty for each in handler.arguments),
            "content": {"application/json": {"schema": body}},
        }
    return operation, {f"{function}.{name}": schema for name, schema in components.items()}


def _texts(handler: Handler) -> dict[str, str]:
    text = inspect.getdoc(handler.function)
    if not isinstance(text, str) or not text.strip():
        return {}
    first, _, rest = text.strip().partition("\n")
    texts = {"summary": first[:SUMMARY_CHARACTERS_MAX]}
    if rest.strip():
        texts["description"] = rest.strip()[:DESCRIPTION_CHARACTERS_MAX]
    return texts
