"""``usage-dead-letters list | retry | drop``, for operators, whether or not a server runs. Called by ``__main__``."""

import argparse
import asyncio
import json
import sys
from typing import Any, Final

from control_plane.database import Database
from control_plane.models import UsageDeadLetter
from control_plane.settings import Settings
from control_plane.usage import dead_letters
from gateway.contract.usage import Position

NAME: Final = "usage-dead-letters"
EXIT_SOME_STAY: Final = 3


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(NAME, help="usage records that could not be booked")
    actions = parser.add_subparsers(dest="action", required=True)
    listed = actions.add_parser("list", help="show them (exit code 3: there are some)")
    listed.add_argument("--json", action="store_true", help="whole, with their bytes as hex")
    actions.add_parser("retry", help="book those that can be booked now (exit code 3: some stay)")
    drop = actions.add_parser("drop", help="delete one, or all, for good: they are never billed")
    drop.add_argument("place", nargs="*", metavar="STREAM SEGMENT OFFSET")
    drop.add_argument("--all", action="store_true")


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    return asyncio.run(_run(settings, arguments))


async def _run(settings: Settings, arguments: argparse.Namespace) -> int:
    database = Database(settings.effective_database_url)
    try:
        match arguments.action:
            case "list":
                return await _list(database, as_json=arguments.json)
            case "retry":
                booked, kept = await dead_letters.retry(database)
                print(f"{booked} booked, {kept} stay")
                return EXIT_SOME_STAY if kept else 0
            case _:
                return await _drop(database, arguments)
    finally:
        await database.close()


async def _list(database: Database, *, as_json: bool) -> int:
    found = await dead_letters.find(database)
    if as_json:
        print(json.dumps([_document(each) for each in found], indent=2))
    else:
        for each in found:
            print(f"{each.noted_at.isoformat()}  {each.stream} {each.segment} {each.offset}  {each.reason}")
        print(f"{len(found)} dead letters")
    return EXIT_SOME_STAY if found else 0


async def _drop(database: Database, arguments: argparse.Namespace) -> int:
    place: list[str] = arguments.place
    if arguments.all and not place:
        wanted = [(each.stream, Position(each.segment, each.offset)) for each in await dead_letters.find(database)]
    elif len(place) == 3 and not arguments.all and place[1].isdigit() and place[2].isdigit():
        wanted = [(place[0], Position(int(place[1]), int(place[2])))]
    else:
        print(f"{NAME} drop: say which (STREAM SEGMENT OFFSET, as `list` shows them) or --all", file=sys.stderr)
        return 2
    dropped = await dead_letters.drop(database, wanted)
    print(f"{dropped} dropped")
    return 0 if dropped == len(wanted) else 1


def _document(letter: UsageDeadLetter) -> dict[str, Any]:
    return {
        "stream": letter.stream,
        "segment": letter.segment,
        "offset": letter.offset,
        "reason": letter.reason,
        "noted_at": letter.noted_at.isoformat(),
        "slot": letter.slot.hex(),
    }
