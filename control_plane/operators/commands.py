"""``operator add | remove | list``: who may open /admin. Called by ``__main__``.

They work on SQL directly, whether or not a server runs: whoever can read the database's password may do anything
anyway. The log names the machine's user who did it.
"""

import argparse
import asyncio
import json
import os
import platform
import pwd
import sys
from typing import Any

from pydantic import TypeAdapter, ValidationError

from control_plane.auth.principal import OPERATOR, Actor
from control_plane.database import Database
from control_plane.operators import repository, service
from control_plane.operators.schemas import OperatorOut
from control_plane.people.schemas import Email
from control_plane.problems import Problem
from control_plane.settings import Settings

NAME = "operator"
_email: TypeAdapter[str] = TypeAdapter(Email)


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = "who may open /admin: add EMAIL, remove EMAIL, list"
    verbs = commands.add_parser(NAME, help=about).add_subparsers(dest="verb", required=True)
    for verb, text in (("add", "make somebody an operator"), ("remove", "take it away, and end their sessions")):
        verbs.add_parser(verb, help=text).add_argument("email")
    verbs.add_parser("list", help="who they are").add_argument("--json", action="store_true")


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    try:
        return asyncio.run(_run(settings, arguments))
    except Problem as problem:
        print(f"operator: {problem.detail}", file=sys.stderr)
    except ValidationError:
        print(f"operator: {arguments.email!r} is no e-mail address", file=sys.stderr)
    return 1


async def _run(settings: Settings, arguments: argparse.Namespace) -> int:
    database = Database(settings.effective_database_url)
    try:
        match arguments.verb:
            case "list":
                async with database.reading() as session:
                    _show([OperatorOut.of(each) for each in await repository.list_operators(session)], arguments)
            case "add":
                email = _email.validate_python(arguments.email)
                async with database.writing() as session:
                    person = await service.add_operator(session, _machine(), email)
                print(f"{email} is an operator: {settings.public_url}/admin")
                if person.password_hash is None:
                    print(f"There is no password yet: {settings.public_url}/reset sends a link that sets one.")
                if person.totp_confirmed_at is None and settings.operator_second_factor:
                    print("A second factor is needed, too: /security, once signed in.")
            case _:
                email = _email.validate_python(arguments.email)
                async with database.writing() as session:
                    await service.remove_operator(session, _machine(), email)
                print(f"{email} is no operator any more and is signed out.")
    finally:
        await database.close()
    return 0


def _machine() -> Actor:
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = f"uid {os.geteuid()}"
    return Actor(OPERATOR, f"{user} on {platform.node()}", "", "", is_operator=True)


def _show(found: list[OperatorOut], arguments: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = [each.model_dump(mode="json") for each in found]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        factor = "with a second factor" if row["second_factor"] else "WITHOUT a second factor"
        print(f"{row['email']}  since {row['since'][:10]}  {factor}")
    if not rows:
        print("there is no operator; `tailcut-server operator add EMAIL` makes one")
