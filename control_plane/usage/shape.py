"""The shape of many invocations: how many ended how, and histograms of what they took. Pure.

Kept per version and hour (and day) by ``rollup``, read by ``service``: percentiles, and "how many would have exceeded
this limit", without looking at single records. What always holds: merging is adding, in any order and grouping; a
quantile is at most ``ERROR_MAX`` away from the value of that rank, relative to it; a count of values above a bound is
between ``Above.least`` and ``Above.most``.

A histogram has eight buckets to each power of two, as HdrHistogram has (http://hdrhistogram.org, three bits), and is
exact below 16. The bytes carry a version: a release that meets a newer one refuses instead of guessing.
"""

import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SUB_BITS: Final = 3
_SUBS: Final = 1 << SUB_BITS
ERROR_MAX: Final = 1 / 16
"""Of a quantile, relative: half of the widest bucket over its lowest value."""
VALUE_MAX: Final = 2**62
"""Larger ones count as this one."""
NAMES: Final = ("wall_us", "cpu_us", "queue_us", "memory_bytes", "request_bytes", "response_bytes")
"""Of the histograms, in the order of the bytes. A new one is a new version."""
OK: Final = "ok"
ERROR_STATUS: Final = "error_status"
"""The function answered by itself, with something else than 2xx or 3xx."""

_VERSION: Final = 1
_BYTES_MAX: Final = 2**20
_HEAD: Final = struct.Struct("<QH")
_COUNT: Final = struct.Struct("<H")


class CorruptShapeError(Exception):
    """The bytes are not a shape that this release knows."""


class Above(NamedTuple):
    """How many values exceed a bound: between ``least`` and ``most``, most likely ``calls``."""

    calls: int
    least: int
    most: int


@dataclass(slots=True)
class Histogram:
    """Bucket → how many."""

    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, value: int) -> None:
        self.buckets[bucket_of(value)] += 1

    def merge(self, other: "Histogram") -> None:
        self.buckets.update(other.buckets)

    @property
    def count(self) -> int:
        return self.buckets.total()

    def quantile(self, share: float) -> int | None:
        """The value of rank ⌈share × count⌉ (the smallest for 0), to within ``ERROR_MAX``. None: there are none."""
        rank = max(1, -(-round(share * 1_000_000) * self.count // 1_000_000))
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                low, high = bounds_of(bucket)
                return (low + high) // 2
        return None

    def above(self, bound: int) -> Above:
        """The bucket that holds the bound is shared out in proportion."""
        least = most = 0
        parts = 0.0
        for bucket, count in self.buckets.items():
            low, high = bounds_of(bucket)
            if low > bound:
                least += count
            elif high > bound:
                parts += count * (high - bound) / (high - low + 1)
                most += count
        return Above(least + round(parts), least, least + most)


def bucket_of(value: int) -> int:
    if value < _SUBS:
        return max(value, 0)
    if value > VALUE_MAX:
        value = VALUE_MAX
    shift = value.bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (value >> shift)


def bounds_of(bucket: int) -> tuple[int, int]:
    """The smallest and the largest value in it."""
    if bucket < _SUBS:
        return bucket, bucket
    shift = (bucket >> SUB_BITS) - 1
    low = (_SUBS + (bucket & (_SUBS - 1))) << shift
    return low, low + (1 << shift) - 1


@dataclass(slots=True)
class Shape:
    cold: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    histograms: tuple[Histogram, ...] = field(default_factory=lambda: tuple(Histogram() for _ in NAMES))

    @property
    def calls(self) -> int:
        return self.outcomes.total()

    @property
    def errors(self) -> int:
        return self.calls - self.outcomes[OK]

    def __getitem__(self, name: str) -> Histogram:
        return self.histograms[NAMES.index(name)]

    def merge(self, other: "Shape") -> None:
        self.cold += other.cold
        self.outcomes.update(other.outcomes)
        for mine, theirs in zip(self.histograms, other.histograms, strict=True):
            mine.merge(theirs)

    def encode(self) -> bytes:
        outcomes = json.dumps(self.outcomes, sort_keys=True, separators=(",", ":")).encode()
        parts = [_HEAD.pack(self.cold, len(outcomes)), outcomes]
        for histogram in self.histograms:
            held = sorted(histogram.buckets.items())
            parts.append(_COUNT.pack(len(held)))
            parts.append(struct.pack(f"<{len(held)}H", *(bucket for bucket, _ in held)))
            parts.append(struct.pack(f"<{len(held)}Q", *(count for _, count in held)))
        return bytes([_VERSION]) + zlib.compress(b"".join(parts), 1)


def merged(shapes: Iterable[Shape]) -> Shape:
    total = Shape()
    for shape in shapes:
        total.merge(shape)
    return total


def decode(data: bytes) -> Shape:
    """Raises CorruptShapeError."""
    if not data or data[0] != _VERSION:
        raise CorruptShapeError(f"version {data[:1].hex() or 'none'} instead of {_VERSION}: a newer release wrote it")
    try:
        raw = zlib.decompressobj().decompress(data[1:], _BYTES_MAX)
        cold, size = _HEAD.unpack_from(raw)
        at = _HEAD.size + size
        outcomes: Counter[str] = Counter(json.loads(raw[_HEAD.size : at]))
        histograms = []
        for _ in NAMES:
            (count,) = _COUNT.unpack_from(raw, at)
            at += _COUNT.size
            buckets = struct.unpack_from(f"<{count}H", raw, at)
            at += 2 * count
            counts = struct.unpack_from(f"<{count}Q", raw, at)
            at += 8 * count
            histograms.append(Histogram(Counter(dict(zip(buckets, counts, strict=True)))))
    except (zlib.error, struct.error, ValueError) as error:
        raise CorruptShapeError(str(error)) from None
    return Shape(cold, outcomes, tuple(histograms))


def outcome_class(outcome: str, status: int) -> str:
    """``ok`` is one that was answered 2xx or 3xx; a function that says something else itself has failed as well."""
    return ERROR_STATUS if outcome == OK and not 200 <= status < 400 else outcome
