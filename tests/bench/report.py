"""What a run tells: tables for the terminal, JSON for programs, a chart for the README. Pure: results in, text out."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from tests.bench import figures
from tests.bench.figures import Key, Measured
from tests.bench.load import Run
from tests.bench.neighbour import HOGS_COUNT, RATE_PER_S, TITLES
from tests.bench.workloads import WORKLOADS

BASE = "uvicorn"
"""Ratios are to this peer."""


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def table(measured: Measured, names: dict[str, str], workload: str, connections: int, functions: int = 1) -> str:
    """All peers at one workload, the fastest first."""
    rows: list[tuple[str, ...]] = [("", "requests/s", "min", "max", "p50 ms", "p99 ms", f"÷ {BASE}", "errors")]
    base = measured.rate(BASE, workload, connections, functions)
    found = [
        (key[0], runs) for key, runs in measured.runs.items() if key[1:] == (workload, connections, functions) and runs
    ]
    for peer, runs in sorted(found, key=lambda each: -median(each[1])):
        rates = [run.requests_per_s for run in runs]
        speeds = (f"{n:,.0f}" for n in (median(runs), min(rates), max(rates)))
        times = (f"{statistics.median(getattr(run, name) for run in runs) / 1000:.2f}" for name in ("p50_us", "p99_us"))
        relation = f"{median(runs) / base:.2f}" if base else "–"
        rows.append((names.get(peer, peer), *speeds, *times, relation, describe(errors_of(runs))))
    many = f", {functions} functions in turns" if functions > 1 else ""
    return f"{WORKLOADS[workload].title}, {connections} connections{many}\n{aligned(rows)}"


def tables(measured: Measured, names: dict[str, str]) -> str:
    places: dict[tuple[str, int, int], None] = dict.fromkeys(key[1:] for key in measured.runs)
    parts = [table(measured, names, *place) for place in places]
    if measured.curves:
        parts.append(_curves(measured, names))
    if measured.neighbours:
        parts.append(_neighbours(measured))
    parts.append(_others(measured))
    parts.append("Figures to reach\n" + aligned(figures.rows(measured)))
    if measured.left_out:
        parts.append("LEFT OUT:\n" + "\n".join(f"  {what}: {why}" for what, why in measured.left_out.items()))
    return "\n\n".join(part for part in parts if part)


def _curves(measured: Measured, names: dict[str, str]) -> str:
    rows: list[tuple[str, ...]] = [("", "% of capacity", "requests/s", "p50 ms", "p99 ms", "p99.9 ms")]
    for peer, shares in measured.curves.items():
        for share, points in shares.items():
            middle = [statistics.median(getattr(p, n) for p in points) for n in ("p50_us", "p99_us", "p999_us")]
            rate = statistics.median(point.rate_per_s for point in points)
            rows.append((names.get(peer, peer), f"{share}", f"{rate:,.0f}", *(f"{us / 1000:.2f}" for us in middle)))
    return "Latency at a given rate (open loop, random arrivals, counted from when a request was due)\n" + aligned(rows)


def _neighbours(measured: Measured) -> str:
    """Medians of the rounds; and whether the reservation is worth its price."""
    rows: list[tuple[str, ...]] = [
        ("", "alone p50 ms", "p99 ms", "noisy p50 ms", "p99 ms", "p99 of each round", "÷ alone")
    ]
    for place, found in measured.neighbours.items():
        times = [
            f"{statistics.median(getattr(one, name) for one in runs) / 1000:.2f}"
            for runs in (found.alone, found.noisy)
            for name in ("p50_us", "p99_us")
        ]
        each = " ".join(f"{one.p99_us / 1000:.1f}" for one in found.noisy)
        rows.append((TITLES[place], *times, each, f"{found.ratio:.2f}"))
    head = f"5 ms of CPU, {RATE_PER_S} calls/s (open loop), alone and beside {HOGS_COUNT} that burn CPU and memory\n"
    return head + aligned(rows) + _reservation(measured)


def _reservation(measured: Measured) -> str:
    """Against each other place, in words: by the ratio, and by the noisy p99 itself."""
    mine = measured.neighbours.get("reserved")
    if mine is None:
        return ""
    lines = ""
    for place in (place for place in ("best-effort", "weights") if place in measured.neighbours):
        other = measured.neighbours[place]
        word = "beats" if mine.ratio < other.ratio and mine.noisy_p99_us < other.noisy_p99_us else "DOES NOT BEAT"
        lines += (
            f"\nThe reservation {word} {TITLES[place]}: {mine.ratio:.2f} against {other.ratio:.2f},"
            f" noisy p99 {mine.noisy_p99_us / 1000:.2f} against {other.noisy_p99_us / 1000:.2f} ms"
        )
    return lines


def _others(measured: Measured) -> str:
    lines: list[str] = []
    if (base := measured.baseline) is not None:
        lines.append(
            f"python3 -c pass: {base.python_ms:.1f} ms ({base.interpreter_ms:.1f} ms when the interpreter is called"
            f" itself); fork + exit + wait of the zygote: {base.fork_ms:.2f} ms; {base.cpus} CPUs"
        )
    for cold in measured.cold:
        memory = statistics.median(cold.private_bytes) / 2**20 if cold.private_bytes else 0
        first, burst = statistics.median(cold.first_call_ms), statistics.median(cold.burst_ms)
        lines.append(
            f"cold, {cold.state}: first call {first:.1f} ms ({min(cold.first_call_ms):.1f} to"
            f" {max(cold.first_call_ms):.1f}), 100 at once {burst:.0f} ms, {memory:.2f} MiB per idle worker"
        )
    for name, rewind in measured.rewinds.items():
        lines.append(f"rewind, {name}: {rewind.rewind_us:.2f} µs, {rewind.hot_pages:.0f} hot pages")
    if (crowd := measured.crowd) is not None:
        lines.append(
            f"{crowd.deployed} functions deployed in {crowd.deploy_s:.0f} s, {crowd.live} workers live:"
            f" {crowd.run.requests_per_s:,.0f} requests/s, p99 {crowd.run.p99_us / 1000:.2f} ms; private memory:"
            f" gateway {crowd.gateway_bytes / 2**20:.0f} MiB, zygote {crowd.zygote_bytes / 2**20:.0f} MiB,"
            f" a worker {crowd.worker_bytes / 2**20:.2f} MiB"
        )
    if (soak := measured.soak) is not None and soak.samples:
        before, after = soak.third(1)[0], soak.samples[-1]
        lines.append(
            f"soak, {soak.seconds:.0f} s, {soak.requests:,} requests, errors {describe(soak.errors)}: memory"
            f" {before.memory_bytes / 2**20:.1f} → {after.memory_bytes / 2**20:.1f} MiB"
            f" ({'flat' if soak.memory_flat else 'GROWS'}), descriptors {before.descriptors} → {after.descriptors}"
            f" ({'flat' if soak.descriptors_flat else 'GROW'})"
        )
    return "\n".join(lines)


def median(runs: Sequence[Run]) -> float:
    return statistics.median(run.requests_per_s for run in runs)


def errors_of(runs: Sequence[Run]) -> dict[str, int]:
    total: dict[str, int] = {}
    for run in runs:
        for kind, count in run.errors.items():
            total[kind] = total.get(kind, 0) + count
    return total


def describe(errors: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(errors.items())) or "0"


def document(measured: Measured, peers: dict[str, dict[str, str]], facts: dict[str, object]) -> str:
    def spoken(key: Key) -> dict[str, object]:
        return dict(zip(("peer", "workload", "connections", "functions"), key, strict=True))

    runs = [
        {**spoken(key), "median_requests_per_s": round(median(each)), "runs": [asdict(run) for run in each]}
        for key, each in measured.runs.items()
        if each
    ]
    others = {
        "curves": {
            p: {s: [asdict(x) for x in xs] for s, xs in shares.items()} for p, shares in measured.curves.items()
        },
        "half_of_fresh": {p: [asdict(x) for x in xs] for p, xs in measured.half_of_fresh.items()},
        "baseline": asdict(measured.baseline) if measured.baseline else None,
        "cold": [asdict(each) for each in measured.cold],
        "rewinds": {name: asdict(each) for name, each in measured.rewinds.items()},
        "crowd": asdict(measured.crowd) if measured.crowd else None,
        "soak": asdict(measured.soak) if measured.soak else None,
        "neighbours": {
            place: {"p99_noisy_over_alone": round(found.ratio, 3), **asdict(found)}
            for place, found in measured.neighbours.items()
        },
        "left_out": measured.left_out,
    }
    whole = {
        **facts,
        "machine": machine(),
        "figures": figures.document(measured),
        "peers": peers,
        "runs": runs,
        **others,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


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


def chart(measured: Measured, names: dict[str, str], workload: str = "hello", connections: int = 16) -> str:
    """Bars from the median, whiskers from the slowest to the fastest round; readable on light and dark pages."""
    found = {key[0]: runs for key, runs in measured.runs.items() if key[1:] == (workload, connections, 1) and runs}
    ordered = sorted(found.items(), key=lambda each: -median(each[1]))
    # What runs no Python at all would make all other bars short: its bar is cut, its number is not.
    top = max((max(r.requests_per_s for r in runs) for peer, runs in ordered if peer != "nginx"), default=1.0) or 1.0
    left, bar, step, width = 190, 22, 40, 760
    room = width - left - 150
    height = step * len(ordered) + 56
    title = f"Requests per second, {WORKLOADS[workload].title}, {connections} connections, one CPU for the server"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-weight="bold">{escape(title)}</text>',
    ]
    for i, (peer, runs) in enumerate(ordered):
        y = 40 + i * step
        rates = [run.requests_per_s for run in runs]
        low, end, high = (left + room * min(value / top, 1.0) for value in (min(rates), median(runs), max(rates)))
        colour = "#d9480f" if peer.startswith("tailcut") else "#ced4da" if peer in ("floor", "nginx") else "#74a0c8"
        parts += [
            f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(names.get(peer, peer))}</text>',
            f'<rect x="{left}" y="{y}" width="{end - left:.1f}" height="{bar}" fill="{colour}"/>',
            f'<path d="M{low:.1f} {y + 11}H{high:.1f}M{low:.1f} {y + 6}v10M{high:.1f} {y + 6}v10" stroke="#212529"/>',
            f'<text x="{high + 8:.1f}" y="{y + 15}">{median(runs):,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])
