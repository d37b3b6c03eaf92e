"""Charts as pictures that a person reads at a glance: SVG made here, without a script, for light and dark.

Called by pages (usage, overview). A drawing stretches to its place while its texts keep their size: labels are HTML
beside it, or SVG text at a share of the width. What always holds: no ``style`` attribute (the policy forbids them),
colours only by classes of ``tailcut.css``, everything given is escaped, and behind each chart is a table that says the
same, for those who do not see it or want the numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from markupsafe import Markup, escape

from control_plane.dashboard.figures import COUNT, Unit, percent

Tone = Literal["main", "bad", "soft", "warn", "cut"]
Step = Literal["minute", "hour", "day"]

_HEIGHT: Final = 100.0
_TICKS: Final = 4
"""Lines of the grid above zero, about."""
_LABELS_MAX: Final = 6
_FILL, _FILL_DENSE, _DENSE_COUNT = 0.72, 1.0, 60
"""Of a column's place, the part that is drawn: where they are many, gaps would only flicker."""
_LENGTHS: Final = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
WARN_SHARE: Final = 0.8
_SPREAD_MAX: Final = 40
"""Largest by smallest value of lines; above that one of them would lie on the ground, and the scale is logarithmic."""
_DECADES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Series:
    """``values``: one for each start; None: nothing is known, a gap."""

    name: str
    values: Sequence[float | None]
    tone: Tone = "main"


@dataclass(frozen=True, slots=True)
class _Scale:
    """``ticks``: at even distances, the lowest first."""

    ticks: Sequence[float]
    is_logarithmic: bool = False

    def y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        if self.is_logarithmic:
            return _HEIGHT * (1 - math.log(max(value, low) / low) / math.log(high / low))
        return _HEIGHT * (1 - (value - low) / (high - low))


def columns(
    title: str, starts: Sequence[datetime], series: Sequence[Series], *, step: Step, unit: Unit = COUNT
) -> Markup:
    """Stacked, the first series at the bottom."""
    heights = [sum(each.values[at] or 0 for each in series) for at in range(len(starts))]
    scale = _Scale(_ticks(max(heights, default=0), unit))
    fill = _FILL if len(starts) <= _DENSE_COUNT else _FILL_DENSE
    parts = []
    for at in range(len(starts)):
        base = 0.0
        for each in series:
            value = each.values[at] or 0
            if value <= 0:
                continue
            height = max(_HEIGHT - scale.y(value), 1.2)  # what is there is seen
            y = _HEIGHT - base - height
            x = at + (1 - fill) / 2
            parts.append(
                f'<rect class="tone-{each.tone}" x="{x:.2f}" y="{y:.2f}" width="{fill}" height="{height:.2f}"/>'
            )
            base += height
    return _figure(title, starts, series, step, unit, scale, "".join(parts))


def lines(
    title: str, starts: Sequence[datetime], series: Sequence[Series], *, step: Step, unit: Unit = COUNT
) -> Markup:
    """Where a value is None the line breaks; one between two gaps is a short dash."""
    known = [value for each in series for value in each.values if value is not None]
    positive = [value for value in known if value > 0]
    if len(series) > 1 and positive and max(positive) > min(positive) * _SPREAD_MAX:
        scale = _Scale(_decades(min(positive), max(positive)), is_logarithmic=True)
    else:
        scale = _Scale(_ticks(max(known, default=0), unit))
    parts = []
    for each in series:
        for run in _runs(each.values):
            points = [(at + 0.5, scale.y(value)) for at, value in run]
            if len(points) == 1:
                x, y = points[0]
                points = [(x - _FILL / 2, y), (x + _FILL / 2, y)]
            text = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
            if each.tone == "main":
                area = f"{points[0][0]:.2f},{_HEIGHT} {text} {points[-1][0]:.2f},{_HEIGHT}"
                parts.append(f'<polygon class="area tone-{each.tone}" points="{area}"/>')
            parts.append(f'<polyline class="line tone-{each.tone}" points="{text}"/>')
    return _figure(title, starts, series, step, unit, scale, "".join(parts))


