"""Tiers in words: the table that compares them, and a limit's name and value as people say them. Pure.

Used by the pages about tiers. Names of limits are those of ``tiers.catalog`` and of ``usage.views.LimitFailures``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from control_plane.dashboard.money import money
from control_plane.tiers.schemas import TierOut

LIMITS: Final = {
    "timeout_ms": "the time limit",
    "cpu_ms": "the CPU limit",
    "memory_bytes": "the memory limit",
    "request_bytes_max": "the size of requests",
    "output_bytes_max": "the size of answers",
    "rate_per_s": "the rate limit",
    "concurrency_max": "the limit of calls at once",
    "invocations": "the month's calls",
    "cpu_seconds": "the month's CPU time",
    "gib_seconds": "the month's memory",
}
METERS: Final = {"invocations": "Calls", "cpu-ms": "CPU time", "mib-s": "Memory"}


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    cells: list[str]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows under one heading."""

    heading: str
    rows: list[Row]


def table(tiers: Sequence[TierOut]) -> list[Part]:
    """One cell for each tier, in their order."""

    def row(label: str, cell: Callable[[TierOut], str]) -> Row:
        return Row(label, [cell(tier) for tier in tiers])

    return [
        Part(
            "Each call may use",
            [
                row("CPU time", lambda tier: time(tier.invocation.cpu_ms)),
                row("Time in all", lambda tier: time(tier.invocation.timeout_ms)),
                row("Memory", lambda tier: size(tier.invocation.memory_bytes)),
                row("Temporary files", lambda tier: size(tier.invocation.tmp_bytes)),
                row("Answer", lambda tier: size(tier.invocation.output_bytes_max)),
                row("Processes and threads", lambda tier: f"{tier.invocation.processes_max:,}"),
            ],
        ),
        Part(
            "All calls together",
            [
                row(
                    "Calls a second", lambda tier: f"{tier.admission.rate_per_s:,}, bursts of {tier.admission.burst:,}"
                ),
                row("Calls at once", lambda tier: f"{tier.admission.concurrency_max:,}"),
                row("Guaranteed CPU", _reserved),
                row("Functions", lambda tier: f"{tier.admission.functions_max:,}"),
                row("Logs are kept", lambda tier: f"{tier.admission.log_retention_days} days"),
            ],
        ),
        Part(
            "Included each month",
            [
                row("Calls", lambda tier: count(tier.month.invocations)),
                row("CPU time", lambda tier: hours(tier.month.cpu_seconds)),
                row("Memory", lambda tier: f"{count(tier.month.gib_seconds)} GiB-seconds"),
            ],
        ),
        Part(
            "Beyond that",
            [
                row("A million calls", lambda tier: _more(tier, "million_invocations_minor")),
                row("A thousand CPU-seconds", lambda tier: _more(tier, "thousand_cpu_seconds_minor")),
                row("A million MiB-seconds", lambda tier: _more(tier, "million_mib_seconds_minor")),
            ],
        ),
    ]


def amount(limit: str, value: int) -> str:
    """A limit's value, or what was used of it."""
    if limit.endswith("_ms"):
        return time(value)
    if limit.endswith(("_bytes", "_bytes_max")):
        return size(value)
    if limit == "cpu_seconds":
        return hours(value)
    if limit == "gib_seconds":
        return f"{count(value)} GiB-seconds"
    return f"{count(value)} a second" if limit == "rate_per_s" else count(value)


def used(meter: str, value: int) -> str:
    """Of a meter, in its unit."""
    if not value:
        return "0 GiB-seconds" if meter == "mib-s" else "0"
    if meter == "cpu-ms":
        return hours(value // 1000) if value >= 60_000 else time(value)
    if meter == "mib-s":
        return f"{count(value // 1024)} GiB-seconds" if value >= 10_240 else f"{value:,} MiB-seconds"
    return count(value)


def of_included(meter: str, value: int, included: int) -> str:
    """``44 of 10,000 GiB-seconds``"""
    shown, all_of_it = used(meter, value), used(meter, included)
    unit = all_of_it.partition(" ")[2]
    return f"{shown.removesuffix(' ' + unit) if unit == 'GiB-seconds' else shown} of {all_of_it}"


def share(value: float) -> str:
    """A part of all, in per cent: never 0 for something, never 100 for less than all."""
    percent = value * 100
    if value <= 0:
        return "0 %"
    if percent < 0.01:
        return "under 0.01 %"
    if value < 1 and percent > 99.9:
        return "over 99.9 %"
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def count(value: int) -> str:
    for size_of, word in ((10**9, "billion"), (10**6, "million")):
        if value >= size_of:
            return f"{value / size_of:.3g} {word}"
    return f"{value:,}"


def time(value_ms: int) -> str:
    if value_ms < 1000:
        return f"{value_ms} ms"
    if value_ms < 120_000:
        return f"{value_ms / 1000:.3g} s"
    return f"{value_ms / 60_000:.3g} min"


def hours(value_s: int) -> str:
    if value_s < 60:
        return f"{value_s} s"
    if value_s < 3600:
        return f"{value_s / 60:.3g} min"
    return f"{value_s / 3600:.3g} h" if value_s < 3_600_000 else f"{value_s // 3600:,} h"


def size(value_bytes: int) -> str:
    for size_of, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value_bytes >= size_of:
            return f"{value_bytes / size_of:.3g} {unit}"
    return f"{value_bytes} B"


def _reserved(tier: TierOut) -> str:
    held = tier.reservation
    if held is None:
        return "–"
    return f"{held.runtime_us / held.period_us:.0%} of a CPU".replace("%", " %")


def _more(tier: TierOut, name: str) -> str:
    return "stops" if tier.overage is None else money(getattr(tier.overage, name), tier.currency)


def money_back(kind: str, status: str) -> str:
    """What a refund or a dispute is, from its payer's side."""
    if kind == "refund":
        known = {
            "succeeded": "refunded",
            "pending": "refund on its way",
            "failed": "the refund failed: ask the operator",
        }
        return known.get(status, f"refund, {status.replace('_', ' ')}")
    known = {
        "won": "dispute closed: the charge stands",
        "lost": "dispute closed: the charge was given back",
        "warning_closed": "dispute closed: the charge stands",
    }
    return known.get(status, "disputed at your bank; the operator is asked about it")
