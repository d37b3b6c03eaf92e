"""The command ``tailcut``: which commands there are, and what its exit codes mean.

Called by the console script. Always holds: results go to standard output, everything else to standard error; a
user's mistake never shows a Python traceback; with ``--json`` a result is one JSON value, and so is an error (the
last line of standard error).

Exit codes:  0 done · 1 the function or the server failed · 2 the call or the project is wrong · 3 no key, or the key
may not · 4 not found · 5 dependencies · 6 the version did not start · 7 refused and not executed: later, or a higher
tier · 8 no answer · 130 Ctrl-C
"""

import sys
from typing import Annotated

import typer

from tailcut import __version__
from tailcut._cli import deploy, dev, invoke, keys, logs, manage, secrets, start, tier, usage
from tailcut._cli.console import print_error
from tailcut._errors import TailcutError

EXIT_CODES = (
    "Exit codes: 0 done; 1 the function or the server failed; 2 the call or the project is wrong; 3 no key, or the key "
    "may not; 4 not found; 5 dependencies; 6 the version did not start; 7 refused and not executed; 8 no answer; "
    "130 Ctrl-C."
)

app = typer.Typer(
    name="tailcut",
    help="Deploy Python functions to a Tailcut gateway and call them.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(start.login)
app.command()(start.init)
app.command()(deploy.deploy)
app.command()(dev.dev)
app.command()(invoke.invoke)
app.command()(logs.logs)
app.command()(manage.functions)
app.command()(manage.versions)
app.command()(manage.rollback)
app.command()(manage.delete)
app.command()(manage.alias)
app.add_typer(keys.app, name="keys")
app.add_typer(secrets.app, name="secrets")
app.add_typer(tier.app, name="tier")
app.command()(usage.usage)
app.command("open")(start.open_)


def main() -> None:
    """Runs the command line; the process ends with one of the exit codes above."""
    try:
        app(prog_name="tailcut")
    except TailcutError as error:
        sys.exit(print_error(error, as_json="--json" in sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"tailcut {__version__}\n")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
