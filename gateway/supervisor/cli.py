"""The command ``tailcut-server``: up, down, status, reload, and each part alone for people who run them elsewhere.

Exit codes: 0 done · 1 something else · 2 wrong usage · 3 a port is taken · 4 already running · 5 a feature of the
kernel is missing · 6 a part does not start · 7 not running.
"""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer
from pydantic import ValidationError
from rich.table import Table

from gateway.settings import SupervisorSettings, environment
from gateway.supervisor import welcome
from gateway.supervisor.console import Screen
from gateway.supervisor.instance import read_status, running_pid
from gateway.supervisor.problems import EXIT_CHILD_FAILED, CannotStart
from gateway.supervisor.tree import Tree, prepare_folder

EXIT_NOT_RUNNING = 7
_POLL_S = 0.05
_STOP_TIMEOUT_S = 120.0

app = typer.Typer(
    name="tailcut-server",
    help="Tailcut on one machine: `up` starts everything, `status` shows it, `down` stops it.",
    epilog="docs/RUNBOOK.md says what to do when. Exit codes: 0 done; 1 something else; 2 wrong usage; 3 a port is "
    "taken; 4 already running; 5 a feature of the kernel is missing; 6 a part does not start; 7 not running.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where everything is kept (default: var).")]


@app.command()
def up(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    gateway_port: Annotated[int | None, typer.Option(help="Functions are called here (default: 8080; 0: any).")] = None,
    control_plane_port: Annotated[int | None, typer.Option(help="API and dashboard (default: 8000; 0: any).")] = None,
    admin_port: Annotated[int | None, typer.Option(help="Metrics and health (default: 9090; 0: any).")] = None,
    cpus: Annotated[str | None, typer.Option(help="CPUs of the data plane, like 0,2-3 (default: all).")] = None,
    reserved_cpus: Annotated[
        str | None, typer.Option(help="Of these, CPUs that tenants may reserve time of (default: none).")
    ] = None,
    example: Annotated[bool, typer.Option(help="Deploy and call examples/hello.")] = True,
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything is up.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show every line of every part.")] = False,
) -> None:
    """Start everything on this machine and wait for Ctrl-C."""
    options = {
        "data_dir": data_dir,
        "host": host,
        "gateway_port": gateway_port,
        "control_plane_port": control_plane_port,
        "admin_port": admin_port,
        "cpus": cpus,
        "reserved_cpus": reserved_cpus,
    }
    settings = _settings(**{name: value for name, value in options.items() if value is not None})
    # The children inherit it: databases, logs and sockets hold what other users of the machine must not read.
    os.umask(0o077)
    if detach:
        _up_detached(settings)
        return
    screen = Screen(verbose=verbose)
    try:
        tree = Tree(settings, screen)
        asyncio.run(tree.run(lambda tree: _when_up(tree, screen, example=example)))
    except CannotStart as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"cannot start: {error.filename or 'a system call'}: {error.strerror}", EXIT_CHILD_FAILED)


@app.command()
def down(data_dir: DataDir = None) -> None:
    """Stop what runs; returns when it has stopped."""
    folder = _data_dir(data_dir)
    pid = running_pid(folder)
    if pid is None:
        print(f"Tailcut does not run on {folder}")
        return
    if pid == 0 or not _signal(pid, signal.SIGTERM):
        _fail(f"Tailcut holds {folder}, but its pid is not known yet: try again in a moment", EXIT_NOT_RUNNING)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while running_pid(folder) is not None:
        if time.monotonic() > deadline:
            _fail(
                f"pid {pid} has not stopped within {_STOP_TIMEOUT_S:g} s; `kill -9 {pid}` ends it and its children", 1
            )
        time.sleep(_POLL_S)
    print("stopped")


