"""The event style: what AWS Lambda hands to a function URL's handler (payload format 2.0).

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html. Called by ``adapter``. What always holds:
every field of the format is there; where Tailcut has no value it is the format's placeholder (``anonymous``,
``$default``).
"""

import base64
import time
from typing import Any

from gateway.contract.worker import SpawnSpec
from gateway.worker.head import Head, query_arguments

_TEXT_TYPES = (
    "text/",
    "application/json",
    "application/xml",
    "application/javascript",
    "application/x-www-form-urlencoded",
)
_TEXT_SUFFIXES = ("+json", "+xml")


def make_event(head: Head, body: bytes, spec: SpawnSpec) -> dict[str, Any]:
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in head.headers:
        lower = name.lower()
        if lower == "cookie":
            cookies += [each.strip() for each in value.split(";")]
        headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": head.path,
        "rawQueryString": head.query,
        "headers": headers,
        "requestContext": _context(head, headers, spec),
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = cookies
    if head.query:
        arguments: dict[str, str] = {}
        for name, value in query_arguments(head.query):
            arguments[name] = f"{arguments[name]},{value}" if name in arguments else value
        event["queryStringParameters"] = arguments
    if body:
        event["body"], event["isBase64Encoded"] = _body(body, headers.get("content-type", ""))
    return event


def _context(head: Head, headers: dict[str, str], spec: SpawnSpec) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    host = headers.get("host", "")
    return {
        "accountId": "anonymous",
        "apiId": spec.function,
        "domainName": host,
        "domainPrefix": host.partition(".")[0],
        "http": {
            "method": head.method,
            "path": head.path,
            "protocol": "HTTP/1.1",
            "sourceIp": headers.get("x-forwarded-for", "").partition(",")[0].strip(),
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": head.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now_ms // 1000)),
        "timeEpoch": now_ms,
    }


def _body(body: bytes, content_type: str) -> tuple[str, bool]:
    kind = content_type.partition(";")[0].strip().lower()
    if not kind or kind.startswith(_TEXT_TYPES) or kind.endswith(_TEXT_SUFFIXES):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True
