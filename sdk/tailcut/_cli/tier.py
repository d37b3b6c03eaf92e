"""``tailcut tier``: what the tenant has, how the tiers compare, and how to get another one."""

from typing import Annotated, Any

import typer
from rich.text import Text

from tailcut._cli import options
from tailcut._cli.console import err, note, out, print_json, print_table
from tailcut._errors import ProjectError

app = typer.Typer(help="Show, compare and change the tenant's tier.", invoke_without_command=True)

_MIB = 2**20


@app.callback()
def show(
    context: typer.Context, server: options.Server = None, key: options.Key = None, json_: options.Json = False
) -> None:
    """Show the tenant's tier: what it allows and includes."""
    if context.invoked_subcommand is not None:
        return
    with options.connect(server, key) as client:
        held = client.subscription()
    if json_:
        print_json(held)
        return
    rows = [("tier", f"{held['title']}, {held['status']}"), ("price", _price(held)), *_limits(held)]
    rows += [("add-on", f"{entry['quantity']} × {entry['name']}") for entry in held["add_ons"]]
    rows.append(("month", f"{held['period_start'][:10]} to {held['period_end'][:10]}"))
    if held["cancel_at_period_end"]:
        rows.append(("ends", held["period_end"][:10]))
    if held["grace_until"]:
        rows.append(("pay until", held["grace_until"][:10]))
    print_table(("", ""), rows, nothing="")
    if held["simulated"]:
        note("purchases are simulated on this server: no money moves")


@app.command()
def compare(server: options.Server = None, key: options.Key = None, json_: options.Json = False) -> None:
    """Compare the tiers that can be bought."""
    with options.connect(server, key) as client:
        listed = client.tiers()
    if json_:
        print_json(listed)
        return
    tiers = listed["tiers"]
    columns = [dict([("tier", tier["name"]), ("price", _price(tier)), *_limits(tier)]) for tier in tiers]
    names = list(columns[0]) if columns else []
    rows = [(name, *(column[name] for column in columns)) for name in names]
    print_table(("", *("" for _ in tiers)), rows, nothing="nothing is sold here")
    for entry in listed["add_ons"]:
        price = _money(entry["price_minor"], entry["currency"])
        text = f"add-on {entry['name']}: {entry['title']}, {price} a month, with {', '.join(entry['tiers'])}"
        out.print(Text(text))


@app.command()
def change(
    tier: Annotated[str, typer.Argument(metavar="TIER", help="As `tailcut tier compare` names it.")],
    add_on: Annotated[
        list[str] | None, typer.Option("--add-on", metavar="NAME=N", help="So many of an add-on; several times.")
    ] = None,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Buy a tier: prints where to pay. One that is paid for is changed at once, and the difference invoiced."""
    add_ons = dict(_add_on(text) for text in add_on or ())
    with options.connect(server, key) as client:
        offer = client.buy_tier(tier, add_ons)
    if json_:
        print_json(offer)
        return
    if offer["kind"] == "changed":
        err.print(f"changed to {tier}", markup=False)
        return
    out.print(Text(offer["url"]))
    if offer["simulated"]:
        note("a simulated checkout: no card is asked for, no money moves")
    note(f"{tier} holds as soon as it is paid for")


def _add_on(text: str) -> tuple[str, int]:
    name, _, quantity = text.partition("=")
    if not name or not quantity.isdecimal():
        raise ProjectError(f"--add-on is {text!r}; write NAME=N, like concurrency=2")
    return name, int(quantity)


def _limits(held: dict[str, Any]) -> list[tuple[str, str]]:
    invocation, admission, month = held["invocation"], held["admission"], held["month"]
    reserved = held["reservation"]
    return [
        ("timeout", f"{invocation['timeout_ms'] / 1000:g} s"),
        ("CPU", f"{invocation['cpu_ms'] / 1000:g} s"),
        ("memory", f"{invocation['memory_bytes'] // _MIB} MiB"),
        ("rate", f"{admission['rate_per_s']:,}/s"),
        ("at once", f"{admission['concurrency_max']:,}"),
        ("functions", f"{admission['functions_max']:,}"),
        ("calls a month", f"{month['invocations']:,}"),
        ("CPU-seconds", f"{month['cpu_seconds']:,}"),
        ("GiB-seconds", f"{month['gib_seconds']:,}"),
        ("over that", "billed" if held["overage"] else "refused"),
        ("reserved CPU", f"{reserved['runtime_us']} of {reserved['period_us']} µs" if reserved else "none"),
    ]


def _price(held: dict[str, Any]) -> str:
    return f"{_money(held['price_minor'], held['currency'])} a month" if held["price_minor"] else "free"


def _money(minor: int, currency: str) -> str:
    return f"{minor // 100:,}.{minor % 100:02} {currency.upper()}"
