"""The functions of hello/ for the other servers: ASGI and WSGI with the least that each allows, and as users of FastAPI
and functions-framework write them."""

import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import FastAPI, Response
from fastapi import Request as HttpRequest
from pydantic import BaseModel

Message = dict[str, Any]


def spin(ns: int) -> dict[str, bool]:
    end = time.perf_counter_ns() + ns
    while time.perf_counter_ns() < end:
        pass
    return {"spun": True}


def answer(path: str, body: bytes) -> tuple[bytes, bytes]:
    """Body and content type."""
    if path == "/":
        return json.dumps({"greeting": f"Hello, {json.loads(body)['name']}!"}).encode(), b"application/json"
    if path == "/echo":
        return body, b"application/octet-stream"
    return json.dumps(spin(50_000 if path == "/spin50us" else 5_000_000)).encode(), b"application/json"


async def raw(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    content, kind = answer(scope["path"], body)
    headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def wsgi(environ: Message, start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    content, kind = answer(environ["PATH_INFO"], body)
    start_response("200 OK", [("Content-Type", kind.decode()), ("Content-Length", str(len(content)))])
    return [content]


def framework(request: Any) -> tuple[bytes, int, dict[str, str]]:
    """For functions-framework, whose requests are Flask's."""
    content, kind = answer(request.path, request.get_data())
    return content, 200, {"Content-Type": kind.decode()}


class Greeted(BaseModel):
    name: str


fastapi = FastAPI()


@fastapi.post("/")
async def hello(greeted: Greeted) -> dict[str, str]:
    return {"greeting": f"Hello, {greeted.name}!"}


@fastapi.post("/spin50us")
async def spin50us() -> dict[str, bool]:
    return spin(50_000)


@fastapi.post("/spin5ms")
async def spin5ms() -> dict[str, bool]:
    return spin(5_000_000)


@fastapi.post("/echo")
async def echo(request: HttpRequest) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")
