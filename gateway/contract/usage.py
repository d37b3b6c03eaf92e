"""Gateway → control plane: usage records, as bytes of the journal, through Redis.

The journal (``zigcore/src/meter/journal.zig``) is the truth, Redis only carries it. Each reactor of each start of a
gateway (an epoch) writes a stream of its own; the same stream exists in Redis under ``stream_key``. An entry of it is a
run of whole slots; its id is where the run ends (``segment-offset``), so that sending it again is refused by Redis, and
``PREVIOUS_FIELD`` names the entry before it, so that a hole is noticed.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, get_args

from gateway.contract.metrics import Outcome

STREAMS_KEY: Final = "tailcut:usage:streams"
"""Set of the names of streams that may hold something."""
WATERMARKS_KEY: Final = "tailcut:usage:watermarks"
"""Hash: stream → the position up to which the control plane has booked it."""
FINAL_KEY: Final = "tailcut:usage:final"
"""Hash: stream → the position at which it ends for good; its gateway has ended."""
RECORDS_FIELD: Final = b"records"
PREVIOUS_FIELD: Final = b"previous"

HEADER_BYTES: Final = 4096
SLOT_BYTES: Final = 128
SEGMENT_BYTES: Final = 8 * 2**20
"""``journal_segment_bytes`` of limits.zig"""
MAGIC: Final = b"TCJRNL01"
HEADER: Final = struct.Struct("<8sQQQQ")
"""magic, node and epoch, number, committed, sealed"""
SLOT: Final = struct.Struct("<II16sQQQQQQIIIIHBBI32s")
OUTCOMES: Final = get_args(Outcome)
KIND_USAGE: Final = 1
PLATFORM_ABORTED: Final = "platform_aborted"
"""The outcome of an invocation that had begun when its gateway died: billed zero."""
_ABORTED_CODE: Final = 255

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


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one admitted invocation consumed; every number is the gateway's own."""

    invocation_id: str
    version_id: str
    arrived_unix_ns: int
    outcome: str
    status: int
    """Of the answer; 0: there was none."""
    executed: bool
    cold: bool
    deadline: bool
    """Ran under a reservation that the kernel had admitted."""
    queue_ns: int
    start_ns: int
    wall_ns: int
    cpu_ns: int
    memory_bytes: int
    request_bytes: int
    response_bytes: int
    log_bytes: int

    @property
    def billed(self) -> bool:
        """Refused and cancelled ones have not run; what we broke is on us."""
        return self.executed and self.outcome not in ("internal", PLATFORM_ABORTED)

    @property
    def cpu_us(self) -> int:
        return self.cpu_ns // 1000

    @property
    def mib_us(self) -> int:
        """Peak memory in whole MiB, rounded up, times wall-clock µs: what purses count (pool/answer.zig)."""
        return -(-self.memory_bytes // 2**20) * (self.wall_ns // 1000)


class CorruptSlotError(Exception):
    """The bytes are not a slot that this release knows."""


def stream_name(node: int, reactor: int) -> str:
    """``node``: its 32 bits and those of the epoch, as in every invocation id."""
    return f"{node:016x}:{reactor:02x}"


def stream_key(name: str) -> str:
    return f"tailcut:usage:stream:{name}"


def decode(slot: bytes) -> UsageRecord:
    """One slot, whose checksum was tested when it was read from the journal. Raises CorruptSlotError."""
    fields = SLOT.unpack(slot)
    if fields[1] != KIND_USAGE:
        raise CorruptSlotError(f"kind {fields[1]} instead of {KIND_USAGE}")
    outcome, flags = fields[14], fields[15]
    if outcome >= len(OUTCOMES) and outcome != _ABORTED_CODE:
        raise CorruptSlotError(f"outcome {outcome} is none of the {len(OUTCOMES)} known ones: a newer gateway wrote it")
    return UsageRecord(
        invocation_id=fields[2].hex(),
        version_id=fields[17].rstrip(b"\0").decode("ascii", "replace"),
        arrived_unix_ns=fields[3],
        outcome=PLATFORM_ABORTED if outcome == _ABORTED_CODE else OUTCOMES[outcome],
        status=fields[13],
        executed=bool(flags & FLAG_EXECUTED),
        cold=bool(flags & FLAG_COLD),
        deadline=bool(flags & FLAG_DEADLINE),
        queue_ns=fields[4],
        start_ns=fields[5],
        wall_ns=fields[6],
        cpu_ns=fields[7],
        memory_bytes=fields[8],
        request_bytes=fields[9],
        response_bytes=fields[10],
        log_bytes=fields[11],
    )


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
