"""``tailcut login``, ``init`` and ``open``: the first minute."""

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tailcut import _profile as profiles
from tailcut._cli import options
from tailcut._cli.console import clean, err, out, print_json
from tailcut._cli.signing_in import make_key
from tailcut._client import Client
from tailcut._errors import ConfigurationError, ProjectError
from tailcut._project import NAME_PATTERN

MAIN_PY = '''\
def hello(name: str = "world") -> dict[str, str]:
    """Greets; the annotations become the function's OpenAPI document and its argument checks."""
    return {"message": f"Hello, {name}!"}
'''
TAILCUT_TOML = """\
# How `tailcut deploy` deploys this folder. Each can be overridden on the command line.
name = "{name}"
handler = "main:hello"
timeout = "3s"
concurrency = 16    # invocations that may run at once per CPU
public = false      # true: callable without a key

# Dependencies go into requirements.txt, or [project].dependencies of a pyproject.toml.
# exclude = ["tests/", "*.md"]

# [env]             # added to os.environ; anybody who can read this file can read it
# GREETING = "Hello"
"""


def login(
    server: options.Server = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="An API key; - reads it from standard input.")
    ] = None,
    email: Annotated[
        str | None, typer.Option("--email", metavar="ADDRESS", help="Sign in as a person; a key is made for you.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="With --email: which of your tenants.")
    ] = None,
    show_key: Annotated[bool, typer.Option("--show-key", help="Print the key in use, for $(…), and exit.")] = False,
    json_: options.Json = False,
) -> None:
    """Keep a key in ~/.config/tailcut/config.toml: one that you have, or one that is made when you sign in.

    With an e-mail address the password (and, if it is on, the second factor's code) is asked for and forgotten; the
    key may deploy, invoke and read, ends after 90 days and is in the dashboard's list of keys.
    """
    if show_key:
        sys.stdout.write(profiles.find(server=server, key=key).key + "\n")
        return
    address = profiles.clean_server(server or _ask("Server", "--server", default="http://127.0.0.1:8000"))
    secret = _from_input() if key == "-" else key or _key_of_person(address, email, tenant)
    with Client(address, secret) as client:
        found = client.tenant()
        gateway_url = client.runtime().gateway_url
    path = profiles.save(profiles.Credentials(address, secret.strip(), "--key", gateway_url, found.name))
    if json_:
        print_json({"server": address, "tenant": found.name, "gateway_url": gateway_url, "profile": str(path)})
    else:
        err.print(Text(clean(f"logged in to {address} as {found.name}; kept in {path}")))


def _key_of_person(address: str, email: str | None, tenant: str | None) -> str:
    option = "--email, or --key (or --key - and standard input)"
    given = email or _ask("E-mail address (or a key)", option)
    if given.startswith("tck_"):
        return given
    return make_key(
        address,
        given.strip(),
        tenant,
        ask_password=lambda: _ask("Password", "--key: passwords are only asked for on a terminal", hidden=True),
        ask_code=lambda: _ask("Code of the authenticator", "--key", hidden=True),
    )


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; else here.")] = Path(),
    json_: options.Json = False,
) -> None:
    """Write a first function: main.py and tailcut.toml."""
    name = folder.resolve().name.lower().replace("_", "-").replace(" ", "-").replace(".", "-")
    files = {"main.py": MAIN_PY, "tailcut.toml": TAILCUT_TOML.format(name=name if _usable(name) else "hello")}
    for file in files:
        if (folder / file).exists():
            raise ProjectError(f"{folder / file} exists and is not overwritten", hint="choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text)
    except OSError as error:
        raise ProjectError(f"cannot write to {folder}: {error.strerror}") from None
    if json_:
        print_json({"folder": str(folder), "files": sorted(files)})
    else:
        err.print(Text(f"wrote {', '.join(str(folder / file) for file in files)}; now: tailcut deploy {folder}"))


def open_(
    function: Annotated[
        str | None, typer.Argument(metavar="FUNCTION", help="Else the dashboard.", show_default=False)
    ] = None,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Open the dashboard, or a function's URL, in the browser."""
    credentials = options.find(server, key)
    url = credentials.dashboard_url or f"{credentials.server}/"
    if function is not None:
        with options.connect_with(credentials) as client:
            url = client.function(function).url
    if json_:
        print_json({"url": url})
        return
    out.print(Text(clean(url)))
    if out.is_terminal:
        webbrowser.open(url)


def _ask(what: str, option: str, *, default: str | None = None, hidden: bool = False) -> str:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"no {what.lower()} was given, and there is no terminal to ask on", hint=f"give {option}"
        )
    answer: str = typer.prompt(what, default=default, hide_input=hidden, err=True)
    return answer


def _from_input() -> str:
    text = sys.stdin.readline().strip()
    if not text:
        raise ConfigurationError("--key - reads the key from standard input, which is empty")
    return text


def _usable(name: str) -> bool:
    return NAME_PATTERN.fullmatch(name) is not None
