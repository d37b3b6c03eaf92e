"""``tailcut keys``: list, create and revoke API keys."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast, get_args

import typer
from rich.text import Text

from tailcut import _models as models
from tailcut._calls import Scope
from tailcut._cli import options
from tailcut._cli.console import ago, err, note, out, print_json, print_table
from tailcut._errors import ProjectError

app = typer.Typer(help="List, create and revoke API keys.", invoke_without_command=True)


@app.callback()
def list_(
    context: typer.Context,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """List the keys; what they are is never shown.

    `used` is the last request that came with a key while it was valid, of functions or of the API, refused ones
    included; to within a minute."""
    if context.invoked_subcommand is not None:
        return
    with options.connect(server, key) as client:
        found = list(client.all_keys())
    if json_:
        print_json({"items": [_as_json(entry) for entry in found]})
        return
    rows = [
        (
            entry.id,
            entry.name or "",
            f"…{entry.last_four}" if entry.last_four else "",
            ", ".join(entry.scopes),
            ago(entry.created_at),
            ago(entry.last_used_at) or "never",
            _end(entry),
        )
        for entry in found
    ]
    print_table(("key", "name", "token", "scopes", "created", "used", "ends"), rows, nothing="no keys")


@app.command()
def create(
    scope: Annotated[
        list[str], typer.Option("--scope", metavar="SCOPE", help="deploy, invoke, read or admin; several times.")
    ],
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires; else never.")] = None,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Create a key; it is shown once."""
    allowed = get_args(Scope)
    for entry in scope:
        if entry not in allowed:
            raise ProjectError(f"--scope is {entry!r}; there are: {', '.join(allowed)}")
    expires = datetime.now(UTC) + timedelta(days=days) if days is not None else None
    with options.connect(server, key) as client:
        created = client.create_key(scopes=cast(tuple[Scope, ...], tuple(scope)), name=name, expires_at=expires)
    if json_:
        print_json({**_as_json(created.key), "token": created.token})
        return
    out.print(Text(created.token))
    note(f"{created.key.id}, {', '.join(created.key.scopes)}. It is not shown again.")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="key_…, as `tailcut keys` lists it.")],
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Revoke a key, at once and everywhere."""
    with options.connect(server, key) as client:
        client.delete_key(key_id)
    if json_:
        print_json({"key": key_id, "revoked": True})
    else:
        err.print(f"{key_id} is revoked", markup=False)


def _end(entry: models.Key) -> str:
    if entry.revoked_at is not None:
        return f"revoked {ago(entry.revoked_at)}"
    return entry.expires_at.isoformat(timespec="minutes") if entry.expires_at else "never"


def _as_json(entry: models.Key) -> dict[str, Any]:
    return {
        "id": entry.id,
        "name": entry.name,
        "last_four": entry.last_four,
        "scopes": list(entry.scopes),
        "created_at": entry.created_at and entry.created_at.isoformat(),
        "expires_at": entry.expires_at and entry.expires_at.isoformat(),
        "revoked_at": entry.revoked_at and entry.revoked_at.isoformat(),
        "last_used_at": entry.last_used_at and entry.last_used_at.isoformat(),
    }
