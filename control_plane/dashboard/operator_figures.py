"""Figures as operators read them: bytes, times, rates, shares. Templates under admin/ have this module as ``show``."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from control_plane.models import now
from control_plane.operators.schemas import Day

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def size(value: int) -> str:
    number = float(value)
    for unit in _BYTES:
        if number < 1024 or unit == _BYTES[-1]:
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("the last unit holds everything")


def duration(seconds: float) -> str:
    """The two largest units: "3 d 4 h", "2 min 5 s"."""
    rest = max(int(seconds), 0)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def ago(at: datetime) -> str:
    return f"{duration((now() - at).total_seconds())} ago"


def rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.05 else "0"


def count(value: int) -> str:
    """Short, with the exact number beside it where that matters."""
    if value < 10_000:
        return f"{value:,}"
    for limit, unit, length in ((10**6, "k", 10**3), (10**9, "M", 10**6), (10**12, "G", 10**9)):
        if value < limit:
            return f"{value / length:,.1f} {unit}"
    return f"{value / 10**12:,.1f} T"


def cpu_time(cpu_us: int) -> str:
    seconds = cpu_us / 1e6
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def percent(part: float, whole: float) -> int:
    return round(100 * part / whole) if whole else 0


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def days_of_month(days: Sequence[Day], length: int) -> list[tuple[datetime, int, int]]:
    """The last ``length`` days, each (day, calls, errors), those without calls included."""
    today = now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    known = {each.day: each for each in days}
    found = []
    for back in range(length - 1, -1, -1):
        day = today - timedelta(days=back)
        each = known.get(day)
        found.append((day, each.invocations if each else 0, each.errors if each else 0))
    return found
