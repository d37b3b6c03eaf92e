"""The table "Figures to reach": each figure with what it must and what it should be, and what this run reached.

Called by ``report`` and ``__main__``. Pure. What always holds: a figure that could not be measured says so, and counts
as missed.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.bench.cold import BURST, Baseline, Cold
from tests.bench.crowd import Crowd
from tests.bench.load import Run
from tests.bench.neighbour import TITLES, Neighbour
from tests.bench.openloop import Point
from tests.bench.rewind import Rewind
from tests.bench.soak import Soak

Verdict = Literal["goal", "must", "missed", "not measured", "beside it"]
"""The last: to compare with, nothing was to be reached."""
Key = tuple[str, str, int, int]
"""Peer, workload, connections, functions."""


@dataclass(slots=True)
class Measured:
    """All that a run brought; what was left out is empty."""

    runs: dict[Key, list[Run]] = field(default_factory=dict)
    curves: dict[str, dict[int, list[Point]]] = field(default_factory=dict)
    """Peer → share of its capacity in percent → runs."""
    half_of_fresh: dict[str, list[Point]] = field(default_factory=dict)
    """Tailcut's modes at half of fresh's capacity."""
    baseline: Baseline | None = None
    cold: list[Cold] = field(default_factory=list)
    rewinds: dict[str, Rewind] = field(default_factory=dict)
    crowd: Crowd | None = None
    soak: Soak | None = None
    neighbours: dict[str, Neighbour] = field(default_factory=dict)
    """By place; only those that are a measurement."""
    left_out: dict[str, str] = field(default_factory=dict)
    """What was not measured, and why."""

    def rate(self, peer: str, workload: str = "hello", connections: int = 16, functions: int = 1) -> float | None:
        runs = self.runs.get((peer, workload, connections, functions))
        return statistics.median(run.requests_per_s for run in runs) if runs else None


@dataclass(frozen=True, slots=True)
class Figure:
    title: str
    must: float | None
    goal: float | None
    """None: there is no such bound."""
    at_least: bool
    """Otherwise: at most."""
    of: Callable[[Measured], float | None]
    unit: str = ""

    def verdict(self, measured: Measured) -> tuple[float | None, Verdict]:
        value = self.of(measured)
        if value is None:
            return None, "not measured"
        if self.must is None and self.goal is None:
            return value, "beside it"
        # Distance over the bound, in the direction that is good.
        sign = 1 if self.at_least else -1
        bounds = (("goal", self.goal), ("must", self.must))
        reached = [name for name, bound in bounds if bound is not None and sign * (value - bound) >= 0]
        return value, "goal" if "goal" in reached else "must" if reached else "missed"


def _ratio(above: str, below: str) -> Callable[[Measured], float | None]:
    def of(measured: Measured) -> float | None:
        one, other = measured.rate(above), measured.rate(below)
        return one / other if one is not None and other else None

    return of


def _p99_at_half(measured: Measured) -> float | None:
    points = [measured.half_of_fresh.get(key) for key in ("tailcut-fresh", "tailcut")]
    if not all(points):
        return None
    fresh, warm = (statistics.median(point.p99_us for point in each or ()) for each in points)
    return fresh / warm if warm else None


def _rewind(which: str, what: str) -> Callable[[Measured], float | None]:
    def of(measured: Measured) -> float | None:
        return getattr(measured.rewinds[which], what) if which in measured.rewinds else None

    return of


def _cold(measured: Measured, state: str) -> Cold | None:
    return next((each for each in measured.cold if each.state == state), None)


def _cold_start(state: str, base: str) -> Callable[[Measured], float | None]:
    def of(measured: Measured) -> float | None:
        cold = _cold(measured, state)
        if cold is None or measured.baseline is None:
            return None
        return statistics.median(cold.first_call_ms) / float(getattr(measured.baseline, base))

    return of


def _memory(state: str) -> Callable[[Measured], float | None]:
    def of(measured: Measured) -> float | None:
        cold = _cold(measured, state)
        return statistics.median(cold.private_bytes) / 2**20 if cold is not None and cold.private_bytes else None

    return of


def _burst(state: str) -> Callable[[Measured], float | None]:
    def of(measured: Measured) -> float | None:
        cold, base = _cold(measured, state), measured.baseline
        if cold is None or base is None:
            return None
        return statistics.median(cold.burst_ms) / (BURST * base.fork_ms / base.cpus)

    return of


_NEIGHBOUR_RATIO_MIN = 0.5
"""Half as long beside hogs as alone: something else ran while it was alone, and a low ratio is no merit."""


def _neighbour(place: str) -> Callable[[Measured], float | None]:
    def of(measured: Measured) -> float | None:
        ratio = measured.neighbours[place].ratio if place in measured.neighbours else 0.0
        return ratio if ratio >= _NEIGHBOUR_RATIO_MIN else None

    return of


FIGURES = (
    Figure("warm requests/s ÷ raw uvicorn, 16 connections, hello", 1.5, 2.5, True, _ratio("tailcut", "uvicorn")),
    Figure("fresh requests/s ÷ raw uvicorn, same", 0.95, 1.4, True, _ratio("tailcut-fresh", "uvicorn")),
    Figure("fresh requests/s ÷ FastAPI on uvicorn", 3.5, 6, True, _ratio("tailcut-fresh", "fastapi")),
    Figure("fresh requests/s ÷ functions-framework", 15, 25, True, _ratio("tailcut-fresh", "functions-framework")),
    Figure("fresh p99 ÷ warm p99 at half of fresh's capacity", 2, 1.3, False, _p99_at_half),
    Figure("rewind of the JSON handler", 7, 3, False, _rewind("json", "rewind_us"), "µs"),
    Figure("rewind with numpy and 200 MB of state", 15, 8, False, _rewind("numpy", "rewind_us"), "µs"),
    Figure("hot pages of the JSON handler", 50, 20, False, _rewind("json", "hot_pages")),
    Figure("our warm requests/s ÷ floor", 0.9, 1.3, True, _ratio("tailcut", "floor")),
    Figure("cold start ÷ python3 -c pass (warm)", 0.2, 0.1, False, _cold_start("warm", "python_ms")),
    Figure("cold start ÷ python3 -c pass (fresh)", 0.2, 0.1, False, _cold_start("fresh", "python_ms")),
    Figure("private memory per idle worker (hello, warm)", 3, 1.5, False, _memory("warm"), "MiB"),
    Figure("private memory per idle worker (hello, fresh)", 3, 1.5, False, _memory("fresh"), "MiB"),
    Figure("100 cold functions at once ÷ (100 × fork ÷ CPUs), warm", 8, 3, False, _burst("warm")),
    Figure("100 cold functions at once ÷ (100 × fork ÷ CPUs), fresh", 8, 3, False, _burst("fresh")),
    Figure("reserved tier: noisy p99 ÷ alone", None, 1.5, False, _neighbour("reserved")),
    *(
        Figure(f"  the same, {TITLES[place]}", None, None, False, _neighbour(place))
        for place in ("best-effort", "weights", "gunicorn")
    ),
)


def rows(measured: Measured) -> list[tuple[str, ...]]:
    table: list[tuple[str, ...]] = [("figure", "must", "goal", "this run", "reached")]
    for figure in FIGURES:
        value, verdict = figure.verdict(measured)
        sign, unit = "≥" if figure.at_least else "≤", f" {figure.unit}" if figure.unit else ""
        shown = "–" if value is None else f"{value:.2f}{unit}"
        bounds = ("–" if bound is None else f"{sign} {bound:g}{unit}" for bound in (figure.must, figure.goal))
        table.append((figure.title, *bounds, shown, verdict))
    return table


def document(measured: Measured) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    for figure in FIGURES:
        value, verdict = figure.verdict(measured)
        found.append(
            {"figure": figure.title, "must": figure.must, "goal": figure.goal, "value": value, "reached": verdict}
        )
    return found
