"""From a run of the journal to rows of SQL. Pure.

Called by ``consumer`` for every run and by ``dead_letters`` for one record. It is the control plane's only work for
each single invocation, so it goes over the bytes once, makes tuples, and asks SQL for nothing (docs/decisions/0020 has
what it costs).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from control_plane.models.records import record_id
from control_plane.usage.hourly import Usage
from gateway.contract.usage import (
    FLAG_COLD,
    FLAG_DEADLINE,
    KIND_USAGE,
    OUTCOMES,
    SELF_CHECK_VERSION_ID,
    SLOT,
    SLOT_BYTES,
    Position,
    is_billed,
    mib_us,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_US: Final = 3_600_000_000
ARRIVED_UNIX_NS_MAX: Final = 7_258_118_400 * 10**9
"""The year 2200"""
MEMORY_BYTES_MAX: Final = 2**50
MIB_US_MAX: Final = 2**50
"""A quarter of an hour with 1 TiB; SQL adds up many of them in 63 bits."""
_SELF_CHECK: Final = SELF_CHECK_VERSION_ID.encode()


class Owner(NamedTuple):
    """Whose a version is or was."""

    tenant_id: str
    function: str
    version_id: str


class Row(NamedTuple):
    """The columns of ``usage_records``, but for the time, which is a number here: most of what is done is adding up."""

    id: int
    invocation_id: str
    tenant_id: str
    function: str
    version_id: str
    arrived_unix_us: int
    outcome: str
    status: int
    billed: bool
    cold: bool
    deadline: bool
    queue_us: int
    start_us: int
    wall_us: int
    cpu_us: int
    memory_bytes: int
    mib_us: int
    request_bytes: int
    response_bytes: int
    log_bytes: int


class Dead(NamedTuple):
    """A slot that cannot be booked, and why."""

    place: Position
    slot: bytes
    reason: str


@dataclass(slots=True)
class Booked:
    rows: list[Row] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)


def version_of(slot: bytes) -> bytes:
    """The version's id as it is in the journal, zeros behind it."""
    return slot[96:128]


def book(stream_number: int, begin: Position, records: bytes, owners: Mapping[bytes, Owner]) -> Booked:
    """``begin``: where the first slot lies; ``owners``: by the id as it is in the journal."""
    booked = Booked()
    append = booked.rows.append
    first_id = record_id(stream_number, begin)
    for index, fields in enumerate(SLOT.iter_unpack(records)):
        (
            _,
            kind,
            invocation_id,
            arrived_ns,
            queue_ns,
            start_ns,
            wall_ns,
            cpu_ns,
            memory_bytes,
            request_bytes,
            response_bytes,
            log_bytes,
            _,
            status,
            code,
            flags,
            _,
            version,
        ) = fields
        owner = owners.get(version)
        outcome = OUTCOMES.get(code)
        memory_time = mib_us(memory_bytes, wall_ns)
        if (
            owner is None
            or outcome is None
            or kind != KIND_USAGE
            or arrived_ns > ARRIVED_UNIX_NS_MAX
            or memory_bytes > MEMORY_BYTES_MAX
            or memory_time > MIB_US_MAX
        ):
            at = index * SLOT_BYTES
            if version.rstrip(b"\0") != _SELF_CHECK or kind != KIND_USAGE:
                place = Position(begin.number, begin.offset + at)
                slot = records[at : at + SLOT_BYTES]
                booked.dead.append(Dead(place, slot, _reason(kind, code, version, known=owner is not None)))
            continue
        wall_us = wall_ns // 1000
        append(
            Row(
                first_id + index,
                invocation_id.hex(),
                owner.tenant_id,
                owner.function,
                owner.version_id,
                arrived_ns // 1000,
                outcome,
                status,
                is_billed(code, flags),
                flags & FLAG_COLD != 0,
                flags & FLAG_DEADLINE != 0,
                queue_ns // 1000,
                start_ns // 1000,
                wall_us,
                cpu_ns // 1000,
                memory_bytes,
                memory_time,
                request_bytes,
                response_bytes,
                log_bytes,
            )
        )
    return booked


def hours_of(rows: Iterable[Row]) -> list[Usage]:
    """What is billed, by version and hour."""
    sums: dict[tuple[str, str, str, int], list[int]] = {}
    for row in rows:
        if not row.billed:
            continue
        key = (row.tenant_id, row.function, row.version_id, row.arrived_unix_us // _HOUR_US)
        into = sums.get(key)
        if into is None:
            into = sums[key] = [0, 0, 0, 0]
        into[0] += 1
        into[1] += not 200 <= row.status < 400
        into[2] += row.cpu_us
        into[3] += row.mib_us
    return [
        Usage(tenant_id, function, version_id, _EPOCH + timedelta(hours=hour), *values)
        for (tenant_id, function, version_id, hour), values in sums.items()
    ]


def _reason(kind: int, outcome: int, version: bytes, *, known: bool) -> str:
    if kind != KIND_USAGE:
        return (
            f"kind {kind} instead of {KIND_USAGE}: its checksum was wrong when it was read, or a newer gateway wrote it"
        )
    if outcome not in OUTCOMES:
        return f"outcome {outcome} is none of the known ones: a newer gateway wrote it"
    if known:
        return "a number is out of all bounds (control_plane/usage/booking.py): a clock, or a defect"
    return f"no tenant ever had the version {version.rstrip(b'\0').decode('ascii', 'replace')!r}"
