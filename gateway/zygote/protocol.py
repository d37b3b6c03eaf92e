"""The zygote's half of the wire format, mirrored from zigcore/src/pool/frame.zig.

Called by ``server``. A frame is one datagram of an AF_UNIX SOCK_SEQPACKET socket. What always holds: a frame that does
not decode raises ``ProtocolError`` and nothing else.
"""

import struct
from dataclasses import dataclass

import msgspec

from gateway.contract.worker import SpawnSpec

MAGIC = 0x54434631
KIND_SPAWN = 16
KIND_SPAWNED = 17
KIND_REFUSED = 18
KIND_EXITED = 19
KIND_TRIPWIRE = 20
SPAWN = struct.Struct("<IBB2xQII")
"""magic, kind, whether the CPU is a reserved one, request, cpu, bytes of the document that follows. Two descriptors:
channel, shared memory."""
REPLY = struct.Struct("<IB3xQiiI4xQQ")
"""magic, kind, request, pid, status, and of an exit: processes that the kernel ended for want of memory, peak of the
memory in bytes, CPU time of its whole life in ns. A refusal's text follows."""
FRAME_BYTES_MAX = 64 * 1024
SPAWN_DESCRIPTORS = 2
REFUSAL_TEXT_BYTES_MAX = 480
"""The gateway reads a reply and its text into 544 bytes."""

_decode_spec = msgspec.json.Decoder(SpawnSpec).decode


class ProtocolError(Exception):
    """What a gateway sent is not a spawn frame."""


@dataclass(frozen=True, slots=True)
class Spawn:
    request: int
    cpu: int
    spec: SpawnSpec
    reserved_cpu: bool = False
    """The worker belongs into the partition of that CPU."""


def decode_spawn(frame: bytes) -> Spawn:
    if len(frame) < SPAWN.size:
        raise ProtocolError(f"a frame of {len(frame)} bytes, a spawn has at least {SPAWN.size}")
    magic, kind, reserved_cpu, request, cpu, spec_bytes = SPAWN.unpack_from(frame)
    if magic != MAGIC or kind != KIND_SPAWN:
        raise ProtocolError(f"magic {magic:#x} and kind {kind}, a spawn has {MAGIC:#x} and {KIND_SPAWN}")
    document = frame[SPAWN.size :]
    if len(document) != spec_bytes:
        raise ProtocolError(f"a document of {len(document)} bytes, announced were {spec_bytes}")
    try:
        return Spawn(request, cpu, _decode_spec(document), reserved_cpu != 0)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the spawn document: {error}") from error


def spawn_request(frame: bytes) -> int:
    """The request number of a frame that may be broken; 0 when even that is missing."""
    return int.from_bytes(frame[8:16], "little") if len(frame) >= SPAWN.size else 0


def reply(kind: int, request: int, pid: int, status: int, text: str = "") -> bytes:
    return REPLY.pack(MAGIC, kind, request, pid, status, 0, 0, 0) + text.encode()[:REFUSAL_TEXT_BYTES_MAX]


def exited(request: int, pid: int, status: int, oom_kills: int, memory_peak_bytes: int, cpu_s: float) -> bytes:
    """``cpu_s``: all threads, as wait4 tells it, or its control group."""
    oom_kills = min(oom_kills, 2**32 - 1)
    return REPLY.pack(MAGIC, KIND_EXITED, request, pid, status, oom_kills, memory_peak_bytes, round(cpu_s * 1e9))