def bar(label: str, share: float, *, tone: str = "") -> Markup:
    """How full something is. The tone says it by itself: fine, near the end, at the end."""
    tone = tone or ("bad" if share >= 1 else "warn" if share >= WARN_SHARE else "main")
    width = min(100.0, max(share * 100, 0.8 if share > 0 else 0))
    return Markup(
        '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label="{}: {}">'
        '<rect class="bar-ground" width="100" height="4"/><rect class="tone-{}" width="{:.2f}" height="4"/></svg>'
    ).format(label, percent(share), tone, width)


def spark(label: str, values: Sequence[float]) -> Markup:
    """A small one for a row of a table; the row says the numbers."""
    top = max(values, default=0) or 1
    rects = "".join(
        f'<rect class="tone-main" x="{at + 0.1:.1f}" y="{24 - height:.2f}" width="0.8" height="{height:.2f}"/>'
        for at, value in enumerate(values)
        if (height := max(value / top * 24, 1.5) if value > 0 else 0)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} 24" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(max(len(values), 1), label, Markup(rects))  # noqa: S704 - numbers only


def _figure(
    title: str,
    starts: Sequence[datetime],
    series: Sequence[Series],
    step: Step,
    unit: Unit,
    scale: _Scale,
    drawing: str,
) -> Markup:
    count = max(len(starts), 1)
    grid = "".join(
        f'<line class="grid" x1="0" x2="{count}" y1="{(y := scale.y(tick)):.2f}" y2="{y:.2f}"/>' for tick in scale.ticks
    )
    hits = Markup("").join(
        Markup('<rect class="hit" x="{}" y="0" width="1" height="{}"><title>{}\n{}</title></rect>').format(
            at, _HEIGHT, _when(start, step), "\n".join(_said(each, at, unit) for each in series)
        )
        for at, start in enumerate(starts)
    )
    legend = Markup("").join(
        Markup('<li><svg class="swatch" viewBox="0 0 1 1" aria-hidden="true"><rect class="tone-{}" width="1" '
               'height="1"/></svg>{}</li>').format(each.tone, each.name)
        for each in series
    )  # fmt: skip
    write = unit.decade if scale.is_logarithmic and unit.decade else unit.write
    y_labels = Markup("").join(Markup("<span>{}</span>").format(write(tick)) for tick in reversed(scale.ticks))
    return Markup(
        '<figure class="chart"><figcaption><span class="chart-title">{title}{scale}</span>'
        '<ul class="legend">{legend}</ul></figcaption>'
        '<div class="plot"><div class="plot-y" aria-hidden="true">{y_labels}</div>'
        '<svg class="plot-area" viewBox="0 0 {count} {height}" preserveAspectRatio="none" role="img" '
        'aria-label="{summary}">{grid}{drawing}{hits}</svg>'
        '<svg class="plot-x" aria-hidden="true">{x_labels}</svg></div>{table}</figure>'
    ).format(
        title=title,
        scale=Markup(' <small title="Each line of the grid is ten times the one below">log scale</small>')
        if scale.is_logarithmic
        else "",
        legend=legend,
        y_labels=y_labels,
        count=count,
        height=_HEIGHT,
        summary=_summary(title, starts, series, step, unit),
        grid=Markup(grid),  # noqa: S704 - numbers only
        drawing=Markup(drawing),  # noqa: S704 - numbers and our own class names
        hits=hits,
        x_labels=_x_labels(starts, step),
        table=_table(title, starts, series, step, unit),
    )


def _ticks(highest: float, unit: Unit) -> list[float]:
    """From 0 to a round number that holds the highest value."""
    if highest <= 0:
        return [0.0, 1.0]
    highest = max(highest, unit.least)
    raw = highest / _TICKS
    if unit.base == 2:
        # Round in the unit that it will be written in: 1, 2, 4, … of KiB, MiB, GiB.
        step = 2.0 ** math.ceil(math.log2(raw))
    else:
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
        if unit.rounds and unit.rounds[0] < raw <= unit.rounds[-1]:
            step = next(each for each in unit.rounds if each >= raw)
    if unit.whole:
        step = max(1.0, math.ceil(step))
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


