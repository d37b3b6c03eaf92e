"""A function of a tenant that uses its network: by the libraries that people use, and in ways that it must not."""

import asyncio
import errno
import os
import socket
import urllib.error
import urllib.request

PROXY = ("127.0.0.1", 3128)
KEPT = []
if os.environ.get("AT_IMPORT"):
    KEPT.append(socket.create_connection(PROXY, timeout=10))


def handler(what: str, url: str = "", size: int = 0, family: int = 2, kind: int = 1):
    try:
        return ATTEMPTS[what](url, size, family, kind)
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": error.read().decode()}
    except OSError as error:
        return {"refused": errno.errorcode.get(error.errno, str(error)), "text": str(error)}
    except Exception as error:  # noqa: BLE001
        return {"raised": type(error).__name__, "text": str(error)}


def by_urllib(url, *_):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return {"status": answer.status, "body": answer.read().decode()}


def by_requests(url, *_):
    import requests

    answer = requests.get(url, timeout=20)
    return {"status": answer.status_code, "body": answer.text}


def by_httpx(url, *_):
    import httpx

    answer = httpx.get(url, timeout=20)
    return {"status": answer.status_code, "body": answer.text}


def by_httpx_async(url, *_):
    import httpx

    async def get():
        async with httpx.AsyncClient(timeout=20) as client:
            return await client.get(url)

    answer = asyncio.run(get())
    return {"status": answer.status_code, "body": answer.text}


def echo(where, size, *_):
    """More than any buffer holds, both ways at once."""

    async def run():
        reader, writer = await asyncio.open_connection(*PROXY)
        writer.write(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        sent = os.urandom(size)
        writer.write(sent)
        writer.write_eof()
        found = await reader.read(-1)
        return {"head": head.decode(), "same": found == sent + b"[end]"}

    return asyncio.run(run())


def direct(where, *_):
    host, _, port = where.rpartition(":")
    with socket.socket() as one:
        one.settimeout(5)
        one.connect((host, int(port)))
    return "connected"


def make(_url, protocol, family, kind):
    socket.socket(family, kind, protocol).close()
    return "made"


def bind(*_):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 4000))
    return "bound"


def listen(*_):
    with socket.socket() as one:
        one.listen()
    return "listens"


def gather(*_):
    with socket.create_connection(PROXY) as one:
        one.sendmsg([b"GET"])
    return "sent"


def fast_open(where, *_):
    """Connects by sending."""
    host, _, port = where.rpartition(":")
    with socket.socket() as one:
        one.sendto(b"GET", socket.MSG_FASTOPEN, (host, int(port)))
    return "sent"


def option(_url, _size, level, name):
    with socket.socket() as one:
        one.setsockopt(level, name, 1)
    return "set"


def resolve(name, *_):
    return socket.getaddrinfo(name, 80)


def keep(*_):
    KEPT.append(socket.create_connection(PROXY, timeout=10))
    return "kept"


def use(*_):
    """Whether a connection that an earlier call has opened still leads anywhere."""
    if not KEPT:
        return "nothing is kept"
    KEPT[-1].sendall(b"CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    return KEPT[-1].recv(64).decode() or "ended"


def proxies(*_):
    return {name: value for name, value in os.environ.items() if "proxy" in name.lower()}


ATTEMPTS = {
    "urllib": by_urllib, "requests": by_requests, "httpx": by_httpx, "httpx async": by_httpx_async, "echo": echo,
    "direct": direct, "make": make, "bind": bind, "listen": listen, "gather": gather, "fast open": fast_open,
    "option": option, "resolve": resolve, "keep": keep, "use": use, "proxies": proxies,
}  # fmt: skip
