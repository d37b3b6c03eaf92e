"""The function of hello/ for the ASGI servers: raw, the least that ASGI allows, and as FastAPI users write it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

Message = dict[str, Any]


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
    answer = json.dumps({"greeting": f"Hello, {json.loads(body)['name']}!"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


class Greeted(BaseModel):
    name: str


fastapi = FastAPI()


@fastapi.post("/")
async def hello(greeted: Greeted) -> dict[str, str]:
    return {"greeting": f"Hello, {greeted.name}!"}
