"""How far behind the books are, for the operator's pages and for alarms.

``lag(session, redis)`` is one SELECT and two commands to Redis, no work per record; ``booked_until`` is for those who
must wait until everything up to a moment is booked. Without Redis
(``redis`` None, or it does not answer) the nodes are unknown, and ``Lag.nodes`` is None: not the same as no lag.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.usage import repository
from gateway.contract.usage import LAG_KEY, SLOT_BYTES, NodeLag

AWAY_S: Final = 3600.0
"""A gateway that was silent for so long is not about to come back with calls that nobody knows of."""


@dataclass(frozen=True, slots=True)
class NodeState:
    node: str
    """8 hex digits: the first of every request id of that node."""
    seen_s_ago: float
    """Since its gateway last said this; some seconds at most while it lives and reaches Redis."""
    unbooked_bytes: int
    oldest_unbooked_s: float | None
    """Age of the oldest record that is not booked; None: everything is. Some seconds are usual."""
    journal_bytes: int
    full: bool
    """Its disk has no room for the journal: it refuses calls."""

    @property
    def unbooked_records(self) -> int:
        return self.unbooked_bytes // SLOT_BYTES


@dataclass(frozen=True, slots=True)
class Lag:
    nodes: list[NodeState] | None
    """By name; None: Redis did not answer."""
    dead_letters: int
    """Records that could not be booked: `tailcut-server usage-dead-letters list` shows them."""


async def lag(session: AsyncSession, redis: Redis | None) -> Lag:
    dead = await repository.dead_letters_count(session)
    return Lag(None if redis is None else await _nodes(redis), dead)


async def booked_until(redis: Redis, at: datetime) -> datetime | None:
    """All that arrived before this is in SQL, on every node; None: Redis did not answer.

    A node that has been away for long is left out when its journal was booked to its end; else it counts.
    """
    nodes = await _nodes(redis)
    if nodes is None:
        return None
    until = at
    for node in nodes:
        if node.oldest_unbooked_s is not None:
            until = min(until, at - timedelta(seconds=node.oldest_unbooked_s))
        elif node.seen_s_ago < AWAY_S:
            until = min(until, at - timedelta(seconds=node.seen_s_ago))
    return until


async def _nodes(redis: Any) -> list[NodeState] | None:
    try:
        found: dict[bytes, bytes] = await redis.hgetall(LAG_KEY)
    except (RedisError, OSError, TimeoutError):
        return None
    at = time.time()
    states = []
    for node, document in sorted(found.items()):
        try:
            said = NodeLag.model_validate_json(document)
        except ValidationError:
            continue  # another release's
        states.append(
            NodeState(
                node=node.decode("ascii", "replace"),
                seen_s_ago=max(0.0, at - said.at_unix_s),
                unbooked_bytes=said.unbooked_bytes,
                oldest_unbooked_s=None if said.oldest_unix_s is None else max(0.0, at - said.oldest_unix_s),
                journal_bytes=said.journal_bytes,
                full=said.full,
            )
        )
    return states
