"""Usage as gateways send it: slots of a journal, as entries of a Redis stream, booked by the running control plane."""

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.contract.usage import (
    FLAG_COLD,
    FLAG_EXECUTED,
    KIND_USAGE,
    OUTCOMES,
    PREVIOUS_FIELD,
    RECORDS_FIELD,
    SLOT,
    STREAMS_KEY,
    WATERMARKS_KEY,
    Position,
    crc32c,
    stream_key,
    stream_name,
)
from tests.control_plane.running import Valkey, eventually

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Call:
    """One admitted invocation; what a test does not care about has a likely value."""

    version: str
    arrived_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    outcome: str = "ok"
    status: int = 200
    executed: bool = True
    cold: bool = False
    queue_us: int = 50
    wall_us: int = 10_000
    cpu_us: int = 5_000
    memory_bytes: int = 20 * 2**20
    request_bytes: int = 100
    response_bytes: int = 200
    invocation_id: str = field(default_factory=lambda: secrets.token_hex(16))

    def slot(self) -> bytes:
        arrived_ns = round((self.arrived_at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 1000
        flags = FLAG_EXECUTED * self.executed | FLAG_COLD * self.cold
        numbers = (
            *(arrived_ns, self.queue_us * 1000, 0, self.wall_us * 1000, self.cpu_us * 1000, self.memory_bytes),
            *(self.request_bytes, self.response_bytes, 0, 0, self.status, OUTCOMES.index(self.outcome), flags, 0),
        )
        fields = (0, KIND_USAGE, bytes.fromhex(self.invocation_id), *numbers, self.version.encode())
        body = SLOT.pack(*fields)[4:]
        return crc32c(body).to_bytes(4, "little") + body

    def many(self, count: int, **changes: Any) -> "list[Call]":
        return [replace(self, invocation_id=secrets.token_hex(16), **changes) for _ in range(count)]


class Feed:
    """A gateway's stream of its own."""

    def __init__(self, valkey: Valkey) -> None:
        self._redis = valkey.client
        self._name = stream_name(0x7E57_0000_0000_0000 | next(_numbers) << 16 | secrets.randbits(16), 0)
        self._at = Position(0, 0)

    def send(self, calls: Sequence[Call]) -> Position:
        """One entry; the same as a gateway's shipper does."""
        records = b"".join(call.slot() for call in calls)
        end = Position(1, self._at.offset + len(records))
        fields: dict[Any, Any] = {PREVIOUS_FIELD: str(self._at), RECORDS_FIELD: records}
        self._redis.xadd(stream_key(self._name), fields, id=str(end))
        self._redis.sadd(STREAMS_KEY, self._name)
        self._at = end
        return end

    def book(self, calls: Sequence[Call]) -> None:
        """… and wait until SQL has them."""
        end = str(self.send(calls)).encode()
        eventually(lambda: self._redis.hget(WATERMARKS_KEY, self._name) == end)