def _decades(lowest: float, highest: float) -> list[float]:
    """Powers of ten around both, at even distances, not too many."""
    low, high = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    by = -(-(high - low) // _DECADES_MAX)
    return [10.0**power for power in range(low, high + by, by)]


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The stretches without a gap, with their places."""
    runs: list[list[tuple[int, float]]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((at, value))
    return [run for run in runs if run]


def _x_labels(starts: Sequence[datetime], step: Step) -> Markup:
    """Every so many, at the middle of their column; none so near an end that it would be cut off. Narrow screens leave
    out every other one."""
    count, spare = len(starts), ' class="spare"'
    texts: list[str] = []
    every = _every(count, step)
    for at, start in enumerate(starts):
        if _number(start, step) % every:
            continue
        place = (at + 0.5) / count
        anchor = "start" if place < 0.04 else "end" if place > 0.96 else "middle"
        x = 0 if anchor == "start" else 100 if anchor == "end" else place * 100
        texts.append(
            f'<text x="{x:.2f}%" y="14" text-anchor="{anchor}"{spare if len(texts) % 2 else ""}>'
            f"{escape(_short_when(start, step, count))}</text>"
        )
    return Markup("".join(texts))  # noqa: S704 - escaped above


def _every(count: int, step: Step) -> int:
    if step == "day":
        return max(1, -(-count // _LABELS_MAX))
    rounds = (1, 5, 10, 15, 30, 60, 120) if step == "minute" else (1, 2, 3, 4, 6, 12, 24, 48, 72, 120, 168)
    return next((each for each in rounds if count / each <= _LABELS_MAX), rounds[-1])


def _number(start: datetime, step: Step) -> int:
    """Of the step since the epoch: labels stay at round times when the chart moves on."""
    return int((start - datetime(1970, 1, 1, tzinfo=UTC)) / _LENGTHS[step])


def _short_when(start: datetime, step: Step, count: int) -> str:
    if step == "day" or (step == "hour" and count > 48):
        return f"{start.day} {start:%b}"
    return f"{start:%H:%M}"


def _when(start: datetime, step: Step) -> str:
    return f"{start:%Y-%m-%d}" if step == "day" else f"{start:%Y-%m-%d %H:%M} UTC"


def _said(series: Series, at: int, unit: Unit) -> str:
    value = series.values[at]
    return f"{series.name}: {'–' if value is None else unit.write(value)}"


def _summary(title: str, starts: Sequence[datetime], series: Sequence[Series], step: Step, unit: Unit) -> str:
    """What the picture says, in a sentence."""
    said = []
    for each in series:
        known = [(value, at) for at, value in enumerate(each.values) if value is not None]
        if known and max(known)[0] > 0:
            value, at = max(known)
            said.append(f"{each.name} at most {unit.write(value)}, {_when(starts[at], step)}")
        else:
            said.append(f"{each.name}: none")
    return f"{title}. {'; '.join(said)}. The numbers are in the table below."


def _table(title: str, starts: Sequence[datetime], series: Sequence[Series], step: Step, unit: Unit) -> Markup:
    """Newest first; starts at which nothing was are left out."""
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(each.name) for each in series)
    rows = Markup("").join(
        Markup('<tr><td data-label="From">{}</td>{}</tr>').format(
            _when(start, step),
            Markup("").join(
                Markup('<td class="number" data-label="{}">{}</td>').format(
                    each.name, _said(each, at, unit)[len(each.name) + 2 :]
                )
                for each in series
            ),
        )
        for at, start in reversed(list(enumerate(starts)))
        if any(each.values[at] for each in series)
    )
    if not rows:
        return Markup("")
    return Markup(
        '<details class="chart-data"><summary>The numbers<span class="unseen"> of {}</span></summary>'
        '<div class="table-wrap"><table><thead><tr><th scope="col">From</th>{}</tr></thead><tbody>{}</tbody></table>'
        "</div></details>"
    ).format(title, head, rows)
