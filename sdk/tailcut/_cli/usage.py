"""``tailcut usage``: what the tenant has used of its quotas, and how its functions did.

On a terminal bars and a table; elsewhere tab-separated lines; with ``--json`` what the server said; with ``--csv`` the
hours that invoices are made of.
"""

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from tailcut._cli import options
from tailcut._cli.console import clean, note, out, print_json, print_table
from tailcut._client import Client
from tailcut._errors import ProjectError

By = Literal["function", "version", "hour", "day"]

BAR_CELLS = 24
_SPANS = {"h": timedelta(hours=1), "d": timedelta(days=1)}
_LAST_DEFAULT = {"hour": "24h", "day": "30d", "function": "24h", "version": "24h"}
_METERS = {
    "invocations": ("invocations", 1, ""),
    "cpu-ms": ("CPU", 1000, " s"),
    "mib-s": ("memory × time", 1024, " GiB·s"),
}
"""Meter → what it is called, the meter's units in one that people know, that unit"""


def usage(
    function: Annotated[
        str | None, typer.Option("--function", "-f", metavar="NAME", help="Only of this function.", show_default=False)
    ] = None,
    by: Annotated[By, typer.Option("--by", help="What the rows are.")] = "function",
    last: Annotated[
        str | None,
        typer.Option("--last", metavar="TIME", help="Like 6h or 7d; else 24h, by day 30d.", show_default=False),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print hours as CSV.")] = False,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Show quotas, and what calls took: tailcut usage --by day --last 7d"""
    if csv and json_:
        raise ProjectError("--csv and --json are two formats", hint="give one of them")
    if by == "version" and function is None and not csv:
        raise ProjectError("--by version needs the function", hint="say which with --function NAME")
    span = last or _LAST_DEFAULT[by]
    until = datetime.now(UTC)
    since = until - _span(span)
    with options.connect(server, key) as client:
        if csv:
            sys.stdout.write(client.usage_csv(since=since, until=until, function=function))
            return
        period = client.usage()
        rows = _rows(client, by, since, until, function)
    if json_:
        print_json({"period": period, "by": by, "since": since.isoformat(), "items": rows})
        return
    _print_period(period)
    _print_rows(rows, by, span, function)


def _rows(client: Client, by: By, since: datetime, until: datetime, function: str | None) -> list[dict[str, Any]]:
    if by == "hour" or by == "day":
        return client.usage_series(step=by, since=since, until=until, function=function)
    return client.usage_groups(by=by, since=since, until=until, function=function)


def _span(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9]\d{0,3})([hd])", text)
    if found is None:
        raise ProjectError(f"--last is {text!r}", hint="write hours or days, like 6h or 7d")
    return int(found[1]) * _SPANS[found[2]]


def _print_period(period: dict[str, Any]) -> None:
    spend = period["spend"]
    lines = [(_METERS[quota["meter"]], quota) for quota in period["quotas"]]
    if not out.is_terminal:
        for (name, factor, unit), quota in lines:
            used, included = quota["used"] / factor, quota["included"] / factor
            sys.stdout.write(f"{name}\t{_short(used)}{unit}\t{_short(included)}{unit}\t{quota['used_percent']:g} %\n")
        sys.stdout.write(f"spent above the included\t{_money(spend['overage_minor'], spend['currency'])}\n")
        return
    out.print(
        Text.assemble(
            (clean(period["title"]), "bold"),
            (f"  from {period['period_start'][:10]}, begins anew {_day(period['period_end'])}", "dim"),
        )
    )
    table = Table(box=None, show_header=False, pad_edge=False)
    for (name, factor, unit), quota in lines:
        share = quota["used_percent"] / 100
        used, included = quota["used"] / factor, quota["included"] / factor
        table.add_row(
            name, _bar(share), Text(f"{quota['used_percent']:g} %", justify="right"),
            f"{_short(used)} of {_short(included)}{unit}", Text(_state(quota, spend["currency"]), style="dim"),
        )  # fmt: skip
    if spend["cap_minor"] is not None:
        share = spend["overage_minor"] / spend["cap_minor"] if spend["cap_minor"] else 1.0
        table.add_row(
            "spend cap", _bar(share), Text(f"{share * 100:.3g} %", justify="right"),
            f"{_money(spend['overage_minor'], spend['currency'])} of {_money(spend['cap_minor'], spend['currency'])}",
            Text("then calls are refused" if spend["cap_action"] == "stop" else "then you are told", style="dim"),
        )  # fmt: skip
    out.print(table)
    out.print()


def _state(quota: dict[str, Any], currency: str) -> str:
    if quota["stops"]:
        return "used up: calls are refused (402)" if quota["remaining"] == 0 else ""
    return f"{_money(quota['overage_minor'], currency)} above" if quota["overage_minor"] else "more is billed"


def _print_rows(rows: list[dict[str, Any]], by: By, span: str, function: str | None) -> None:
    about = f" of {function}" if function else ""
    called = [row for row in rows if row["calls"]]
    if not called:
        note(f"no calls{about} in the last {span}")
        return
    cells = []
    most = max(row["calls"] for row in called)
    is_series = by in ("hour", "day")
    for row in rows if is_series and out.is_terminal else called:
        name = _moment(row["start"], by) if is_series else row["version"] if by == "version" else row["function"]
        share = row["errors"] / row["calls"] if row["calls"] else 0
        numbers = (
            f"{row['calls']:,}",
            f"{share * 100:.2g} %" if row["errors"] else "" if out.is_terminal else "0",
            _duration(row["wall_p50_us"]), _duration(row["wall_p99_us"]), _size(row["memory_p99_bytes"]),
            _duration(row["cpu_us"]),
        )  # fmt: skip
        cells.append(
            (
                name,
                *numbers,
                *(
                    ("█" * max(1, round(row["calls"] / most * BAR_CELLS)) if row["calls"] else "",)
                    if is_series and out.is_terminal
                    else ()
                ),
            )
        )
    columns = (by, "calls", "errors", "p50", "p99", "memory p99", "CPU", *(("",) if is_series else ()))
    if out.is_terminal:
        out.print(Text(f"last {span}{about}", style="dim"))
    print_table(columns, cells, nothing="")


def _bar(share: float) -> Text:
    """Green, yellow near the end, red at it."""
    full = min(BAR_CELLS, round(share * BAR_CELLS)) or (1 if share > 0 else 0)
    colour = "red" if share >= 1 else "yellow" if share >= 0.8 else "green"
    return Text.assemble(("█" * full, colour), ("░" * (BAR_CELLS - full), "dim"))


def _moment(text: str, by: By) -> str:
    at = datetime.fromisoformat(text).astimezone(UTC)
    return f"{at:%Y-%m-%d}" if by == "day" else f"{at:%m-%d %H:%M}"


def _day(text: str) -> str:
    left = datetime.fromisoformat(text) - datetime.now(UTC)
    return f"{text[:10]}, in {left.days} days" if left.days > 1 else f"{text[:10]}, in {left.seconds // 3600} hours"


def _duration(us: int | None) -> str:
    if us is None:
        return "–"
    for length, unit in ((3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1000, "ms")):
        if us >= length:
            return f"{us / length:.3g} {unit}"
    return f"{us} µs"


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "–"
    for length, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= length:
            return f"{size_bytes / length:.3g} {unit}"
    return f"{size_bytes} B"


def _short(count: float) -> str:
    for length, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if count >= length:
            return f"{count / length:.3g}{unit}"
    return f"{count:.3g}"


def _money(minor: int, currency: str) -> str:
    return f"{minor // 100:,}.{minor % 100:02} {currency.upper()}"
