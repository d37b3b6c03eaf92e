"""How the dashboard writes numbers: counts, times, sizes and money, short enough to be read at a glance. Pure.

Also filters of the templates (``pages.environment``) and the units of ``charts``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from control_plane.dashboard.money import money as money

_THOUSANDS: Final = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_SIZES: Final = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_TIMES: Final = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1000, "ms"))
_NEARLY: Final = 0.999_5
"""999.96 k is written as 1 M."""


def compact(count: float) -> str:
    """``12.3 k``; below a thousand the number itself."""
    return _scaled(count, _THOUSANDS, "") if abs(count) >= 1000 * _NEARLY else _short(count)


def exact(count: float) -> str:
    """``1,234,567``"""
    return f"{count:,.0f}"


def duration(us: float) -> str:
    """``12.5 ms``"""
    return _scaled(us, _TIMES, "µs")


def size(size_bytes: float) -> str:
    """``1.5 GiB``; whole bytes below a KiB"""
    return _scaled(size_bytes, _SIZES, "B") if size_bytes >= 2**10 * _NEARLY else f"{size_bytes:.0f} B"


def percent(share: float) -> str:
    """``0.25 %``; never 0 % of something, nor 100 % of less than all."""
    value = share * 100
    if value == 0:
        return "0 %"
    if value < 0.01:
        return "< 0.01 %"
    if 99.95 <= value < 100:
        return "99.9 %"
    return f"{value:.2g} %" if value < 1 else f"{value:.3g} %" if value < 1000 else f"{value:,.0f} %"


@dataclass(frozen=True, slots=True)
class Unit:
    """How an axis and its values are written; ``base``: which steps look round, 10 or 2."""

    write: Callable[[float], str]
    base: int = 10
    whole: bool = False
    least: float = 0.0
    """An axis ends there or above: nearly nothing looks like nearly nothing."""
    rounds: tuple[float, ...] = ()
    """Steps that look round where powers of ten do not, the smallest first: 15 s, 5 min"""
    decade: Callable[[float], str] | None = None
    """How a power of ten is written beside others; like every other value when there is none."""


COUNT: Final = Unit(compact, whole=True)
MEAN: Final = Unit(compact, least=0.2)
SECONDS: Final = Unit(
    duration,
    rounds=tuple(
        n * unit
        for unit, numbers in (
            (1_000_000, (5, 10, 15, 30)),
            (60_000_000, (1, 2, 5, 10, 15, 30)),
            (3_600_000_000, (1, 2, 3, 6, 12)),
            (86_400_000_000, (1, 2, 5, 10, 20, 50, 100)),
        )
        for n in numbers
    ),
    decade=lambda us: f"{us / 1_000_000:,.0f} s" if us >= 1_000_000 else duration(us),
)
"""Values in µs"""
BYTES: Final = Unit(size, base=2)
MONEY_MINOR: Final = Unit(money)
MEMORY: Final = Unit(size, base=2, least=2.0**24)
"""Bytes that many calls hold together."""
PERCENT: Final = Unit(percent, least=0.08)
"""Values from 0 to 1"""


def _scaled(value: float, units: tuple[tuple[int, str], ...], smallest: str) -> str:
    for length, name in units:
        if abs(value) >= length * _NEARLY:
            return f"{_short(value / length)} {name}"
    return f"{_short(value)} {smallest}".rstrip() if value else "0"


def _short(value: float) -> str:
    """Three digits that matter."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    text = f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".")
