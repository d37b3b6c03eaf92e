"""Usage records that could not be booked: looked at, booked after all, or dropped, by an operator.

Called by ``commands``. A record gets here when its checksum is wrong, when a newer gateway wrote it, or when nobody
ever owned its version (a database that was set back). How many there are is a metric of every gateway
(``tailcut_usage_dead_letters``) and a line in the log (``usage-dead-letters``).
"""

from collections.abc import Sequence
from typing import Final

import structlog

from control_plane.database import Database
from control_plane.models import UsageDeadLetter
from control_plane.usage import booking, hourly, repository
from gateway.contract.usage import Position

log = structlog.get_logger(__name__)

COUNT_MAX: Final = 10_000
"""Looked at in one go."""


async def find(database: Database, count_max: int = COUNT_MAX) -> Sequence[UsageDeadLetter]:
    async with database.reading() as session:
        return await repository.dead_letters(session, count_max)


async def retry(database: Database) -> tuple[int, int]:
    """→ how many were booked, how many stay. Each in a transaction of its own: booked and gone, or neither."""
    booked = kept = 0
    for letter in await find(database):
        if await _retry_one(database, letter):
            booked += 1
        else:
            kept += 1
    return booked, kept


async def drop(database: Database, letters: Sequence[tuple[str, Position]]) -> int:
    """→ how many there were. What is dropped is never billed; the log says what it was."""
    dropped = 0
    async with database.writing() as session:
        for stream, place in letters:
            if await repository.delete_dead_letter(session, stream, place):
                dropped += 1
                log.warning("usage-dead-letter-dropped", stream=stream, place=str(place))
    return dropped


async def _retry_one(database: Database, letter: UsageDeadLetter) -> bool:
    place = Position(letter.segment, letter.offset)
    version = booking.version_of(letter.slot)
    text = version.rstrip(b"\0").decode("ascii", "replace")
    async with database.writing() as session:
        owners = await repository.owners(session, [text])
        streams = await repository.streams(session, [letter.stream])
        if letter.stream not in streams:
            return False
        known = dict.fromkeys([version], owners[text]) if text in owners else {}
        booked = booking.book(streams[letter.stream].number, place, letter.slot, known)
        if booked.dead or not await repository.delete_dead_letter(session, letter.stream, place):
            return False
        await hourly.add(session, booking.hours_of(await repository.insert_records(session, booked.rows)))
    return True
