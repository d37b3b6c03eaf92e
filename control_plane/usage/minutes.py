"""Sixty minutes of a tenant: calls, errors, busy time, CPU time and held memory of each. Pure.

Fine enough to show "now", and to say which tier's rate and concurrency would have been too small: with ``busy_us`` of a
minute over its length one knows how many ran at once, on average (Little's law); likewise CPUs that were busy and
memory that was held. Merging is adding.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

MINUTES: Final = 60
_VERSION: Final = 2
_BODY: Final = struct.Struct(f"<{2 * MINUTES}I{3 * MINUTES}Q")
_FIRST_BODY: Final = struct.Struct(f"<{2 * MINUTES}I{MINUTES}Q")
"""Version 1 knew nothing of CPU and memory."""
_COUNT_MAX: Final = 2**32 - 1


class CorruptMinutesError(Exception):
    """The bytes are not what this release writes."""


@dataclass(slots=True)
class Minutes:
    calls: list[int] = field(default_factory=lambda: [0] * MINUTES)
    errors: list[int] = field(default_factory=lambda: [0] * MINUTES)
    busy_us: list[int] = field(default_factory=lambda: [0] * MINUTES)
    """Queue and run of the calls that arrived in the minute."""
    cpu_us: list[int] = field(default_factory=lambda: [0] * MINUTES)
    mib_us: list[int] = field(default_factory=lambda: [0] * MINUTES)
    """Peak memory of each call times how long it ran, as it is billed."""

    def add(self, minute: int, *, error: bool, busy_us: int, cpu_us: int, mib_us: int) -> None:
        self.calls[minute] += 1
        self.errors[minute] += error
        self.busy_us[minute] += busy_us
        self.cpu_us[minute] += cpu_us
        self.mib_us[minute] += mib_us

    def merge(self, other: "Minutes") -> None:
        for mine, theirs in (
            (self.calls, other.calls),
            (self.errors, other.errors),
            (self.busy_us, other.busy_us),
            (self.cpu_us, other.cpu_us),
            (self.mib_us, other.mib_us),
        ):
            mine[:] = [a + b for a, b in zip(mine, theirs, strict=True)]

    def encode(self) -> bytes:
        counts = (min(count, _COUNT_MAX) for count in (*self.calls, *self.errors))
        return bytes([_VERSION]) + _BODY.pack(*counts, *self.busy_us, *self.cpu_us, *self.mib_us)


def decode(data: bytes) -> Minutes:
    """Raises CorruptMinutesError."""
    body = {_VERSION: _BODY, 1: _FIRST_BODY}.get(data[0]) if data else None
    if body is None or len(data) != 1 + body.size:
        raise CorruptMinutesError(f"{len(data)} bytes of version {data[:1].hex()}: a newer release wrote them")
    values = body.unpack_from(data, 1)
    return Minutes(*(list(values[at : at + MINUTES]) for at in range(0, len(values), MINUTES)))
