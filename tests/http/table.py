"""The table of byte streams that the Zig parser is tested with, for sending to a live gateway.

One file, two readers: zigcore/src/http/table_test.zig feeds it to the parser, test_table.py to a socket. Its strings
are bytes: each character is the byte of its number.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "zigcore" / "src" / "http" / "testdata" / "requests.json"

EXACT_PREFIX = "bounds:"
"""Cases whose length is the point: they are sent as they are."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What one request of a stream comes to: accepted (``method``), refused (``status``), or neither (incomplete)."""

    method: str | None
    target: str
    body: bytes
    keep_alive: bool
    has_body: bool
    status: int | None
    refusal: str | None

    @property
    def accepted(self) -> bool:
        return self.method is not None

    @property
    def incomplete(self) -> bool:
        return self.method is None and self.status is None


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    stream: bytes
    expected: tuple[Expected, ...]
    rest: bytes
    """What follows the last request and must not be looked at."""

    def to(self, echo_path: str) -> "Case":
        """The same case for a function that answers: requests for ``/`` are sent to it instead."""
        if self.name.startswith(EXACT_PREFIX):
            return self
        return Case(
            self.name,
            self.stream.replace(b" / HTTP/1.", b" " + echo_path.encode() + b" HTTP/1."),
            self.expected,
            self.rest,
        )


def load() -> list[Case]:
    return [_case(entry) for entry in json.loads(FILE.read_text())]


def _case(entry: dict[str, Any]) -> Case:
    stream = b"".join(
        part.encode("latin-1") if isinstance(part, str) else part["repeat"].encode("latin-1") * part["times"]
        for part in entry["bytes"]
    )
    return Case(
        entry["name"],
        stream,
        tuple(_expected(one) for one in entry["expect"]),
        entry.get("rest", "").encode("latin-1"),
    )


def _expected(entry: dict[str, Any]) -> Expected:
    body = entry.get("body", "").encode("latin-1")
    return Expected(
        method=entry.get("method"),
        target=entry.get("target", ""),
        body=body,
        keep_alive=entry.get("keep_alive", False),
        has_body=bool(body),
        status=entry.get("status"),
        refusal=entry.get("refusal"),
    )
