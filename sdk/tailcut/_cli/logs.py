"""``tailcut logs``: what functions printed; with ``-f`` also what they print from now on."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from tailcut import _project as projects
from tailcut._cli import options
from tailcut._cli.console import clean, note, out
from tailcut._client import Client
from tailcut._errors import ConnectionFailed, Overloaded

LINES_DEFAULT = 100
LINES_BEFORE_FOLLOWING = 10
_PAGE = 100
_PAUSE_S = 1.0
_STYLES = {"stderr": "yellow", "runtime": "red", "notice": "red"}

Filters = dict[str, str]


def logs(
    function: Annotated[str | None, typer.Argument(metavar="FUNCTION", help="Else of all.", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is printed from now on.")] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, max=10_000, help="So many of the newest: 100, or 10 with -f.")
    ] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="Of one version.")] = None,
    request: Annotated[str | None, typer.Option(metavar="ID", help="Of one call: its Tailcut-Request-Id.")] = None,
    text: Annotated[str | None, typer.Option("--grep", metavar="TEXT", help="With this text, in any case.")] = None,
    stream: Annotated[str | None, typer.Option(metavar="stdout|stderr|runtime", help="Of one stream.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only of calls that failed.")] = False,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Not older than: 10m, 2h.")] = None,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Show what functions printed, oldest first. With --json: one object a line."""
    wanted = {"function": function, "version": version, "request_id": request, "contains": text, "stream": stream}
    filters = {name: value for name, value in wanted.items() if value is not None}
    if failed:
        filters["failed"] = "true"
    if since is not None:
        filters["since"] = (datetime.now(UTC) - projects.parse_duration(since, "--since")).isoformat()
    with options.connect(server, key) as client:
        default = LINES_BEFORE_FOLLOWING if follow else LINES_DEFAULT
        found, place = _newest(client, filters, default if lines is None else lines)
        for line in found:
            show(line, json_)
        if follow:
            follow_from(client, filters, place, json_)
        elif not found and not json_:
            note("nothing was printed yet, or nothing that fits")


def follow_from(client: Client, filters: Filters, place: str, as_json: bool) -> None:
    """Until Ctrl-C. A server that is away for a moment is waited for."""
    wanted = {name: value for name, value in filters.items() if name not in ("since", "until")}
    while True:
        try:
            news = client.follow_logs(place, wanted)
        except (ConnectionFailed, Overloaded) as error:
            note(f"{error}; trying again")
            time.sleep(_PAUSE_S)
            continue
        place = news["follow"]
        for line in news["items"]:
            show(line, as_json)


def newest_place(client: Client) -> str:
    """Where following begins when only what is new matters."""
    return str(client.logs(limit=1)["follow"])


def _newest(client: Client, filters: Filters, count: int) -> tuple[list[dict[str, Any]], str]:
    """→ the newest lines, oldest first, and where following begins."""
    found: list[dict[str, Any]] = []
    page = client.logs(filters, limit=max(1, min(_PAGE, count)))
    place = str(page["follow"])
    found += page["items"][:count]
    while page["next_cursor"] and len(found) < count:
        page = client.logs(filters, limit=min(_PAGE, count - len(found)), cursor=page["next_cursor"])
        found += page["items"]
    return found[::-1], place


def show(line: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return
    at = datetime.fromisoformat(line["at"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    request = line["request_id"][-6:]
    if not out.is_terminal:
        cells = (line["at"], line["function"], line["request_id"], line["stream"], _one(line))
        sys.stdout.write("\t".join(cells) + "\n")
        sys.stdout.flush()
        return
    style = _STYLES.get(line["stream"], "")
    head = ((f"{at} ", "dim"), (f"{clean(line['function'])} ", "cyan"), (f"{clean(request)} ", "dim"))
    out.print(Text.assemble(*head, (_one(line), style)))


def _one(line: dict[str, Any]) -> str:
    return clean(str(line["text"])).replace("\n", " ")
