"""Reads what a worker asks for: the head of a proxied request (RFC 9110 9.3.6, RFC 9112 3.2), by h11.

Called by ``proxy``. Everything here comes from tenants. What always holds: ``Target.host`` is an ASCII name or a
numeric address, ``port`` a port; what cannot be understood in exactly one way raises ``HeadError``. What is sent on is
written anew from what was read, so nothing that two parsers could read differently gets through.
"""

import ipaddress
import re
from dataclasses import dataclass

import h11

HOST_BYTES_MAX = 253
_NAME = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_PORT = re.compile(rb"[0-9]{1,5}")
_PATH = re.compile(rb"[!-~]*")
_HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"),
        *(b"te", b"trailer", b"upgrade", b"transfer-encoding", b"host", b"via"),
    )
)
Headers = list[tuple[bytes, bytes]]


class HeadError(Exception):
    """The request cannot be proxied; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    host: str
    """Without brackets."""
    port: int
    path: bytes = b""
    """Of a plain request, in origin form; empty: a tunnel is asked for (CONNECT)."""
    authority: bytes = b""
    """What the plain request's Host header is to say."""

    @property
    def is_tunnel(self) -> bool:
        return not self.path


def target_of(request: h11.Request) -> Target:
    """Raises HeadError."""
    if request.method == b"CONNECT":
        host, port = _authority(request.target, None)
        return Target(host, port)
    scheme, separator, rest = request.target.partition(b"://")
    if not separator or scheme.lower() != b"http":
        if separator and scheme.lower() == b"https":
            raise HeadError("an https:// address is reached by CONNECT")
        raise HeadError("this is a proxy: the request's target is a whole address, http://HOST/PATH, or it is CONNECT")
    end = min((at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if b"#" in path or not _PATH.fullmatch(path):
        raise HeadError("the path has characters that an address cannot have")
    host, port = _authority(authority, 80)
    return Target(host, port, path if path.startswith(b"/") else b"/" + path, authority)


def headers_on(message: h11.Request | h11.Response | h11.InformationalResponse) -> Headers:
    """The end-to-end headers, with the framing of the body kept: chunked stays chunked."""
    named = {
        name.strip().lower()
        for key, value in message.headers
        if key in (b"connection", b"proxy-connection")
        for name in value.split(b",")
    }
    kept = [(key, value) for key, value in message.headers if key not in _HOP_BY_HOP and key not in named]
    if any(key == b"transfer-encoding" for key, _value in message.headers):
        kept = [(key, value) for key, value in kept if key != b"content-length"]
        kept.append((b"transfer-encoding", b"chunked"))
    elif b"content-length" in named:
        kept += [(key, value) for key, value in message.headers if key == b"content-length"]
    return kept


def _authority(text: bytes, default_port: int | None) -> tuple[str, int]:
    if b"@" in text:
        raise HeadError("an address with a user name or password is refused: send an Authorization header")
    if text.startswith(b"["):
        host, bracket, rest = text[1:].partition(b"]")
        if not bracket or (rest and not rest.startswith(b":")):
            raise HeadError("an IPv6 address in brackets is followed by :PORT")
        port, has_port = rest[1:], bool(rest)
        try:
            if b"%" in host:
                raise ValueError
            name = str(ipaddress.IPv6Address(host.decode("ascii")))
        except ValueError:
            raise HeadError("what stands in brackets is no IPv6 address") from None
    else:
        host, colon, port = text.partition(b":")
        has_port = bool(colon)
        if len(host) > HOST_BYTES_MAX or not _NAME.fullmatch(host) or b".." in host:
            raise HeadError("the host is no name and no address: letters, digits, dots and hyphens, 253 at most")
        name = host.decode("ascii")
    if not has_port:
        if default_port is None:
            raise HeadError("CONNECT needs HOST:PORT")
        return name, default_port
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise HeadError("the port is a number from 1 to 65535")
    return name, int(port)
