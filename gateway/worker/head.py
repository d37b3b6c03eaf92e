"""The head of a request (method, path, query, headers) out of the bytes of its frame.

Mirrors ``Request`` of zigcore/src/pool/frame.zig; called by the styles that need more than the body. What always holds:
the frame was checked by the loop, its text may still be anything: nothing here raises on content.
"""

import struct
from dataclasses import dataclass
from urllib.parse import parse_qsl

REQUEST = struct.Struct("<IBBBxQ16sHHHxxIIQQII")
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_ENTRY = struct.Struct("<HH")
_METHOD_AT = 6
_PATH_BYTES_AT = 32
QUERY_ARGUMENTS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Head:
    method: str
    path: str
    query: str
    """Raw, without the question mark."""
    headers: list[tuple[str, str]]
    request_id: str
    timeout_ns: int


NONE = Head("POST", "/", "", [], "", 0)


def read(head: bytes) -> Head:
    (_magic, _kind, _flags, method, _sequence, invocation, path_bytes, query_bytes, count, _headers_bytes, _body_bytes,
     timeout_ns, _cpu_ns, _log_bytes, _output_bytes) = REQUEST.unpack_from(head)  # fmt: skip
    path_end = REQUEST.size + path_bytes
    query_end = path_end + query_bytes
    headers: list[tuple[str, str]] = []
    at = query_end
    for _ in range(count):
        name_bytes, value_bytes = _ENTRY.unpack_from(head, at)
        at += _ENTRY.size
        headers.append(
            (
                head[at : at + name_bytes].decode("latin-1"),
                head[at + name_bytes : at + name_bytes + value_bytes].decode("latin-1"),
            )
        )
        at += name_bytes + value_bytes
    return Head(
        _METHODS[method] if method < len(_METHODS) else "",
        head[REQUEST.size : path_end].decode(errors="replace"),
        head[path_end:query_end].decode(errors="replace"),
        headers,
        invocation.hex(),
        timeout_ns,
    )


def query_of(head: bytes) -> str:
    """Only the query, without decoding the rest."""
    path_bytes, query_bytes = _ENTRY.unpack_from(head, _PATH_BYTES_AT)
    start = REQUEST.size + path_bytes
    return head[start : start + query_bytes].decode(errors="replace")


def method_of(head: bytes) -> str:
    method = head[_METHOD_AT]
    return _METHODS[method] if method < len(_METHODS) else ""


def query_arguments(query: str) -> list[tuple[str, str]]:
    """Raises ValueError when there are more than ``QUERY_ARGUMENTS_MAX``."""
    return parse_qsl(query, keep_blank_values=True, max_num_fields=QUERY_ARGUMENTS_MAX)
