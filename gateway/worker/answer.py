"""Results of handlers as answers: JSON, or status, header block and body; and clear words where that is impossible.

Called by ``adapter``. What always holds: header names are tokens and values hold no control character (so no answer can
forge another's head); a result that cannot be JSON raises TypeError that names the type and
the place, a bad header or status ValueError.
"""

import base64
import dataclasses
import inspect
import json
import re
import struct
from collections.abc import Iterable
from typing import Any

import msgspec
from tailcut._handler import Response

from gateway.worker import convert

Answer = bytes | tuple[int, bytes, bytes]

HEADERS_MAX = 64
HEADER_BYTES_MAX = 16 * 1024
_DEPTH_MAX = 32
_ENTRY = struct.Struct("<HH")
_JSON_TYPE = "application/json"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_GATEWAYS = frozenset(
    ("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
"""Fields of the connection, which is the gateway's: dropped, so that code written for other platforms works."""


_encoder = msgspec.json.Encoder(enc_hook=convert.encode)
_encode = _encoder.encode


def to_json(value: Any) -> bytes:
    try:
        return _encode(value)
    except OverflowError:
        return _encode_large(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        _refuse_lazy(value)
        place, culprit = _locate(value, "$", 0)
        raise TypeError(
            f"the result has no JSON form: {type(culprit).__qualname__} at {place} ({error});"
            " return dict, list, str, int, float, bool, None, a dataclass or a model"
        ) from error


def typed(value: Any) -> Answer:
    return response(value) if isinstance(value, Response) else to_json(value)


def request(value: Any) -> Answer:
    """Of the request style: a Response, bytes, str, or a JSON value."""
    if isinstance(value, bytes):
        return 200, _BYTES_BLOCK, bytes(value)
    if isinstance(value, Response):
        return response(value)
    if isinstance(value, str):
        return 200, _TEXT_BLOCK, _text(value)
    if isinstance(value, (bytearray, memoryview)):
        return 200, _BYTES_BLOCK, bytes(value)
    return to_json(value)


def response(value: Response) -> Answer:
    body, kind = _body(value.body)
    fields = value.headers
    if not any(isinstance(name, str) and name.lower() == "content-type" for name, _ in fields) and kind:
        fields = [*fields, ("content-type", kind)]
    return status(value.status), block(fields), body


def event(value: Any) -> Answer:
    """Of the event style: an object with ``statusCode`` is a whole answer, anything else a JSON body."""
    if isinstance(value, Response):
        return response(value)
    if not (isinstance(value, dict) and "statusCode" in value):
        return to_json(value)
    fields: list[tuple[str, str]] = []
    for name, each in (value.get("headers") or {}).items():
        fields.append((name, each if isinstance(each, str) else str(each)))
    for name, many in (value.get("multiValueHeaders") or {}).items():
        fields.extend((name, each if isinstance(each, str) else str(each)) for each in many)
    fields.extend(("set-cookie", each) for each in value.get("cookies") or ())
    if not any(isinstance(name, str) and name.lower() == "content-type" for name, _ in fields):
        fields.append(("content-type", _JSON_TYPE))
    body = value.get("body")
    if isinstance(body, str):
        raw = _base64(body) if value.get("isBase64Encoded") else _text(body)
    elif body is None:
        raw = b""
    else:
        raw = bytes(body) if isinstance(body, bytes | bytearray) else to_json(body)
    return status(value["statusCode"]), block(fields), raw


def status(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ValueError(f"status {value!r} is not a number from 200 to 599") from None
    if not 200 <= number <= 599:
        raise ValueError(f"status {number} is not from 200 to 599")
    return number


def block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Header fields as a frame block (zigcore/src/pool/frame.zig). ValueError names the field that is wrong."""
    parts: list[bytes] = []
    count = 0
    for name, value in fields:
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise ValueError(f"header name {name!r} is not a token: letters, digits and !#$%&'*+-.^_`|~ only")
        if not isinstance(value, str):
            raise ValueError(f"header {name}: its value is of type {type(value).__name__}, not str")
        if (found := _CONTROL.search(value)) is not None:
            raise ValueError(f"header {name}: its value holds the control character {found.group()!r}")
        if name.lower() in _GATEWAYS:
            continue
        raw = _header_value(name, value)
        parts += (_ENTRY.pack(len(name), len(raw)), name.encode(), raw)
        count += 1
    whole = b"".join(parts)
    if count > HEADERS_MAX or len(whole) > HEADER_BYTES_MAX:
        raise ValueError(
            f"{count} headers of {len(whole)} bytes, allowed are {HEADERS_MAX} of {HEADER_BYTES_MAX} bytes together"
        )
    return whole


def _header_value(name: str, value: str) -> bytes:
    try:
        raw = value.strip(" \t").encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"header {name}: its value holds {value[error.start]!r}, headers are Latin-1: percent-encode it"
        ) from None
    if len(raw) > HEADER_BYTES_MAX:
        raise ValueError(f"header {name}: its value is {len(raw)} bytes, allowed are {HEADER_BYTES_MAX}")
    return raw


_BYTES_BLOCK = block([("content-type", "application/octet-stream")])
_TEXT_BLOCK = block([("content-type", "text/plain; charset=utf-8")])


def _body(value: Any) -> tuple[bytes, str]:
    if isinstance(value, bytes):
        return value, "application/octet-stream" if value else ""
    if isinstance(value, bytearray | memoryview):
        return bytes(value), "application/octet-stream"
    if isinstance(value, str):
        return _text(value), "text/plain; charset=utf-8"
    return to_json(value), _JSON_TYPE


def _text(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text holds {value[error.start]!r} at {error.start}, which has no UTF-8 form") from None


def _base64(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError(f"isBase64Encoded is true, but the body is not base64: {error}") from None


def _encode_large(value: Any) -> bytes:
    """Integers over 64 bits: JSON has them, the fast encoder does not."""
    try:
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=convert.encode)
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the result has no JSON form: {error}") from error


def _refuse_lazy(value: Any) -> None:
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise TypeError(
            f"the handler returned a generator ({type(value).__name__}), whose items would only be made after the"
            " answer: return list(…) of it, and do not `yield` in the handler itself"
        )


def _locate(value: Any, place: str, depth: int) -> tuple[str, Any]:
    """The innermost part of ``value`` that cannot be encoded."""
    if depth >= _DEPTH_MAX:
        return place, value
    for name, child in _children(value):
        try:
            _encode(child)
        except Exception:  # noqa: BLE001 (hooks of the bundle may raise anything)
            return _locate(child, f"{place}{name}", depth + 1)
    return place, value


def _children(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f".{key}" if isinstance(key, str) else f"[{key!r}]", child) for key, child in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{index}]", child) for index, child in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [("[…]", child) for child in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f".{field.name}", getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    return []
