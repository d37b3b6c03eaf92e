"""``tailcut functions``, ``versions``, ``rollback``, ``delete`` and ``alias``."""

import sys
from typing import Annotated, Any

import typer

from tailcut import _models as models
from tailcut._cli import options
from tailcut._cli.console import ago, err, out, print_json, print_table
from tailcut._errors import ProjectError


def functions(server: options.Server = None, key: options.Key = None, json_: options.Json = False) -> None:
    """List the functions."""
    with options.connect(server, key) as client:
        found = list(client.all_functions())
    if json_:
        print_json({"items": [_function_json(entry) for entry in found]})
        return
    rows = [
        (
            entry.name,
            "public" if entry.public else "private",
            ", ".join(f"{alias} → {version}" for alias, version in sorted(entry.aliases.items())),
            entry.url,
            ago(entry.created_at),
        )
        for entry in found
    ]
    print_table(("function", "access", "aliases", "url", "created"), rows, nothing="no functions yet: tailcut deploy")


def versions(
    function: options.FunctionName,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """List the versions of a function, newest first."""
    with options.connect(server, key) as client:
        aliases = client.function(function).aliases
        found = list(client.all_versions(function))
    if json_:
        print_json({"items": [_version_json(entry, aliases) for entry in found]})
        return
    rows = [
        (
            entry.id,
            entry.status,
            ", ".join(_pointing(entry, aliases)),
            entry.style or "",
            entry.state or "",
            entry.sha256[:12],
            ago(entry.created_at),
            f"{entry.error.type}: {entry.error.message}" if entry.error else "",
        )
        for entry in found
    ]
    columns = ("version", "status", "aliases", "style", "state", "sha256", "created", "error")
    print_table(columns, rows, nothing=f"{function} has no versions")


def rollback(
    function: options.FunctionName,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Serve the version before again; `tailcut alias FUNCTION live VERSION` goes to any other."""
    with options.connect(server, key) as client:
        moved = client.rollback(function)
    _print_alias(moved, json_)


def delete(
    function: options.FunctionName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Delete a function with all its versions."""
    if not yes:
        if not sys.stdin.isatty():
            raise ProjectError(f"{function} and all its versions would be deleted", hint="say so with --yes")
        typer.confirm(f"Delete {function} with all its versions?", abort=True, err=True)
    with options.connect(server, key) as client:
        client.delete(function)
    _print_deleted(function, {"function": function}, json_)


def alias(
    function: options.FunctionName,
    alias_name: Annotated[str, typer.Argument(metavar="ALIAS", help="live, or a name of yours.", show_default=False)],
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="As `tailcut versions` lists it.", show_default=False)
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the alias instead.")] = False,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Point an alias at a version: tailcut alias hello canary ver_…"""
    if delete == (version is not None):
        raise ProjectError("an alias is pointed at a version or deleted", hint="give a VERSION, or --delete")
    with options.connect(server, key) as client:
        if version is None:
            client.delete_alias(function, alias_name)
            _print_deleted(f"{function}@{alias_name}", {"function": function, "alias": alias_name}, json_)
        else:
            _print_alias(client.alias(function, alias_name, version), json_)


def _print_deleted(what: str, document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({**document, "deleted": True})
    else:
        err.print(f"{what} is deleted", markup=False)


def _print_alias(moved: models.Alias, as_json: bool) -> None:
    if as_json:
        print_json({"function": moved.function, "alias": moved.name, "version": moved.version})
    else:
        out.print(f"{moved.function}@{moved.name} is {moved.version}", markup=False)


def _function_json(entry: models.Function) -> dict[str, Any]:
    return {
        "name": entry.name,
        "public": entry.public,
        "url": entry.url,
        "aliases": dict(entry.aliases),
        "created_at": entry.created_at and entry.created_at.isoformat(),
    }


def _version_json(entry: models.Version, aliases: Any) -> dict[str, Any]:
    failure = entry.error
    return {
        "version": entry.id,
        "function": entry.function,
        "sha256": entry.sha256,
        "status": entry.status,
        "handler": entry.handler,
        "style": entry.style,
        "state": entry.state,
        "state_reason": entry.state_reason,
        "aliases": _pointing(entry, aliases),
        "bundle_bytes": entry.bundle_bytes,
        "error": failure and {"type": failure.type, "message": failure.message, "traceback": failure.traceback},
        "created_at": entry.created_at and entry.created_at.isoformat(),
    }


def _pointing(entry: models.Version, aliases: Any) -> list[str]:
    return sorted(name for name, version in aliases.items() if version == entry.id)
