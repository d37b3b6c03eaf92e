"""Gateway → control plane: usage records, as bytes of the journal, through Redis.

The journal (``zigcore/src/meter/journal.zig``) is the truth, Redis only carries it. Each reactor of each start of a
gateway (an epoch) writes a stream of its own; the same stream exists in Redis under ``stream_key``. An entry of it is a
run of whole slots; its id is where the run ends (``segment-offset``), so that sending it again is refused by Redis, and
``PREVIOUS_FIELD`` names the entry before it, so that a hole is noticed.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

from gateway.contract.metrics import Outcome

STREAMS_KEY: Final = "tailcut:usage:streams"
"""Set of the names of streams that may hold something."""
WATERMARKS_KEY: Final = "tailcut:usage:watermarks"
"""Hash: stream → the position up to which the control plane has booked it."""
FINAL_KEY: Final = "tailcut:usage:final"
"""Hash: stream → the position at which it ends for good; its gateway has ended."""
LAG_KEY: Final = "tailcut:usage:lag"
"""Hash: node (8 hex digits) → ``NodeLag`` as JSON, written by its gateway about every second."""
DEAD_LETTERS_KEY: Final = "tailcut:usage:dead-letters"
"""How many records could not be booked; written by the control plane for the metric of the gateways."""
RECORDS_FIELD: Final = b"records"
PREVIOUS_FIELD: Final = b"previous"

HEADER_BYTES: Final = 4096
SLOT_BYTES: Final = 128
SEGMENT_BYTES: Final = 8 * 2**20
"""``journal_segment_bytes`` of limits.zig"""
SEGMENT_NUMBER_MAX: Final = 2**24 - 1
"""Of one stream: ``usage_records.id`` has 24 bits for it. At 65,000 invocations a second half a year; then the gateway
begins a new epoch."""
MAGIC: Final = b"TCJRNL01"
HEADER: Final = struct.Struct("<8sQQQQ")
"""magic, node and epoch, number, committed, sealed"""
SLOT: Final = struct.Struct("<II16sQQQQQQIIIIHBBI32s")
"""Checksum, kind; then ``Record`` of zigcore/src/meter/usage.zig: invocation id, arrived (unix ns), queue, start, wall
and CPU ns, memory bytes, request, response and log bytes, version's index, status (0: no answer), outcome, flags,
reserved; then the version's id, zeros behind it. Every number is the gateway's own."""
KIND_USAGE: Final = 1
CORRUPT_KIND: Final = 2**32 - 1
"""Put into a slot whose checksum was wrong when it was read from the journal."""
PLATFORM_ABORTED: Final = "platform_aborted"
"""The outcome of an invocation that had begun when its gateway died: billed zero."""
_ABORTED_CODE: Final = 255
OUTCOMES: Final[dict[int, str]] = {**dict(enumerate(get_args(Outcome))), _ABORTED_CODE: PLATFORM_ABORTED}
"""By the number in a slot."""
NOT_BILLED: Final = frozenset(number for number, name in OUTCOMES.items() if name in ("internal", PLATFORM_ABORTED))

SELF_CHECK_VERSION_ID: Final = "ver_check"
"""Of the function with which a gateway checks itself: its records are nobody's usage."""

FLAG_COLD, FLAG_DEADLINE, FLAG_EXECUTED = 1, 2, 4


class Position(NamedTuple):
    """A place in a stream: everything before ``offset`` of segment ``number``. Ordered."""

    number: int
    offset: int

    def __str__(self) -> str:
        return f"{self.number}-{self.offset}"

    @classmethod
    def parse(cls, text: str | bytes) -> "Position":
        number, _, offset = (text if isinstance(text, str) else text.decode()).partition("-")
        return cls(int(number), int(offset))


START: Final = Position(0, 0)


class NodeLag(BaseModel):
    """What a node has in its journal and the control plane has not booked."""

    model_config = ConfigDict(frozen=True)

    at_unix_s: float
    """When this was measured: an old one means that the gateway is away."""
    unbooked_bytes: int = Field(ge=0)
    oldest_unix_s: float | None
    """Arrival of the oldest record that is not booked; None: everything is booked."""
    journal_bytes: int = Field(ge=0)
    """On the node's disk, booked and allocated ahead included."""
    full: bool
    """The disk has no room for the journal: calls are refused."""


def stream_name(node: int, reactor: int) -> str:
    """``node``: its 32 bits and those of the epoch, as in every invocation id."""
    return f"{node:016x}:{reactor:02x}"


def stream_key(name: str) -> str:
    return f"tailcut:usage:stream:{name}"


def is_billed(outcome: int, flags: int) -> bool:
    """Refused and cancelled ones have not run; what we broke is on us. As ``billed`` in zigcore/src/pool/books.zig."""
    return flags & FLAG_EXECUTED != 0 and outcome not in NOT_BILLED


def mib_us(memory_bytes: int, wall_ns: int) -> int:
    """Peak memory in whole MiB, rounded up, times wall-clock µs: what purses count (pool/books.zig)."""
    return -(-memory_bytes // 2**20) * (wall_ns // 1000)


def aborted_slot(invocation_id: bytes, version_id: bytes, arrived_unix_ns: int) -> bytes:
    """The record of an invocation that never ended; ``version_id`` has 32 bytes."""
    numbers = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, _ABORTED_CODE, 0, 0)
    body = SLOT.pack(0, KIND_USAGE, invocation_id, arrived_unix_ns, *numbers, version_id)[4:]
    return crc32c(body).to_bytes(4, "little") + body


def slots(records: bytes) -> Iterator[bytes]:
    for at in range(0, len(records) - SLOT_BYTES + 1, SLOT_BYTES):
        yield records[at : at + SLOT_BYTES]


def crc32c(data: bytes) -> int:
    """CRC32C (RFC 3720, appendix B.4), as ``zigcore/src/io/crc32c.zig``."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()

assert SLOT.size == SLOT_BYTES  # noqa: S101 - a relation between two constants
