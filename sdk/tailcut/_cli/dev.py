"""``tailcut dev``: deploys on every save to an alias of one's own, and shows what the function prints.

The code runs where it will run: on the server, in its jail, under its limits. Callers of ``live`` see nothing of it.
A version that does not start is said, with its traceback, and the one before keeps answering.
"""

import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tailcut import _bundle as bundles
from tailcut import _project as projects
from tailcut._cli import options
from tailcut._cli.console import clean, note, out, print_error, print_json
from tailcut._cli.logs import follow_from, newest_place
from tailcut._cli.progress import Display
from tailcut._errors import TailcutError
from tailcut._profile import Credentials

ALIAS_DEFAULT = "dev"
_LOOK_S = 0.3
_SETTINGS_FILES = ("tailcut.toml", "pyproject.toml", "requirements.txt", "tailcut.lock")

Signature = dict[str, tuple[int, int]]


def dev(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A .py file or a folder.")] = Path(),
    name: Annotated[str | None, typer.Option(help="The function's name; else that of the file or folder.")] = None,
    handler: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="What to call; else it is guessed if only one fits.")
    ] = None,
    alias: Annotated[str, typer.Option(metavar="NAME", help="The alias that is yours.")] = ALIAS_DEFAULT,
    once: Annotated[bool, typer.Option("--once", help="Deploy once and exit.")] = False,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Deploy on every save, to NAME@dev, and show what it prints, until Ctrl-C.

    The same jail and the same limits as in production; callers of the function itself notice nothing.
    """
    credentials = options.find(server, key)
    project = projects.load(path, projects.Settings(name=name, handler=handler))
    with options.connect_with(credentials) as client:
        place = newest_place(client)
    if not once:
        # Its own client: the one that deploys is busy while it deploys.
        thread = threading.Thread(
            target=_follow, args=(credentials, {"function": project.name}, place, json_), daemon=True
        )
        thread.start()
    seen: Signature | None = None
    while True:
        current = _signature(path)
        if current != seen:
            seen = current
            failed = _deploy(credentials, path, name, handler, alias, json_)
            if once:
                raise typer.Exit(failed)
            note(f"watching {path}; Ctrl-C ends")
        time.sleep(_LOOK_S)


def _deploy(
    credentials: Credentials,
    path: Path,
    name: str | None,
    handler: str | None,
    alias: str,
    as_json: bool,
) -> int:
    """→ the exit code; what goes wrong is said and waited out."""
    try:
        with options.connect_with(credentials) as client, Display() as display:
            done = client.deploy(path, name=name, handler=handler, alias=alias, progress=display)
    except TailcutError as error:
        return print_error(error, as_json=as_json)
    if as_json:
        print_json({"function": done.function, "version": done.version, "alias": done.alias, "url": done.url})
    else:
        summary = f"{done.function}@{done.alias} is {done.version} ({done.duration.total_seconds():.1f} s)"
        out.print(Text.assemble((clean(summary), "bold green"), "  ", clean(done.url)))
    return 0


def _follow(credentials: Credentials, filters: dict[str, str], place: str, as_json: bool) -> None:
    with options.connect_with(credentials) as client:
        try:
            follow_from(client, filters, place, as_json)
        except TailcutError as error:
            note(f"the log is not shown any more: {error}")


def _signature(path: Path) -> Signature:
    """What a deploy would take, by size and time of change; a file that goes in between is no error."""
    folder = path if path.is_dir() else path.parent
    watched = [folder / file for file in _SETTINGS_FILES] if path.is_dir() else []
    try:
        watched += [source.path for source in bundles.collect(code=path, packages=None, exclude=())]
    except (OSError, TailcutError):
        watched.append(path)
    found: Signature = {}
    for file in watched:
        try:
            about = file.stat()
        except OSError:
            continue
        found[str(file)] = (about.st_size, about.st_mtime_ns)
    return found