@app.command()
def status(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what runs (exit code 7: nothing)."""
    folder = _data_dir(data_dir)
    running = running_pid(folder) is not None
    found: dict[str, Any] = (read_status(folder) or {"state": "starting"}) if running else {"state": "stopped"}
    if running and "admin_url" in found:
        found |= _readiness(found["admin_url"])
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print_status(folder, found)
    if not running:
        raise typer.Exit(EXIT_NOT_RUNNING)


@app.command()
def reload(data_dir: DataDir = None) -> None:
    """Replace the gateway without losing a request.

    A new one starts beside the old one, which drains once the new one is ready.
    """
    folder = _data_dir(data_dir)
    pid = running_pid(folder)
    if not pid or not _signal(pid, signal.SIGHUP):
        _fail(f"Tailcut does not run on {folder}", EXIT_NOT_RUNNING)


@app.command("sign-in")
def sign_in(
    data_dir: DataDir = None,
    email: Annotated[str, typer.Option(help="Whom to sign in; somebody new becomes an owner.")] = welcome.PERSON,
    tenant: Annotated[str, typer.Option(help="The tenant to show.")] = welcome.TENANT,
) -> None:
    """Print a link that opens the dashboard signed in, once, within the hour.

    It is made in the operator's name: whoever reads the data folder may do anything anyway.
    """
    folder = _data_dir(data_dir)
    found = read_status(folder) if running_pid(folder) is not None else None
    if found is None or "dashboard_url" not in found:
        _fail(f"Tailcut does not run on {folder}", EXIT_NOT_RUNNING)
    try:
        print(welcome.sign_in_link(found["dashboard_url"].rstrip("/"), folder, tenant, email))
    except CannotStart as problem:
        _fail(str(problem), 1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def operator(context: typer.Context, data_dir: DataDir = None) -> None:
    """Who may open /admin: add EMAIL, remove EMAIL, list [--json].

    They are people who sign in like others, with a second factor. The database is the one of the server on the data
    folder, else that of DATABASE_URL; the server need not run.
    """
    _become("control_plane", "operator", *context.args, **_database_of(_data_dir(data_dir)))


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show what this machine gives the jail and how to get the rest (exit code 5: a part is missing)."""
    _become("gateway.doctor", *(["--json"] if as_json else []))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def migrate(context: typer.Context) -> None:
    """Bring the database to this version's schema.

    The one of DATABASE_URL, else control-plane.db in TAILCUT_DATA_DIR (default: var).
    """
    _become("control_plane", "migrate", *context.args, **_database_of(_data_dir(None)))


@app.command("stripe-sync")
def stripe_sync() -> None:
    """Make products, prices and meters in Stripe from the tier catalogue.

    Repeating it makes nothing twice. STRIPE_API_KEY and DATABASE_URL (else TAILCUT_DATA_DIR) say where.
    """
    _become("control_plane", "stripe-sync", **_database_of(_data_dir(None)))


@app.command("stripe-reconcile", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def stripe_reconcile(context: typer.Context) -> None:
    """Compare tiers, invoices and usage with Stripe's, and name every difference (exit code 3).

    --json prints them as JSON, --repair copies Stripe's state where it differs.
    """
    _become("control_plane", "stripe-reconcile", *context.args, **_database_of(_data_dir(None)))


@app.command("stripe-replay", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def stripe_replay(context: typer.Context) -> None:
    """Handle webhooks once more: those that failed, or the ones whose ids are given."""
    _become("control_plane", "stripe-replay", *context.args, **_database_of(_data_dir(None)))


@app.command("usage-dead-letters", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def usage_dead_letters(context: typer.Context) -> None:
    """Usage records that could not be booked: list, retry, or drop them.

    `list --json` prints them whole, `retry` books those that can be booked now, `drop STREAM SEGMENT OFFSET` or
    `drop --all` deletes them for good. DATABASE_URL says where.
    """
    _become("control_plane", "usage-dead-letters", *context.args)


@app.command("control-plane", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def control_plane(context: typer.Context) -> None:
    """Run the control plane alone.

    control_plane/settings.py lists the environment variables that set it.
    """
    _become("control_plane", "serve", *context.args)


@app.command()
def gateway() -> None:
    """Run one gateway alone, for other supervisors.

    Its sockets are inherited (TAILCUT_LISTEN_FDS); gateway/settings.py lists the variables that set it.
    """
    _become("gateway.host")


@app.command()
def zygote() -> None:
    """Run one zygote alone, for other supervisors.

    Its socket is inherited (TAILCUT_ZYGOTE_FD).
    """
    _become("gateway.zygote")


def main() -> None:
    app()


async def _when_up(tree: Tree, screen: Screen, *, example: bool) -> None:
    credentials = await welcome.ensure_credentials(tree)
    screen.say("Tailcut is up")
    if credentials is None:
        screen.say(
            f"  the tenant {welcome.TENANT} has no valid key in {tree.places.data_dir / 'dev-credentials.json'}: the "
            "example is not called. Keys are shown once; put the file back to use that tenant",
            "yellow",
        )
    elif example and await welcome.ensure_example(tree, credentials):
        call = await welcome.call_example(tree.places, credentials)
        screen.say(f"  $ {call.curl}")
        screen.say(f"  {call.answer}", "green" if call.status == 200 else "red")
        if call.status != 200:
            raise CannotStart(f"the example answered {call.status}: see {tree.places.log_dir}", 6)
    screen.say(f"  functions   {tree.places.gateway_url}/{welcome.TENANT}/…")
    screen.say(f"  dashboard   {await _dashboard(tree, has_tenant=credentials is not None)}")
    if tree.stripe is not None:
        screen.say("  purchases   simulated: no card, no money (STRIPE_API_KEY is not set)")
    if credentials is not None:
        screen.say(f"  key         {tree.places.data_dir / 'dev-credentials.json'}")
    screen.say(f"  logs        {tree.places.log_dir}")
    screen.say(f"  metrics     {tree.places.admin_url}/-/metrics")
    screen.say(f"  stop        {_how_to_stop(tree.places.data_dir)}")
    tree.mark_up()


async def _dashboard(tree: Tree, *, has_tenant: bool) -> str:
    """On a terminal a link that signs in; a log shall not hold one."""
    places = tree.places
    if has_tenant and sys.stderr.isatty():
        arguments = (places.control_plane_url, places.data_dir, welcome.TENANT, welcome.PERSON)
        link = await asyncio.to_thread(welcome.sign_in_link, *arguments, tree.settings.operator_token)
        return f"{link} (signs you in, once)"
    return f"{places.control_plane_url}/ (`{_command('sign-in', places.data_dir)}` prints a link that signs you in)"


def _command(name: str, data_dir: Path) -> str:
    where = "" if data_dir == Path("var").resolve() else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"tailcut-server {name}{where}"


def _how_to_stop(data_dir: Path) -> str:
    return f"{'Ctrl-C, or ' if sys.stderr.isatty() else ''}`{_command('down', data_dir)}`"


def _up_detached(settings: SupervisorSettings) -> None:
    """Starts a supervisor in a session of its own and waits until it is up."""
    folder = settings.data_dir
    log_path = folder / "log" / "supervisor.log"
    try:
        prepare_folder(folder)
        log_file = log_path.open("wb")
    except CannotStart as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"{log_path} cannot be written: {error.strerror}", 1)
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    with log_file as log:
        handle = subprocess.Popen(
            [sys.executable, "-P", "-m", "gateway.supervisor", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment(),
        )
    deadline = time.monotonic() + settings.start_timeout.total_seconds() + 60
    while time.monotonic() < deadline:
        code = handle.poll()
        if code is not None:
            sys.stderr.write(log_path.read_text(errors="replace"))
            raise typer.Exit(code or 1)
        found = read_status(folder)
        if found is not None and found.get("pid") == handle.pid and found.get("state") == "up":
            sys.stderr.write(log_path.read_text(errors="replace"))
            return
        time.sleep(_POLL_S)
    _fail(f"not up in time; pid {handle.pid} goes on trying, see {log_path}", 6)


def _settings(**options: Any) -> SupervisorSettings:
    try:
        return SupervisorSettings(**options)
    except ValidationError as error:
        for problem in error.errors():
            name = str(problem["loc"][0]) if problem["loc"] else "settings"
            if name.islower():
                name = f"--{name.replace('_', '-')} (or TAILCUT_{name.upper()})"
            reason = problem["msg"].removeprefix("Value error, ")
            print(f"tailcut-server: {name} is {problem['input']!r}: {reason}", file=sys.stderr)
        raise typer.Exit(2) from None


def _data_dir(option: Path | None) -> Path:
    return option if option is not None else _settings().data_dir


def _database_of(folder: Path) -> dict[str, str]:
    """What makes the control plane's commands work on what `up` on that folder keeps, whether or not it runs now."""
    folder = folder.resolve()
    found = (read_status(folder) if running_pid(folder) is not None else None) or {}
    database_url = _settings().database_url or f"sqlite+aiosqlite:///{folder / 'control-plane.db'}"
    where = {"TAILCUT_DATA_DIR": str(folder), "DATABASE_URL": database_url}
    return where | ({"TAILCUT_CONTROL_PLANE_URL": found["control_plane_url"]} if "control_plane_url" in found else {})


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        _fail(f"pid {pid} belongs to another user", 1)
    return True


def _readiness(admin_url: str) -> dict[str, Any]:
    """Whether the gateway serves, and how long ago its table was confirmed, as far as it says so."""
    try:
        answer = httpx.get(f"{admin_url}/-/readyz", timeout=2.0, trust_env=False)
        said = answer.json()
    except (httpx.HTTPError, ValueError):
        return {"gateway_ready": False}
    ages = {name: said[name] for name in ("table_age_s", "table_max_age_s", "table_expired") if name in said}
    return {"gateway_ready": answer.is_success} | ages


def _print_status(folder: Path, found: dict[str, Any]) -> None:
    screen = Screen(verbose=False)
    if "children" not in found:
        screen.out.print(
            f"{found['state']}: nothing runs on {folder}" if found["state"] == "stopped" else found["state"]
        )
        return
    screen.out.print(f"{found['state']} (pid {found['pid']}), gateway ready: {found.get('gateway_ready', False)}")
    table = Table("part", "pid", "restarts", box=None)
    for name, child in found["children"].items():
        table.add_row(name, str(child["pid"]), str(child["restarts"]))
    screen.out.print(table)
    if "table_age_s" in found:
        end = f"{found['table_max_age_s']:g} s" if found["table_max_age_s"] else "without end"
        state = ": CALLS ARE REFUSED" if found["table_expired"] else ""
        screen.out.print(f"table confirmed {found['table_age_s']:g} s ago (TAILCUT_TABLE_MAX_AGE: {end}){state}")
    for name in ("gateway_url", "dashboard_url", "admin_url", "log_dir"):
        screen.out.print(f"{name.replace('_', ' ')}: {found[name]}")


def _become(module: str, *arguments: str, **variables: str) -> NoReturn:
    command = [sys.executable, "-P", "-m", module, *arguments]
    os.execve(sys.executable, command, environment() | variables)  # noqa: S606


def _fail(text: str, exit_code: int) -> NoReturn:
    print(f"tailcut-server: {text}", file=sys.stderr)
    raise typer.Exit(exit_code)
