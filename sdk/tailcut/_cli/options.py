"""Options that every command has, and how a command gets its client. Called by every command."""

from typing import Annotated

import typer

from tailcut import _profile as profiles
from tailcut._cli.console import err, note
from tailcut._client import Client

Server = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="The control plane; else TAILCUT_SERVER, else the profile.", show_default=False
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="An API key; else TAILCUT_KEY, else the profile: others on this machine can see arguments.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FunctionName = Annotated[str, typer.Argument(metavar="FUNCTION", help="The function's name.", show_default=False)]


def connect(server: str | None, key: str | None) -> Client:
    """A client with the credentials that ``tailcut._profile`` finds."""
    return connect_with(find(server, key))


def connect_with(credentials: profiles.Credentials) -> Client:
    return Client(credentials.server, credentials.key, gateway_url=credentials.gateway_url, tenant=credentials.tenant)


def find(server: str | None, key: str | None) -> profiles.Credentials:
    """The credentials, and a word about them where it matters."""
    credentials = profiles.find(server=server, key=key)
    if credentials.is_development:
        note(f"using {credentials.origin}: {credentials.server}, tenant {credentials.tenant}")
    if profiles.is_exposed(credentials.server):
        err.print(f"[yellow]warning:[/] {credentials.server} is not https: others on the way can read the key")
    return credentials
