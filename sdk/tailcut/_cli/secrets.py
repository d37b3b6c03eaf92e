"""``tailcut secrets``: list, set and delete what a function finds in its environment and nobody can read again."""

import sys
from typing import Annotated

import typer

from tailcut._cli import options
from tailcut._cli.console import err, print_json, print_table
from tailcut._errors import ProjectError

app = typer.Typer(help="List, set and delete the secrets of a function.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the environment variable.", show_default=False)]


@app.command("list")
def list_(
    function: options.FunctionName, server: options.Server = None, key: options.Key = None, json_: options.Json = False
) -> None:
    """List the names; values cannot be read."""
    with options.connect(server, key) as client:
        found = client.secrets(function)
    if json_:
        print_json(found)
        return
    rows = [(each["name"], each["updated_at"], each["updated_by"]) for each in found["items"]]
    print_table(("name", "set", "by"), rows, nothing=f"{function} has no secrets")


@app.command("set")
def set_(
    function: options.FunctionName,
    name: Name,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Set or replace one: asks for the value, or reads it from standard input. Running workers are replaced."""
    if sys.stdin.isatty():
        value = str(typer.prompt("Value", hide_input=True, err=True))
    else:
        value = sys.stdin.read().removesuffix("\n")
    if not value:
        raise ProjectError("the value is empty", hint='type it, or pipe it: printf %s "$TOKEN" | tailcut secrets set …')
    with options.connect(server, key) as client:
        done = client.set_secret(function, name, value)
    if json_:
        print_json(done)
    else:
        err.print(f"{name} of {function} is set", markup=False)


@app.command("delete")
def delete(
    function: options.FunctionName,
    name: Name,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Delete one; the function does not find it any more."""
    with options.connect(server, key) as client:
        client.delete_secret(function, name)
    if json_:
        print_json({"function": function, "name": name, "deleted": True})
    else:
        err.print(f"{name} of {function} is deleted", markup=False)
