"""Sixty minutes of a tenant: calls, errors and busy time of each. Pure.

Fine enough to show "now", and to say which tier's rate and concurrency would have been too small: with ``busy_us`` of a
minute over its length one knows how many ran at once, on average (Little's law). Merging is adding.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

MINUTES: Final = 60
_VERSION: Final = 1
_BODY: Final = struct.Struct(f"<{MINUTES}I{MINUTES}I{MINUTES}Q")
_COUNT_MAX: Final = 2**32 - 1


class CorruptMinutesError(Exception):
    """The bytes are not what this release writes."""


@dataclass(slots=True)
class Minutes:
    calls: list[int] = field(default_factory=lambda: [0] * MINUTES)
    errors: list[int] = field(default_factory=lambda: [0] * MINUTES)
    busy_us: list[int] = field(default_factory=lambda: [0] * MINUTES)
    """Queue and run of the calls that arrived in the minute."""

    def add(self, minute: int, *, error: bool, busy_us: int) -> None:
        self.calls[minute] += 1
        self.errors[minute] += error
        self.busy_us[minute] += busy_us

    def merge(self, other: "Minutes") -> None:
        for mine, theirs in (
            (self.calls, other.calls),
            (self.errors, other.errors),
            (self.busy_us, other.busy_us),
        ):
            mine[:] = [a + b for a, b in zip(mine, theirs, strict=True)]

    def encode(self) -> bytes:
        counts = (min(count, _COUNT_MAX) for count in (*self.calls, *self.errors))
        return bytes([_VERSION]) + _BODY.pack(*counts, *self.busy_us)


def decode(data: bytes) -> Minutes:
    """Raises CorruptMinutesError."""
    if len(data) != 1 + _BODY.size or data[0] != _VERSION:
        raise CorruptMinutesError(f"{len(data)} bytes of version {data[:1].hex()}: a newer release wrote them")
    values = _BODY.unpack_from(data, 1)
    return Minutes(list(values[:MINUTES]), list(values[MINUTES : 2 * MINUTES]), list(values[2 * MINUTES :]))
