"""What a run tells: a table for the terminal, JSON for programs, a chart for the README. Pure: results in, text out."""

import json
import os
import platform
import statistics
import sys
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from tests.bench.load import Run

BASE = "uvicorn"
"""Ratios are to this peer."""


@dataclass(frozen=True, slots=True)
class Result:
    """All runs against one peer."""

    key: str
    name: str
    about: str
    version: str
    runs: tuple[Run, ...]

    @property
    def median(self) -> float:
        return statistics.median(run.requests_per_s for run in self.runs)

    @property
    def spread(self) -> tuple[float, float]:
        return min(run.requests_per_s for run in self.runs), max(run.requests_per_s for run in self.runs)

    @property
    def errors(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for run in self.runs:
            for kind, count in run.errors.items():
                total[kind] = total.get(kind, 0) + count
        return total

    def latency_us(self, name: str) -> float:
        return float(statistics.median(getattr(run, name) for run in self.runs))


def ratio(results: list[Result], key: str = "tailcut", base: str = BASE) -> float | None:
    """Median over median; None when one of the two was not measured."""
    medians = {result.key: result.median for result in results}
    return medians[key] / medians[base] if medians.get(base) and key in medians else None


def table(results: list[Result]) -> str:
    rows: list[tuple[str, ...]] = [("", "requests/s", "min", "max", "p50 ms", "p99 ms", f"× {BASE}", "errors")]
    for r in sorted(results, key=lambda r: -r.median):
        relation = ratio(results, r.key)
        shown = f"{relation:.2f}" if relation is not None else "–"
        times = (f"{r.latency_us(name) / 1000:.2f}" for name in ("p50_us", "p99_us"))
        speeds = (f"{n:,.0f}" for n in (r.median, *r.spread))
        rows.append((r.name, *speeds, *times, shown, describe(r.errors)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join(lines)


def describe(errors: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(errors.items())) or "0"


def document(results: list[Result], facts: dict[str, object]) -> str:
    peers = [{**asdict(r), "median_requests_per_s": round(r.median), "ratio": ratio(results, r.key)} for r in results]
    return json.dumps({**facts, "machine": machine(), "peers": peers}, indent=1) + "\n"


def machine() -> dict[str, object]:
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "arch": platform.machine(),
        "implementation": sys.implementation.name,
    }


def chart(results: list[Result]) -> str:
    """Bars from the median, whiskers from the slowest to the fastest round; readable on light and dark pages."""
    ordered = sorted(results, key=lambda r: -r.median)
    left, bar, step, width = 190, 22, 40, 760
    room = width - left - 150
    top = max((r.spread[1] for r in ordered), default=1.0) or 1.0
    height = step * len(ordered) + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="22" font-weight="bold">Requests per second, one CPU for the server, higher is better</text>',
    ]
    for i, r in enumerate(ordered):
        y = 40 + i * step
        low, high = (left + room * value / top for value in r.spread)
        end = left + room * r.median / top
        colour = "#d9480f" if r.key == "tailcut" else "#ced4da" if r.key == "floor" else "#74a0c8"
        parts += [
            f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(r.name)}</text>',
            f'<rect x="{left}" y="{y}" width="{end - left:.1f}" height="{bar}" fill="{colour}"/>',
            f'<path d="M{low:.1f} {y + 11}H{high:.1f}M{low:.1f} {y + 6}v10M{high:.1f} {y + 6}v10" stroke="#212529"/>',
            f'<text x="{high + 8:.1f}" y="{y + 15}">{r.median:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])
